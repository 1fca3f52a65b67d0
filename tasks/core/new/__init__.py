"""`doit new`: what can be found out about a base and a dataset, written as a recipe."""

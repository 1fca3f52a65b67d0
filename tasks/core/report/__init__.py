"""The page about a model's build: what it tells, and how it is drawn."""

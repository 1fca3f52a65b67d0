"""Environments in which foreign tools run."""

"""Servers, started by us or there already, and the models that they answer for."""

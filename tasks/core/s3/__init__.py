"""Buckets: looked into, and filled."""

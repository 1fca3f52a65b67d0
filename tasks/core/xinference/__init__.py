"""Xinference: its toolchain's lock, its REST API, the models that we register in it.

What its releases do beyond their documents was found with 4.1.0; comments say where it matters.
"""

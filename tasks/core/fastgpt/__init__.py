"""FastGPT: a model's entry, the file or database that keeps it, the containers around it."""

"""Two cheap stages and a dodo.py for them, so that the engine can be tried by killing it."""

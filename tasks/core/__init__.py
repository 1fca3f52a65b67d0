"""What every stage needs and no stage owns."""

import atexit
import gc
import os

# pydantic would look for plug-ins in all that is installed, a tenth of the time of `doit list`.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# What is loaded stays, to the end: looking for garbage in it, and freeing what is part of a cycle
# when all is over, took a fifth of that time.
gc.set_threshold(200_000)
atexit.register(gc.freeze)

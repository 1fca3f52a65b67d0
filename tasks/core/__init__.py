"""What every stage needs and no stage owns."""

import gc
import os

# pydantic would look for plug-ins in all that is installed, a tenth of the time of `doit list`.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# What is loaded stays; looking for garbage after every 700 objects took a twentieth of that time.
gc.set_threshold(50_000)

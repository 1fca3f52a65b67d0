"""What every stage needs and no stage owns."""

import os

# pydantic would look for plug-ins in all that is installed, a tenth of the time of `doit list`.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

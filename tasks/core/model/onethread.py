"""numpy with products on one thread each: the threads are ours, and so is the order of sums.

Import numpy from here, never by itself.  The programs that we start do not inherit this.
"""

from __future__ import annotations

import os

_NAMES = [f"{library}_NUM_THREADS" for library in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM")]
_before = {name: os.environ.get(name) for name in _NAMES}
os.environ.update(dict.fromkeys(_NAMES, "1"))

import numpy as np  # noqa: E402  # it reads these when it is loaded
from numpy.typing import NDArray  # noqa: E402

for _name, _value in _before.items():
    if _value is None:
        del os.environ[_name]
    else:
        os.environ[_name] = _value

__all__ = ["NDArray", "np"]

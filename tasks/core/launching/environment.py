"""Which variables training finds in its environment, here and on other hosts."""

from __future__ import annotations

import os
import re
import shlex
from fnmatch import fnmatchcase

from .. import settings
from ..engine import pools
from ..errors import UserError

# What another host may see of our environment: where things are and how devices talk.  All else
# stays here, first of all tokens and passwords.
PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR"),
    *("LD_LIBRARY_PATH", "SLURM_CONF", "SBATCH_*", "MODULEPATH", "MODULESHOME", "LMOD_*"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("HF_HOME", "HF_ENDPOINT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("NCCL_*", "RCCL_*", "HCCL_*", "GLOO_*", "UCX_*", "TORCH_*", "OMP_*"),
    *("CUDA_*", "HIP_*", "HSA_*", "ROCM_*", "MIOPEN_*", "ASCEND_*"),
)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def given() -> dict[str, str]:
    """Return the variables that the settings give to training.

    Raises:
        UserError: the setting is no list of NAME=value and NAME.
    """
    found = {}
    for word in _words():
        name, sign, value = word.partition("=")
        if not NAME.fullmatch(name):
            where = settings.current().where("launcher_environ")
            raise UserError(f"{where}: '{name}' is no name of a variable; say NAME=value or NAME")
        if sign or name in os.environ:
            found[name] = value if sign else os.environ[name]
    return found


def passed() -> dict[str, str]:
    """Return the environment for another host: what it may see of ours, and what is given.

    Which devices a process sees there, that host's scheduler says.
    """
    ours = {
        name: value
        for name, value in os.environ.items()
        if name not in pools.VARIABLES and any(fnmatchcase(name, each) for each in PASSED)
    }
    return {**ours, **given()}


def _words() -> list[str]:
    try:
        return shlex.split(settings.current().launcher_environ)
    except ValueError as error:
        where = settings.current().where("launcher_environ")
        raise UserError(f"{where}: {error}; quote it as in a shell") from None

"""Where things are and with which credentials: environment, `.env`, settings.yaml.

A setting MODELWRIGHT_S3_ENDPOINT is `s3: {endpoint: ...}` or `s3_endpoint: ...` in settings.yaml.
The environment wins over `.env`, which wins over settings.yaml.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from . import yamlfile
from .errors import LoadError, nearest

PREFIX = "MODELWRIGHT_"


@dataclass(frozen=True)
class Settings:
    """One field per variable; see docs/settings.md.

    Attributes:
        recipes: the folder of recipes.
        build: the folder of results.
        default: the model that plain `doit` builds.
        python: the Python that ./doitw makes .venv with; nothing else reads it.
        toolchain_xtuner: an interpreter that has xtuner, used instead of our own toolchain.
        store: the folder of the local store; empty for one in the build folder.
        store_limit: how much of the disk the store may take for itself.
        store_s3: a store that a team shares, `s3://bucket/prefix` on the S3 server.
        torch: which build of torch a toolchain gets: cpu, cuda or auto.
        pools_gpu: how many GPUs stages may share; those that there are if it is not set.
        registry: where images are pushed, `host[:port][/prefix]`.
        registry_ca: a PEM file of a CA that registries' certificates may come from.
        registry_insecure: registries, by host[:port] and divided by commas, that may speak plain
            http or show any certificate; on the loopback plain http is always allowed.
        fastgpt_dir: the folder that holds FastGPT's config.json.
        s3_endpoint: the S3 server, with its scheme; the keys and the region are for it.
    """

    recipes: str = "recipes"
    build: str = "build"
    default: str = "tiny-agent"
    python: str = ""
    toolchain_xtuner: str = ""
    torch: str = "auto"
    pools_gpu: str = ""
    store: str = ""
    store_limit: str = "100GB"
    store_s3: str = ""
    registry: str = ""
    registry_ca: str = ""
    registry_insecure: str = ""
    fastgpt_dir: str = ""
    s3_endpoint: str = ""
    s3_access_key: str = field(default="", repr=False)
    s3_secret_key: str = field(default="", repr=False)
    s3_session_token: str = field(default="", repr=False)
    s3_region: str = "us-east-1"
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def where(self, name: str) -> str:
        """Return where a setting was given, for messages."""
        return self.sources.get(name, f"default of {PREFIX}{name.upper()}")


NAMES = tuple(f.name for f in fields(Settings) if f.name != "sources")


@functools.cache
def current() -> Settings:
    """Return the settings of this process, read once."""
    return read(os.environ, Path(".env"), Path("settings.yaml"))


def read(environ: Mapping[str, str], dotenv: Path, yaml: Path) -> Settings:
    """Return the settings found in the environment and the two files.

    Raises:
        LoadError: a name that is no setting, or a file that cannot be read.
    """
    values: dict[str, str] = {}
    sources: dict[str, str] = {}
    faults = []
    found = [*_from_yaml(yaml), *_from_dotenv(dotenv), *_from_environment(environ)]
    for name, value, where in found:
        if name not in NAMES:
            faults.append(f"{where}: unknown setting{nearest(name, NAMES)}")
        values[name], sources[name] = value, where
    if faults:
        raise LoadError(faults)
    # An empty value is the default: an empty MODELWRIGHT_BUILD would else be the project itself.
    return Settings(**{name: value for name, value in values.items() if value}, sources=sources)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for variable, value in environ.items():
        if variable.startswith(PREFIX):
            yield variable.removeprefix(PREFIX).lower(), value, variable


def _from_dotenv(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield NAME=value lines; other programs' variables in the file are not ours to judge."""
    if not path.exists():
        return
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LoadError([f"{path}: byte {error.start}: not UTF-8; save it as UTF-8"]) from None
    except OSError as error:
        raise LoadError([f"{path}: {error.strerror}"]) from None
    for number, line in enumerate(text.splitlines(), 1):
        variable, sign, value = line.strip().removeprefix("export ").partition("=")
        if sign and variable.strip().startswith(PREFIX):
            name = variable.strip().removeprefix(PREFIX).lower()
            yield name, value.strip().strip("\"'"), f"{path}:{number}: {variable.strip()}"


def _from_yaml(path: Path) -> Iterator[tuple[str, str, str]]:
    if not path.exists():
        return
    content, lines = yamlfile.load(path)
    if not isinstance(content, dict | None):
        raise LoadError([f"{path}: expected `name: value` lines"])
    for at, value in _leaves(content or {}, ()):
        text = (
            ""
            if value is None
            else str(value).lower()
            if value is True or value is False
            else str(value)
        )
        yield "_".join(map(str, at)), text, f"{path}:{lines.get(at, 1)}: {'.'.join(map(str, at))}"


def _leaves(value: Any, at: yamlfile.KeyPath) -> Iterator[tuple[yamlfile.KeyPath, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*at, key))
    else:
        yield at, value

"""Where things are and with which credentials: environment, `.env`, settings.yaml.

A setting MODELWRIGHT_S3_ENDPOINT is `s3: {endpoint: ...}` or `s3_endpoint: ...` in settings.yaml.
The environment wins over `.env`, which wins over settings.yaml.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import forms, textfile
from .engine import untouched
from .errors import LoadError, nearest

if TYPE_CHECKING:
    from . import yamlfile

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
        toolchain_xinference: the same for Xinference.
        toolchain_vllm: an interpreter that has vLLM; there is no toolchain of ours for it.
        store: the folder of the local store; empty for one in the build folder.
        store_limit: how much of the disk the store may take for itself.
        store_s3: a store that a team shares, `s3://bucket/prefix` on the S3 server.
        torch: which build of torch a toolchain gets: cpu, cuda or auto.
        pools_gpu: how many GPUs stages may share; those that there are if it is not set.
        devices: the GPUs that training will run on, such as `4 x 80 GB H100`, or none; as the
            driver tells if it is not set.
        force: 1 lets a training start that does not fit by our estimate.
        pools_variable: the variable that shows a process its devices; by the vendor.
        launcher: what starts training: local, torchrun (on several hosts) or slurm.
        launcher_environ: variables that training gets, `NAME=value NAME ...` as a shell has them.
        rendezvous_host, rendezvous_port: where the processes of several hosts find each other.
        node_rank: the number of the host that the build runs on, among those of torchrun.
        slurm_partition, slurm_account: as sbatch has them.
        slurm_gres: what Slurm calls a device; `none` for processors.
        slurm_options: further options of sbatch.
        registry: where images are pushed, `host[:port][/prefix]`.
        registry_ca: a PEM file of a CA that registries' certificates may come from.
        registry_insecure: registries, by host[:port] and divided by commas, that may speak plain
            http or show any certificate; on the loopback plain http is always allowed.
        evaluate_endpoint: a server by OpenAI's protocol that is asked for `evaluate.served`.
        evaluate_api_key: the key that it wants.
        gateway_kind: oneapi, newapi or aiproxy.
        gateway_endpoint: the gateway, with its scheme and port.
        gateway_token: an administrator's access token; for aiproxy its ADMIN_KEY.
        gateway_user: a user to log in as; with a token of new-api, the id of its user.
        gateway_password: that user's password.
        gateway_key: a key that clients of the gateway show, to chat as they do.
        gateway_upstream: where the gateway reaches the model's server; as we do if it is empty.
        gateway_upstream_key: the key that the model's server wants from the gateway.
        fastgpt_dir: the folder that holds FastGPT's config.json and compose file.
        fastgpt_endpoint: FastGPT, with its scheme and port.
        fastgpt_key: the key of one of its applications, to chat through it.
        fastgpt_password: the password of its user root.
        fastgpt_root_key: its ROOT_KEY.
        s3_endpoint: the S3 server, with its scheme; the keys and the region are for it.
        serve_run: how a server is run where no endpoint is set: local or docker.
        serve_bind, serve_port: where a server that we start listens; the port is its usual one.
        serve_network: the Docker network that its container joins; host for no network of its own.
        serve_devices: the GPUs that it may use, by number and divided by commas.
        serve_timeout: how many seconds a server or a model may take to start.
        xinference_endpoint: an Xinference that is there already.
        xinference_user, xinference_password: who may register and launch models in it.
        xinference_api_key: what chats show; it may neither register nor launch.
        xinference_models: the build folder as that server sees it.
        xinference_image: the image of a container that we start.
        vllm_endpoint, vllm_api_key: a vLLM that is there already, and its key.
    """

    recipes: str = "recipes"
    build: str = "build"
    default: str = "tiny-agent"
    python: str = ""
    toolchain_xtuner: str = ""
    toolchain_xinference: str = ""
    toolchain_vllm: str = ""
    torch: str = "auto"
    devices: str = ""
    force: str = ""
    pools_gpu: str = ""
    pools_variable: str = ""
    launcher: str = "local"
    launcher_environ: str = field(default="", repr=False)
    rendezvous_host: str = ""
    rendezvous_port: str = ""
    node_rank: str = "0"
    slurm_partition: str = ""
    slurm_account: str = ""
    slurm_gres: str = "gpu"
    slurm_options: str = ""
    store: str = ""
    store_limit: str = "100GB"
    store_s3: str = ""
    registry: str = ""
    registry_ca: str = ""
    registry_insecure: str = ""
    evaluate_endpoint: str = ""
    evaluate_api_key: str = field(default="", repr=False)
    gateway_kind: str = "oneapi"
    gateway_endpoint: str = ""
    gateway_token: str = field(default="", repr=False)
    gateway_user: str = ""
    gateway_password: str = field(default="", repr=False)
    gateway_key: str = field(default="", repr=False)
    gateway_upstream: str = ""
    gateway_upstream_key: str = field(default="", repr=False)
    fastgpt_dir: str = ""
    fastgpt_endpoint: str = ""
    fastgpt_key: str = field(default="", repr=False)
    fastgpt_password: str = field(default="", repr=False)
    fastgpt_root_key: str = field(default="", repr=False)
    s3_endpoint: str = ""
    s3_access_key: str = field(default="", repr=False)
    s3_secret_key: str = field(default="", repr=False)
    s3_session_token: str = field(default="", repr=False)
    s3_region: str = "us-east-1"
    serve_run: str = "local"
    serve_bind: str = "127.0.0.1"
    serve_port: str = ""
    serve_network: str = ""
    serve_devices: str = ""
    serve_timeout: str = "1800"
    xinference_endpoint: str = ""
    xinference_user: str = ""
    xinference_password: str = field(default="", repr=False)
    xinference_api_key: str = field(default="", repr=False)
    xinference_models: str = ""
    xinference_image: str = "xprobe/xinference:v4.1.0"
    vllm_endpoint: str = ""
    vllm_api_key: str = field(default="", repr=False)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def secrets(self) -> list[str]:
        """The values that no message may hold."""
        hidden = (getattr(self, each.name) for each in fields(self) if not each.repr)
        return [value for value in hidden if value and isinstance(value, str)]

    def where(self, name: str) -> str:
        """Return where a setting was given, for messages."""
        return self.sources.get(name, f"default of {PREFIX}{name.upper()}")


NAMES = tuple(f.name for f in fields(Settings) if f.name != "sources")
# Messages, logs and manifests name these, so none may hold a password; with what does instead.
ADDRESSES = {
    **{name: "it has a setting of its own" for name in NAMES if name.endswith("_endpoint")},
    "gateway_upstream": "the key that it wants is MODELWRIGHT_GATEWAY_UPSTREAM_KEY",
    "registry": "`docker login` keeps them for us, too",
    "registry_insecure": "`docker login` keeps them for us, too",
    "s3_endpoint": "the keys are MODELWRIGHT_S3_ACCESS_KEY and MODELWRIGHT_S3_SECRET_KEY",
    "store_s3": "the keys are MODELWRIGHT_S3_ACCESS_KEY and MODELWRIGHT_S3_SECRET_KEY",
}


@functools.cache
def current() -> Settings:
    """Return the settings of this process, read once."""
    return read(os.environ, Path(".env"), Path("settings.yaml"))


def read(environ: Mapping[str, str], dotenv: Path, yaml: Path) -> Settings:
    """Return the settings found in the environment and the two files.

    Raises:
        LoadError: a name that is no setting, a value that cannot be one, an address with a
            password, or a file that cannot be read.
    """
    values: dict[str, str] = {}
    sources: dict[str, str] = {}
    faults = []
    found = [*_from_yaml(yaml), *_from_dotenv(dotenv), *_from_environment(environ)]
    for name, value, where in found:
        if name not in NAMES:
            faults.append(f"{where}: unknown setting{nearest(name, NAMES)}")
        if name in ADDRESSES and "@" in value:
            faults.append(f"{where}: take user and password out of the address; {ADDRESSES[name]}")
        values[name], sources[name] = value, where
    for name, value in values.items():
        if form := forms.wanted(name, value):
            faults.append(f"{sources[name]}: '{value}' should be {form}")
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
    untouched.saw(path)
    if not path.exists():
        return
    for number, line in enumerate(textfile.read(path).splitlines(), 1):
        variable, sign, value = line.strip().removeprefix("export ").partition("=")
        if sign and variable.strip().startswith(PREFIX):
            name = variable.strip().removeprefix(PREFIX).lower()
            yield name, value.strip().strip("\"'"), f"{path}:{number}: {variable.strip()}"


def _from_yaml(path: Path) -> Iterator[tuple[str, str, str]]:
    untouched.saw(path)
    if not path.exists():
        return
    from . import yamlfile

    try:
        content, lines = yamlfile.load(path)
    except LoadError as error:
        # What is quoted of the file may be a password.
        raise LoadError([re.sub(r"'[^']*'", "'...'", str(error))]) from None
    if not isinstance(content, dict | None):
        raise LoadError([f"{path}: expected `name: value` lines"])
    for at, value in _leaves(content or {}, ()):
        where = f"{path}:{lines.get(at, 1)}: {'.'.join(map(str, at))}"
        yield "_".join(map(str, at)), _spelled(value), where


def _spelled(value: Any) -> str:
    """Return a value as the environment would have it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _leaves(value: Any, at: yamlfile.KeyPath) -> Iterator[tuple[yamlfile.KeyPath, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*at, key))
    else:
        yield at, value

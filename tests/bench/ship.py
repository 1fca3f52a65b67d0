"""Time a `doit ship` that changes nothing.

    python -m tests.bench.ship FOLDER [PYTHON]

FOLDER gets a recipe of the default recipe's base and its results.  Xinference, One API and FastGPT
are stand-ins with logins; with PYTHON, an interpreter that has Xinference, that one is real.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

import httpx

from tasks.core import paths
from tests.conftest import doit
from tests.services import fastgpt, oneapi, xinference
from tests.services.fastgpt import FastGPT
from tests.services.oneapi import OneApi
from tests.services.process import free_port

RECIPE = "base: {path: base}\nserve: {name: m}\ngateway: {}\napp: {fastgpt: {}}\n"
PASSWORD, ROUNDS = "password-of-a-bench", 5


def main(folder: Path, interpreter: str = "") -> None:
    """Ship once, then again and again; print the seconds."""
    place = folder / "recipes/m/base"
    place.mkdir(parents=True)
    for path in (paths.ROOT / "recipes/tiny-agent/base").iterdir():
        (place / path.name).symlink_to(path)
    (folder / "recipes/m.yaml").write_text(RECIPE)
    gateway, app = OneApi(), FastGPT("4.15.1")
    options = {"XINFERENCE_USER": "admin", "XINFERENCE_PASSWORD": PASSWORD}
    with gateway.running(), app.running(), xinference.running() as served:
        served.wants_login, served.users, served.keys = True, {"admin": PASSWORD}, {"xf-key"}
        options |= {"GATEWAY_ENDPOINT": gateway.url, "GATEWAY_TOKEN": oneapi.TOKEN}
        options |= {"FASTGPT_ENDPOINT": app.url, "FASTGPT_PASSWORD": fastgpt.PASSWORD}
        port = free_port()
        if interpreter:
            options |= {"SERVE_PORT": str(port), "TOOLCHAIN_XINFERENCE": interpreter}
            run(folder, options, "serve:m")
            options["XINFERENCE_API_KEY"] = key(f"http://127.0.0.1:{port}")
        else:
            options |= {"XINFERENCE_ENDPOINT": served.url, "XINFERENCE_API_KEY": "xf-key"}
        try:
            print(f"first  {run(folder, options, 'ship:m'):.2f} s")
            found = sorted(run(folder, options, "ship:m") for _ in range(ROUNDS))
            print(f"again  {statistics.median(found):.2f} s, {found[0]:.2f} to {found[-1]:.2f}")
            print(f"plan   {run(folder, options, 'plan', 'ship:m'):.2f} s")
            print(f"load   {os.getloadavg()[0]:.1f}")
        finally:
            run(folder, options, "unship:m")


def run(folder: Path, options: dict[str, str], *words: str) -> float:
    """Run doit; return the seconds."""
    environ = {f"MODELWRIGHT_{name}": value for name, value in options.items()}
    started = time.monotonic()
    done = doit(*words, build=folder / "build", recipes=folder / "recipes", **environ)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.monotonic() - started


def key(url: str) -> str:
    """Return a new API key of the account, which a gateway needs."""
    login = {"username": "admin", "password": PASSWORD}
    token = httpx.post(f"{url}/token", json=login).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    made = httpx.post(f"{url}/v1/admin/keys", json={"name": "bench"}, headers=headers)
    return str(made.json()["key"])


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), *sys.argv[2:])

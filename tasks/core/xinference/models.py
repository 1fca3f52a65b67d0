"""One model in an Xinference: registered, running, as asked; or neither.

What is there is asked first, and only what differs is done: a model that runs on the registration
that we would make is left alone.  A registration bears a mark (registration.py), and what bears no
mark of this model is never touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .. import console, paths, settings
from ..engine.manifest import Manifest
from ..errors import UserError
from ..recipe import Recipe, present
from ..serving import daemon
from ..serving.serving import Place
from . import registering, registration
from .client import Client
from .registering import Values


def launch_values(recipe: Recipe, at: Place, spec: Mapping[str, Any]) -> Values:
    """Return the body of the request that launches the model.

    Args:
        spec: the registration's only model_spec.
    """
    asked = present(recipe.serve)
    names = ("model_format", "model_size_in_billions", "quantization")
    devices = [int(d) for d in settings.current().serve_devices.split(",") if d.strip().isdigit()]
    return {
        "model_uid": asked.name or recipe.name,
        "model_name": registration.model_name(recipe),
        "model_type": "LLM",
        "model_engine": asked.engine,
        **{name: spec[name] for name in names},
        "replica": asked.replicas,
        "n_gpu": asked.gpus,
        # In a container they are the only ones, and have other numbers.
        **({"gpu_idx": devices} if devices and at.way != "docker" else {}),
    }


def with_adapters(recipe: Recipe, uris: Sequence[str]) -> Values:
    """Return what a launch needs beside its values for adapters on top of the base.

    It stays out of the facts, as it holds paths; the adapter's content is in the mark.
    """
    found = [{"lora_name": recipe.name, "local_path": uri} for uri in uris]
    return {"peft_model_config": {"lora_list": found}} if found else {}


def bring(there: Client, recipe: Recipe, wanted: Values, launch: Values, old: Values) -> None:
    """Make the server have a registration and run a model on it.

    Args:
        wanted: the registration, with its mark.
        old: the facts of the last run: what it launched, and how.

    Raises:
        UserError: a name is taken, or the server refuses; its words are in it.
    """
    uid, name = launch["model_uid"], launch["model_name"]
    if old.get("uid", uid) != uid:
        _terminate(there, recipe, old)
    if old.get("model_name", name) != name:
        _unregister(there, recipe, old)
    running = there.running(uid)
    if running and not _is_ours(running, recipe, old):
        other = registration.cure(running.get("model_description"), recipe)
        raise there.fault(
            f"another model runs as '{uid}' ({running.get('model_name')}), and is left alone; give "
            f"this one another name as `serve.name` in {recipe.file}{other}"
        )
    kept = registering.register(there, recipe, wanted, old.get("registration", ""))
    if running:
        same = running.get("model_description") == wanted["model_description"]
        told = {key: value for key, value in launch.items() if key != "peft_model_config"}
        if kept and same and _is_alike(running, launch) and old.get("launch", told) == told:
            return
        there.terminate(uid)
    console.status(f"launching {uid}")
    there.launch(**launch)
    console.clear()
    console.say(f"   {uid} launched with {launch['model_engine']}")


def drift(there: Client, facts: Mapping[str, Any]) -> str:
    """Return what is no longer as a run left it, or nothing."""
    found = there.registration(facts["model_name"])
    if not found:
        return f"{facts['model_name']} is not registered"
    running = there.running(facts["uid"])
    if not running:
        return f"{facts['uid']} is not running"
    told = {found.get("model_description"), running.get("model_description")}
    if told != {facts["registration"]} or not _is_alike(running, facts["launch"]):
        return f"{facts['uid']} is not the model that was launched"
    return ""


def remove(there: Client, recipe: Recipe, receipt: Manifest | None) -> list[str]:
    """Take away the model and its registration; return a line on each thing.

    Raises:
        UserError: the last run made one, and yet it bears another recipe's mark.
    """
    facts = receipt.facts if receipt else {}
    asked = present(recipe.serve)
    uid = facts.get("uid") or asked.name or recipe.name
    name = facts.get("model_name") or registration.model_name(recipe)
    lines, running, registered = [], there.running(uid), there.registration(name)
    _refuse_another_owner(running, f"model '{uid}'", recipe, receipt)
    _refuse_another_owner(registered, f"registration '{name}'", recipe, receipt)
    if _is_made(running, recipe, facts):
        there.terminate(uid)
        lines.append(f"model {uid} ended")
    if _is_made(registered, recipe, facts):
        there.unregister(name)
        lines.append(f"registration {name} removed")
    return lines


def forget(at: Place, recipe: Recipe, receipt: Manifest | None) -> list[str]:
    """Take the registration away from a server of ours that does not run; it keeps a file of it."""
    facts = receipt.facts if receipt else {}
    name = facts.get("model_name") or registration.model_name(recipe)
    lines = []
    for path in (daemon.folder(at.name) / "home/model").glob(f"*/llm/{name}.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        _refuse_another_owner(found, f"registration '{name}'", recipe, receipt)
        if _is_made(found, recipe, facts):
            path.unlink()
            lines.append(f"registration {name} removed")
    return lines


def _is_alike(running: Mapping[str, Any], launch: Mapping[str, Any]) -> bool:
    """Return whether a running model is as it was to be launched, by what its server tells."""
    pairs = [(running.get(key), launch[key]) for key in ("replica", "model_engine", "model_name")]
    return all(str(told).lower() == str(meant).lower() for told, meant in pairs if told is not None)


def _is_made(found: Mapping[str, Any] | None, recipe: Recipe, facts: Mapping[str, Any]) -> bool:
    """Return whether a registration or a running model is what the last run made."""
    told = (found or {}).get("model_description")
    return _is_ours(found, recipe, facts) and told == facts.get("registration", told)


def _is_ours(found: Mapping[str, Any] | None, recipe: Recipe, facts: Mapping[str, Any]) -> bool:
    """Return whether a registration or a running model is this recipe's, of any run."""
    told = (found or {}).get("model_description")
    return registration.is_ours(told, recipe, facts.get("registration", ""))


def _refuse_another_owner(
    found: Mapping[str, Any] | None, what: str, recipe: Recipe, receipt: Manifest | None
) -> None:
    """Refuse to forget what the last run made and another recipe's mark is on: ours may be lost.

    Raises:
        UserError: it is so.
    """
    told = (found or {}).get("model_description")
    if receipt and registration.has_another_owner(told, recipe):
        raise UserError(
            f"Xinference: {what} stays, as it bears another recipe's mark; if it is not this "
            f"recipe's, delete {paths.manifest(recipe.name, 'serve')}"
            f"{registration.cure(told, recipe)}"
        )


def _terminate(there: Client, recipe: Recipe, old: Values) -> None:
    if _is_ours(there.running(old["uid"]), recipe, old):
        there.terminate(old["uid"])


def _unregister(there: Client, recipe: Recipe, old: Values) -> None:
    if _is_ours(there.registration(old["model_name"]), recipe, old):
        there.unregister(old["model_name"])

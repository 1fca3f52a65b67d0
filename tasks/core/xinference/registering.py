"""A registration in an Xinference, and on disk for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import console
from ..recipe import Recipe
from ..serving.serving import Place
from ..web.api import Answer
from . import registration, server
from .client import Client

Values = dict[str, Any]


def write(folder: Path, wanted: Values, weights: Path) -> None:
    """Write the registration for people, with the model where compose.yaml mounts it."""
    uri = server.uri(Place(server.KIND, "docker", ""), weights)
    specs = [{**spec, "model_uri": uri} for spec in wanted["model_specs"]]
    shown = {**wanted, "model_specs": specs}
    forms = {"registration": shown, "registration.v1": registration.version1(shown)}
    for name, content in forms.items():
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def register(there: Client, recipe: Recipe, wanted: Values, left: str) -> bool:
    """Have a registration; return whether it was there already.

    Args:
        wanted: the registration, with its mark.
        left: the mark that the last run left.

    Raises:
        UserError: the name is taken, or the server refuses; its words are in it.
    """
    name = wanted["model_name"]
    found = there.registration(name)
    if found:
        if not registration.is_ours(found.get("model_description"), recipe, left):
            what = "built in" if found.get("is_builtin") else "registered by others"
            other = registration.cure(found.get("model_description"), recipe)
            raise there.fault(
                f"a model '{name}' is {what}, and is left alone; give this one another name as "
                f"`serve.model_name` in {recipe.file}{other}"
            )
        keys = ("model_description", "chat_template")
        if all(found.get(key) == wanted[key] for key in keys) and _uri(found) == _uri(wanted):
            return True
        there.unregister(name)
    answer = there.register(json.dumps(wanted, ensure_ascii=False))
    if answer.status >= 400 and "version" in there.said(answer):
        answer = there.register(json.dumps(registration.version1(wanted), ensure_ascii=False))
    if answer.status >= 400:
        raise there.fault(
            f"'{name}' is not registered: {there.said(answer)}{_cure(there, answer, recipe)}"
        )
    console.say(f"   {name} registered")
    return False


def _cure(there: Client, answer: Answer, recipe: Recipe) -> str:
    words = there.said(answer)
    if "URI" in words:
        return (
            "; the server does not see the model's folder: say where it has the build folder as "
            "MODELWRIGHT_XINFERENCE_MODELS"
        )
    if "model_family" in words:
        return f"; give one of these as `serve.family` in {recipe.file}"
    if answer.status in (401, 403):
        return f"; {there.who_may()}"
    return ""


def _uri(spec: Mapping[str, Any]) -> Any:
    return spec["model_specs"][0].get("model_uri")

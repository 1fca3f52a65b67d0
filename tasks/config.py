"""Render the xtuner config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core import console, paths, render
from .core.engine import manifest
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.recipe import Recipe, present
from .core.sections import Train

if TYPE_CHECKING:
    from .core.preset import Choice

VERSION = 1
TEMPLATE = "xtuner_config.py.j2"


def wanted(recipe: Recipe) -> bool:
    """Return whether the recipe trains."""
    return recipe.train is not None


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"{template(recipe)} -> config.py",
        "file_dep": [*_shape(recipe), *render.with_included(template(recipe))],
        "targets": ["config.py"],
    }


def settle(recipe: Recipe) -> None:
    """Refuse to render over a config that somebody edited by hand.

    Raises:
        UserError: the one that is there is not as it was rendered.
    """
    receipt = manifest.of(recipe.name, "config")
    path = paths.output(recipe.name, "config") / "config.py"
    if receipt and path.is_file() and not manifest.intact(receipt, path.parent):
        raise UserError(
            f"{path} was edited by hand, and would be rendered over: say it in {recipe.file} or in "
            "a template of its own (train.template), then delete the edited file"
        )


def key(recipe: Recipe) -> dict[str, Any]:
    """Return the values that are rendered, and what a preset looks at.

    That is the devices, and which values the recipe says itself, be they the defaults.
    """
    texts = ["data.format"] if _has_texts(recipe) else []
    train = present(recipe.train)
    interval = {"train.log_interval": _logged(train).log_interval}
    values = {**recipe.slice("train", "base.trust_remote_code", *texts), **interval}
    if not train.preset:
        return values
    from .core import preset
    from .core.preset import devices

    said = [*train.model_fields_set, *(f"launch.{name}" for name in train.launch.model_fields_set)]
    more = {"devices": str(devices.found()), "said": sorted(said), **preset.key(recipe)}
    return {**values, **more}


def _shape(recipe: Recipe) -> list[Path]:
    """Return what tells a preset the model's size."""
    return [paths.manifest(recipe.name, "base")] if present(recipe.train).preset else []


def template(recipe: Recipe) -> Path:
    """Return the template: the recipe's own, or ours."""
    own = present(recipe.train).template
    return recipe.beside(own) if own else paths.TEMPLATES / TEMPLATE


def variables(recipe: Recipe, choice: Choice | None = None) -> dict[str, Any]:
    """Return what the template is filled with.

    Args:
        choice: how it will train; as the recipe and its preset say if it is not given.
    """
    from .core import preset

    choice = choice or preset.choice(recipe)
    train = _logged(choice.train)
    return {
        "source": f"{recipe.file.parent.name}/{recipe.file.name}",
        "train": train,
        "fast": choice.fast,
        "reasons": choice.reasons,
        "has_texts": _has_texts(recipe),
        "trust_remote_code": recipe.base.trust_remote_code,
        # xtuner is started in build/<model>, so that no config depends on where that is.
        "base_path": "./base",
        "data_path": "./convert",
        "warmup_iters": warmup(train),
    }


def _logged(train: Train) -> Train:
    """Return a training that logs an iteration at least, however short it is."""
    interval = min(train.log_interval, train.max_iters or train.log_interval)
    return train.model_copy(update={"log_interval": interval})


def warmup(train: Train) -> int | None:
    """Return the iterations of warm-up: two at least, or mmengine never leaves the first value."""
    if train.max_iters is None:
        return None
    return max(2, min(round(train.warmup_ratio * train.max_iters), train.max_iters - 1))


def meaning(recipe: Recipe) -> dict[str, Any]:
    """Return the variables with all that cannot change the weights at rest.

    Two configs that differ only in what is silent here train the same model.  What a preset makes
    of a machine's devices is silent, too: a colleague's result stands for ours.
    """
    from .core import preset

    defaults = {name: Train.model_fields[name].default for name in Train.silent}
    choice = preset.nominal(present(recipe.train))
    quiet = choice.train.model_copy(update=defaults)
    return {**variables(recipe, choice), "train": quiet, "source": ""}


def forecast(recipe: Recipe) -> str:
    """Return what the config will mean; rendering needs nothing but the recipe."""
    return manifest.digest_of(_rendered(recipe, meaning(recipe)))


def run(recipe: Recipe, folder: Path) -> Facts:
    """Render the config; its content, for the stages after, is what it means."""
    from .core import preset

    if present(recipe.train).max_iters in (1, 2):
        raise UserError(f"{recipe.file}: train.max_iters: warm-up alone takes two; say 3 or more")
    choice = preset.choice(recipe)
    for reason in choice.reasons:
        console.say(f"   {reason}")
    text = _rendered(recipe, variables(recipe, choice))
    (folder / "config.py").write_text(text, encoding="utf-8")
    return {"content": forecast(recipe)}


def _rendered(recipe: Recipe, values: dict[str, Any]) -> str:
    own = present(recipe.train).template
    text = render.own_text(recipe.beside(own), **values) if own else render.text(TEMPLATE, **values)
    try:
        compile(text, "config.py", "exec")
    except SyntaxError as error:
        raise UserError(
            f"{template(recipe)}: renders no Python: line {error.lineno} of the result: {error.msg}"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{template(recipe)}: renders no Python: {error}") from None
    return text


def _has_texts(recipe: Recipe) -> bool:
    """Return whether the data is plain text, which no prompt template goes around."""
    return recipe.data is not None and recipe.data.format == "text"

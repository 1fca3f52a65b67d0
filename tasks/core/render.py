"""The one Jinja2 environment: sandboxed, strict, deterministic."""

from __future__ import annotations

import functools
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import paths
from .engine import digests
from .errors import UserError

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

INCLUDED = re.compile(r"{%[-+]?\s*(?:include|extends|import|from)\s+[\"']([^\"']+)[\"']")


def text(template: str, **variables: Any) -> str:
    """Return a template of ours with its variables filled in."""
    return _render(paths.ROOT / paths.TEMPLATES, template, variables)


def own_text(template: Path, **variables: Any) -> str:
    """Return a recipe's own template, filled in; it may extend or include ours.

    Raises:
        UserError: the template is broken or asks for a variable that there is not.
    """
    return _render(template.parent, template.name, variables)


def with_included(template: Path) -> list[Path]:
    """Return a template and all that it includes, extends or imports, which are inputs as well."""
    found, left = [], [template]
    while left:
        path = left.pop()
        if path in found or not path.is_file():
            continue
        found.append(path)
        for name in _names_in(path, digests.state_of(path)):
            places = (template.parent / name, paths.TEMPLATES / name)
            left += [place for place in places if place.is_file()][:1]
    return found or [template]


# Every recipe asks for the same templates.
@functools.cache
def _names_in(path: Path, state: digests.State) -> list[str]:
    return INCLUDED.findall(path.read_text(encoding="utf-8", errors="replace"))


def _render(folder: Path, template: str, variables: dict[str, Any]) -> str:
    from jinja2 import TemplateError, TemplateNotFound, TemplateSyntaxError

    path = folder / template
    try:
        return _environment(folder).get_template(template).render(variables)
    except TemplateSyntaxError as error:
        raise UserError(f"{error.filename or path}:{error.lineno}: {error.message}") from None
    except TemplateNotFound as error:
        raise UserError(f"{path}: no template {error.name}; correct the name") from None
    except TemplateError as error:
        raise UserError(f"{path}: {error.message or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start}: not UTF-8; save it as UTF-8") from None
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        line = max((n for name, n in _frames(error) if name == str(path)), default=1)
        raise UserError(f"{path}:{line}: {type(error).__name__}: {error}") from None


def _frames(error: BaseException) -> list[tuple[str, int]]:
    """Return the files and lines that an error came through; jinja2 puts templates among them."""
    return [
        (frame.filename, frame.lineno or 1) for frame in traceback.extract_tb(error.__traceback__)
    ]


@functools.cache
def _environment(folder: Path) -> SandboxedEnvironment:
    import pprint

    from jinja2 import FileSystemLoader, StrictUndefined, select_autoescape
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        loader=FileSystemLoader([folder, paths.ROOT / paths.TEMPLATES]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=select_autoescape(["html.j2"], default=False),
    )
    # Python's own spelling of a value: True and None, where tojson would say true and null.
    environment.filters["python"] = functools.partial(pprint.pformat, sort_dicts=False, width=88)
    return environment

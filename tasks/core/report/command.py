"""`doit report`: pages about all models as they are, and an index; nothing is built."""

from __future__ import annotations

from typing import Any

from doit.cmd_base import DoitCmdBase

from .. import console, paths
from ..errors import LoadError, UserError, nearest, reason


class Report(DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit report [MODEL ...]`."""

    doc_purpose = "write pages about models as they are, and one over all"
    doc_usage = "[MODEL ...]"
    doc_description = (
        "Nothing is built; `doit report:MODEL` builds the model, then writes its page."
    )
    cmd_options = ()

    def _execute(self) -> int:
        from . import index, page

        metas = [task.meta for task in self.task_list if (task.meta or {}).get("stage") == "report"]
        recipes = {meta["recipe"].name: meta["recipe"] for meta in metas}
        told_of = metas[0]["stages"]["report"].told_of if metas else dict
        try:
            for name in self._asked(recipes):
                if (paths.build() / name).is_dir():
                    console.say(str(page.write(told_of(recipes[name]), recipes[name])))
            console.say(str(index.write(told_of, list(recipes.values()), self.loader.broken)))
        except (UserError, OSError) as error:
            raise LoadError([reason(error, paths.build())]) from None
        return 0

    def _asked(self, recipes: dict[str, Any]) -> list[str]:
        """Return the models that were asked for; all if none was."""
        asked = [] if self.sel_default_tasks else list(self.sel_tasks)
        for name in asked:
            if name not in recipes:
                guess = nearest(name, recipes) or "; `doit list` names them"
                raise LoadError([f"report: no model '{name}'{guess}"])
        return asked or list(recipes)

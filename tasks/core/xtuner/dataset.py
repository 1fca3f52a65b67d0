"""Write a dataset as `datasets.load_from_disk` wants it: Arrow files of one schema, described.

Part of the program convert.py, which runs inside the xtuner toolchain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from .rows import Fault
else:  # a part of a program, beside which rows.py lies
    from rows import Fault


def save(table: Any, path: Path) -> None:
    """Write a table as an Arrow stream, in batches such as `datasets` writes."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)


def file_name(number: int) -> str:
    return f"part-{number:05}.arrow"


def finish(place: Path, form: str, made: Sequence[Any]) -> None:
    """Give all files one schema and the names that `datasets` wants, and describe them.

    Args:
        made: what convert.convert tells of each file: its schema, the name and the digest of what
            it was made from.

    Raises:
        Fault: two files hold values of different types.
    """
    import pyarrow as pa
    from datasets import Features

    schema = _unified(made)
    files = sorted(place.glob("part-*.arrow"))
    names = [f"data-{n:05}-of-{len(files):05}.arrow" for n in range(len(files))]
    for path, name, each in zip(files, names, made, strict=True):
        if each.schema != schema:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_stream(source).read_all()
                missing = [field for field in schema if field.name not in table.column_names]
                for field in missing:
                    table = table.append_column(field, pa.nulls(table.num_rows, field.type))
                try:
                    table = table.select(schema.names).cast(schema)
                except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
                    other = next(other for other in made if other.schema != each.schema)
                    raise _mixed(each, other, error) from None
                save(table, place / name)
            path.unlink()
        else:
            path.rename(place / name)
    digests = json.dumps([form, *(each.digest for each in made)]).encode()
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": hashlib.sha256(digests).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    features = Features.from_arrow_schema(schema).to_dict()
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    for name, content in (("state", state), ("dataset_info", info)):
        text = json.dumps(content, indent=2, sort_keys=True)
        (place / f"{name}.json").write_text(text, encoding="utf-8")


def _unified(made: Sequence[Any]) -> Any:
    """Return the schema that holds the values of all files."""
    import pyarrow as pa

    def unify(*some: Any) -> Any:
        return pa.unify_schemas([each.schema for each in some], promote_options="permissive")

    try:
        return unify(*made)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        for one, other in combinations(made, 2):
            try:
                unify(one, other)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise _mixed(one, other, error) from None
        raise


def _mixed(one: Any, other: Any, error: Exception) -> Fault:
    names = " and ".join(dict.fromkeys((one.name, other.name)))
    return Fault(f"{names}: rows of different types: {error}; write a key's values all alike")

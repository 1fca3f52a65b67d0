"""Write a dataset as `datasets.load_from_disk` wants it: Arrow files of one schema, described.

Part of the program convert.py, which runs inside the xtuner toolchain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def save(table: Any, path: Path) -> None:
    """Write a table as an Arrow stream, in batches such as `datasets` writes."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)


def file_name(number: int) -> str:
    return f"part-{number:05}.arrow"


def finish(place: Path, form: str, schemas: Sequence[Any], read: Sequence[str]) -> None:
    """Give all files one schema and the names that `datasets` wants, and describe them.

    Args:
        schemas, read: of each file, its schema and the digest of what it was made from.
    """
    import pyarrow as pa
    from datasets import Features

    schema = pa.unify_schemas(list(schemas), promote_options="permissive")
    files = sorted(place.glob("part-*.arrow"))
    names = [f"data-{n:05}-of-{len(files):05}.arrow" for n in range(len(files))]
    for path, name, own in zip(files, names, schemas, strict=True):
        if own != schema:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_stream(source).read_all()
                missing = [each for each in schema if each.name not in table.column_names]
                for each in missing:
                    table = table.append_column(each, pa.nulls(table.num_rows, each.type))
                save(table.select(schema.names).cast(schema), place / name)
            path.unlink()
        else:
            path.rename(place / name)
    digests = json.dumps([form, *read]).encode()
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

"""Read rows with Arrow's own parser, as far as it can be sure that nothing is wrong with them.

Part of the program convert.py, which runs inside the xtuner toolchain.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from .rows import KEYS, ROLES
else:  # a program of its own, beside which rows.py lies
    from rows import KEYS, ROLES


def quickly(raw: bytes, form: str) -> Any:
    """Return the rows as Arrow's parser finds them, or None where they need a closer look."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    if form not in ("agentflan", "openai", "text"):
        return None
    key, text = KEYS[form], pa.string()
    message = pa.struct([("role", text), ("content", text)])
    kind = text if form == "text" else pa.list_(message)
    options = arrow_json.ParseOptions(explicit_schema=pa.schema([(key, kind)]))
    block = arrow_json.ReadOptions(use_threads=False, block_size=1 << 22)
    try:
        check_utf8(raw)
        table = arrow_json.read_json(pa.BufferReader(raw), block, options)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    whole = table.num_rows == raw.count(b"\n") + (not raw.endswith(b"\n"))
    if not whole or not (texts_sound if form == "text" else chats_sound)(table[key]):
        return None
    if form == "text":
        return table.select(["text"])
    names = [name for name in table.column_names if name not in (key, "id", "messages")]
    if any(not plain(table.schema.field(name).type) for name in names):
        return None
    return table.select([key, *names]).rename_columns(["messages", *names])


def check_utf8(raw: bytes) -> None:
    """Refuse bytes that are no UTF-8, which the parser takes as they are.

    Raises:
        pa.ArrowInvalid: they are not.
    """
    import pyarrow as pa

    ends = pa.py_buffer(struct.pack("<qq", 0, len(raw)))
    whole = pa.LargeStringArray.from_buffers(1, ends, pa.py_buffer(raw))
    whole.validate(full=True)


def texts_sound(column: Any) -> bool:
    """Return whether every row is a text that says something, as rows.row would have it."""
    import pyarrow.compute as pc

    return not column.null_count and bool(
        pc.all(pc.greater(pc.binary_length(pc.utf8_trim_whitespace(column)), 0)).as_py()
    )


def chats_sound(column: Any) -> bool:
    """Return whether every row is a conversation, as rows.row would have it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for chunk in column.chunks:
        messages = chunk.flatten()
        if chunk.null_count or pc.min(pc.list_value_length(chunk)).as_py() == 0:
            return False
        roles, content = messages.field("role"), messages.field("content")
        if messages.null_count or roles.null_count or content.null_count:
            return False
        if not pc.all(pc.is_in(roles, value_set=pa.array(ROLES))).as_py():
            return False
        fields = {each.name: each.type for each in messages.type}
        if not pa.types.is_boolean(fields.get("loss", pa.bool_())):
            return False
        if not all(plain(kind) for kind in fields.values()):
            return False
    return True


def plain(kind: Any) -> bool:
    """Return whether a type is what was written; Arrow's parser takes some texts for dates."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return plain(kind.value_type)
    if pa.types.is_struct(kind):
        return all(plain(each.type) for each in kind)
    return not pa.types.is_temporal(kind)

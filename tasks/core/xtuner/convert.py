"""Turn a folder of JSON lines into a dataset for `datasets.load_from_disk`.

    convert.py FROM TO FORMAT [TOKENIZER MAX_LENGTH]

It runs inside the xtuner toolchain.  The files are cut into pieces of lines; processes turn each
into one Arrow file of the dataset, so that memory is bounded whatever there is to read.  Arrow's
own parser does the work; a piece that it or our checks do not like is read again, row by row, to
say what is wrong.  Faults end the program with status 65 and one line each on stdout.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from .rows import KEYS, ROLES, Fault, parse, row
else:  # a program of its own, beside which rows.py lies
    from rows import KEYS, ROLES, Fault, parse, row

DATA_FAULT = 65
MOST_FAULTS = 20
# A piece, and so an Arrow file, is made from about this many bytes.
PIECE = 32 << 20
# Tokens are counted in rows that make up about this much, evenly spread over all of them.
SAMPLE = 2 << 20


@dataclass(frozen=True)
class Piece:
    """Whole lines of a file, or a file that is one JSON array."""

    number: int
    path: Path
    start: int
    end: int


@dataclass
class Result:
    """What became of a piece; `lengths` are the tokens of the rows that were sampled."""

    faults: list[str] = field(default_factory=list)
    rows: int = 0
    roles: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    schema: Any = None
    digest: str = ""  # of the bytes that were read


def main() -> None:
    """Convert a folder; print the counts as the last line."""
    origin, place, form, *tokens = sys.argv[1:]
    todo = list(pieces(Path(origin)))
    stride = max(1, sum(piece.end - piece.start for piece in todo) // SAMPLE)
    work = partial(convert, Path(place), form, tokens[0] if tokens else None, stride)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = []
        for result in pool.map(work, todo):
            results.append(result)
            if sum(len(each.faults) for each in results) >= MOST_FAULTS:
                pool.shutdown(cancel_futures=True)
                break
    faults = [fault for result in results for fault in result.faults]
    if not faults and not any(result.rows for result in results):
        faults = [f"{origin}: no rows; the folder needs .jsonl files with one conversation a line"]
    if faults:
        print("\n".join(faults[:MOST_FAULTS]))
        raise SystemExit(DATA_FAULT)
    finish(Path(place), form, [result for result in results if result.rows])
    print(json.dumps(count(results, int(tokens[1]) if tokens else 0)))


def pieces(origin: Path) -> Iterator[Piece]:
    """Yield the pieces of every .jsonl and .json file, in the order of the files' names."""
    number = 0
    for path in sorted((*origin.glob("*.jsonl"), *filter(is_array, origin.glob("*.json")))):
        start, size = 0, path.stat().st_size
        with path.open("rb") as file:
            while start < size:
                end = size
                if path.suffix == ".jsonl" and start + PIECE < size:
                    file.seek(start + PIECE)
                    file.readline()
                    end = file.tell()
                yield Piece(number, path, start, end)
                number, start = number + 1, end


def is_array(path: Path) -> bool:
    """Return whether a .json file is a list of rows; others describe the dataset."""
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"[")


def convert(place: Path, form: str, tokenizer: str | None, stride: int, piece: Piece) -> Result:
    """Write one piece's Arrow file."""
    import pyarrow as pa
    import xxhash

    with piece.path.open("rb") as file:
        file.seek(piece.start)
        raw = file.read(piece.end - piece.start)
    result = Result()
    table = quickly(raw, form) if piece.path.suffix == ".jsonl" else None
    if table is None:
        found = slowly(raw, form, piece, result)
        if result.faults or not found:
            return result
        try:
            table = pa.Table.from_pylist(found)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            result.faults = [f"{known_as(piece.path)}: rows of different types: {error}"]
            return result
    result.digest = xxhash.xxh3_128_hexdigest(raw)
    del raw
    result.rows, result.schema = table.num_rows, table.schema
    messages = table["messages"].combine_chunks().flatten()
    result.roles = Counter(
        {
            each["values"]: each["counts"]
            for each in messages.field("role").value_counts().to_pylist()
        }
    )
    if tokenizer:
        result.lengths = lengths(table["messages"], tokenizer, stride)
    save(table, place / file_name(piece.number))
    return result


def quickly(raw: bytes, form: str) -> Any:
    """Return the rows as Arrow's parser finds them, or None where they need a closer look."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    if form not in ("agentflan", "openai"):
        return None
    text = pa.string()
    message = pa.struct([("role", text), ("content", text)])
    options = arrow_json.ParseOptions(explicit_schema=pa.schema([(KEYS[form], pa.list_(message))]))
    block = arrow_json.ReadOptions(use_threads=False, block_size=1 << 22)
    try:
        raw.decode("utf-8")
        table = arrow_json.read_json(pa.BufferReader(raw), block, options)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
        return None
    if table.num_rows != raw.count(b"\n") + (not raw.endswith(b"\n")) or not sound(table, form):
        return None
    names = [name for name in table.column_names if name not in (KEYS[form], "id", "messages")]
    if any(not plain(table.schema.field(name).type) for name in names):
        return None
    return table.select([KEYS[form], *names]).rename_columns(["messages", *names])


def sound(table: Any, form: str) -> bool:
    """Return whether every row is a conversation, as rows.row would have it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for chunk in table[KEYS[form]].chunks:
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


def slowly(raw: bytes, form: str, piece: Piece, result: Result) -> list[dict[str, Any]]:
    """Return the rows one by one; what is wrong goes into the result, with file and line."""
    found: list[dict[str, Any]] = []
    name, is_list = known_as(piece.path), piece.path.suffix == ".json"
    before = 0
    try:
        items = parse(raw) if is_list else raw.split(b"\n")
    except Fault as fault:
        result.faults.append(f"{name}: {fault}")
        return []
    for number, item in enumerate(items if isinstance(items, list) else [items], 1):
        if not is_list and not item.strip():
            continue
        try:
            found.append(row(item if is_list else parse(item), form))
        except Fault as fault:
            before = before or lines_before(piece)
            where = f"row {number}" if is_list else before + number - 1
            result.faults.append(f"{name}:{where}: {fault}")
            if len(result.faults) == MOST_FAULTS:
                break
    return found


def lines_before(piece: Piece) -> int:
    """Return the number, from 1, of a piece's first line in its file."""
    count, left = 1, piece.start
    with piece.path.open("rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            count, left = count + block.count(b"\n"), left - len(block)
    return count


def known_as(path: Path) -> str:
    """Return the name to call a file by: the folder may hold links, people know their targets."""
    return os.path.relpath(path.resolve())


def lengths(messages: Any, tokenizer: str, stride: int) -> list[int]:
    """Return the tokens of every stride-th conversation's texts."""
    import numpy

    encoder = _encoder(tokenizer)
    taken = messages.take(numpy.arange(0, len(messages), stride)).to_pylist()
    texts = ["\n".join(each["content"] for each in conversation) for conversation in taken]
    return [len(each.ids) for each in encoder.encode_batch(texts, add_special_tokens=False)]


@cache
def _encoder(path: str) -> Any:
    from tokenizers import Tokenizer

    # Our processes are as many as there are processors already.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    encoder = Tokenizer.from_file(path)
    encoder.no_truncation()
    return encoder


def save(table: Any, path: Path) -> None:
    """Write a table as an Arrow stream, in batches such as `datasets` writes."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)


def file_name(number: int) -> str:
    return f"part-{number:05}.arrow"


def finish(place: Path, form: str, results: list[Result]) -> None:
    """Give all files one schema and the names that `datasets` wants, and describe them."""
    import pyarrow as pa
    from datasets import Features

    schema = pa.unify_schemas([result.schema for result in results], promote_options="permissive")
    files = sorted(place.glob("part-*.arrow"))
    names = [f"data-{n:05}-of-{len(files):05}.arrow" for n in range(len(files))]
    for path, name, result in zip(files, names, results, strict=True):
        if result.schema != schema:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_stream(source).read_all()
                missing = [each for each in schema if each.name not in table.column_names]
                for each in missing:
                    table = table.append_column(each, pa.nulls(table.num_rows, each.type))
                save(table.select(schema.names).cast(schema), place / name)
            path.unlink()
        else:
            path.rename(place / name)
    digests = json.dumps([form, *(result.digest for result in results)]).encode()
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


def count(results: list[Result], longest: int) -> dict[str, Any]:
    """Return how much there is."""
    roles: Counter[str] = sum((result.roles for result in results), Counter())
    found: dict[str, Any] = {
        "rows": sum(result.rows for result in results),
        "turns": roles["assistant"],
        "roles": dict(sorted(roles.items())),
    }
    lengths = sorted(length for result in results for length in result.lengths)
    if lengths:
        found["tokens"] = {
            "rows_counted": len(lengths),
            "mean": round(sum(lengths) / len(lengths)),
            "median": lengths[len(lengths) // 2],
            "most": lengths[-1],
            "max_length": longest,
            "over_max_length": sum(length > longest for length in lengths),
            "histogram": histogram(lengths),
        }
    return found


def histogram(lengths: list[int]) -> dict[str, int]:
    """Return how many lengths are up to each power of two, and above the one before it."""
    found: Counter[int] = Counter(1 << max(0, length - 1).bit_length() for length in lengths)
    return {str(limit): found[limit] for limit in sorted(found)}


if __name__ == "__main__":
    main()

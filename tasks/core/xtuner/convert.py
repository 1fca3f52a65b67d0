"""Turn a folder of JSON lines, or of texts, into a dataset for `datasets.load_from_disk`.

    convert.py FROM TO FORMAT [TOKENIZER MAX_LENGTH]

It runs inside the xtuner toolchain.  The files are cut into pieces of lines; processes turn each
into one Arrow file of the dataset, so that memory is bounded whatever there is to read.  Arrow's
own parser does the work; a piece that it or our checks do not like is read again, row by row, to
say what is wrong.  Faults end the program with status 65 and one line each on stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from .counts import count, encoder, lengths, roles
    from .dataset import file_name, finish, save
    from .pieces import Piece, known_as, lines_before, pieces
    from .quickrows import quickly
    from .rows import Fault, check_held, decoded, parse, row, text
    from .texts import cut
else:  # a program of its own, beside which these lie
    from counts import count, encoder, lengths, roles
    from dataset import file_name, finish, save
    from pieces import Piece, known_as, lines_before, pieces
    from quickrows import quickly
    from rows import Fault, check_held, decoded, parse, row, text
    from texts import cut

DATA_FAULT = 65
MOST_FAULTS = 20
# Tokens are counted in rows that make up about this much, evenly spread over all of them.
SAMPLE = 2 << 20


@dataclass
class Result:
    """What became of a piece; `lengths` are the tokens of the rows that were sampled."""

    name: str = ""  # of the file that it is of
    faults: list[str] = field(default_factory=list)
    rows: int = 0
    roles: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    schema: Any = None
    digest: str = ""  # of the bytes that were read


def main() -> None:
    """Convert a folder; print the counts as the last line."""
    origin, place, form, *tokens = sys.argv[1:]
    todo = list(pieces(Path(origin), form))
    stride = max(1, sum(piece.end - piece.start for piece in todo) // SAMPLE)
    tokenizer, longest = (tokens[0], int(tokens[1])) if tokens else (None, 0)
    work = partial(convert, Path(place), form, tokenizer, longest, stride)
    importlib.import_module("pyarrow.json")  # once, and not in each process
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        pending = pool.map(work, todo)
        importlib.import_module("datasets")  # which takes a second, while the others work
        results = []
        for result in pending:
            results.append(result)
            if sum(len(each.faults) for each in results) >= MOST_FAULTS:
                pool.shutdown(cancel_futures=True)
                break
    faults = [fault for result in results for fault in result.faults]
    found = [result for result in results if result.rows]
    if not faults and not found:
        kinds = (
            ".jsonl files with one text a line, or .txt files"
            if form == "text"
            else (".jsonl files with one conversation a line")
        )
        faults = [f"{origin}: no rows; the folder needs {kinds}"]
    if faults:
        print("\n".join(faults[:MOST_FAULTS]))
        raise SystemExit(DATA_FAULT)
    try:
        finish(Path(place), form, found)
    except Fault as fault:
        print(fault)
        raise SystemExit(DATA_FAULT) from None
    print(json.dumps(counted(found, longest)))


def counted(results: list[Result], longest: int) -> dict[str, Any]:
    """Return how much there is in all."""
    return count(
        sum(result.rows for result in results),
        sum((result.roles for result in results), Counter()),
        [length for result in results for length in result.lengths],
        longest,
    )


def convert(
    place: Path, form: str, tokenizer: str | None, longest: int, stride: int, piece: Piece
) -> Result:
    """Write one piece's Arrow file."""
    import pyarrow as pa
    import xxhash

    with piece.path.open("rb") as file:
        file.seek(piece.start)
        raw = file.read(piece.end - piece.start)
    result = Result(known_as(piece.path))
    table = quickly(raw, form) if piece.path.suffix == ".jsonl" else None
    if table is None:
        found = slowly(raw, form, piece, result)
        if result.faults or not found:
            return result
        try:
            table = pa.Table.from_pylist(found)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
            result.faults = [f"{known_as(piece.path)}: rows of different types: {error}"]
            return result
    result.digest = xxhash.xxh3_128_hexdigest(raw)
    del raw
    if form == "text" and tokenizer:
        whole = table["text"].to_pylist()
        parts = [part for each in whole for part in cut(each, encoder(tokenizer), longest)]
        table = pa.table({"text": parts})
    result.rows, result.schema, result.roles = table.num_rows, table.schema, roles(table)
    if tokenizer:
        result.lengths = lengths(table, tokenizer, stride)
    save(table, place / file_name(piece.number))
    return result


def slowly(raw: bytes, form: str, piece: Piece, result: Result) -> list[dict[str, Any]]:
    """Return the rows one by one; what is wrong goes into the result, with file and line."""
    name = known_as(piece.path)
    try:
        if piece.path.suffix == ".txt":
            return [text(decoded(raw))]
        items = parse(raw) if piece.path.suffix == ".json" else None
    except Fault as fault:
        result.faults.append(f"{name}: {fault}")
        return []
    found: list[dict[str, Any]] = []
    before = 0
    for number, item in enumerate(raw.split(b"\n") if items is None else items, 1):
        if items is None and not item.strip():
            continue
        try:
            content = row(parse(item) if items is None else item, form)
            check_held(content)
            found.append(content)
        except Fault as fault:
            before = before or lines_before(piece)
            where = before + number - 1 if items is None else f"row {number}"
            result.faults.append(f"{name}:{where}: {fault}")
            if len(result.faults) == MOST_FAULTS:
                break
    return found


if __name__ == "__main__":
    main()

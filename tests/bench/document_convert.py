"""Convert a dataset as the document's script does: all rows in a list, then `datasets`.

    python document_convert.py FROM TO

Runs in the xtuner toolchain.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from datasets import Dataset

origin, place = sys.argv[1:]
rows = []
for path in Path(origin).glob("*.jsonl"):
    with path.open(encoding="utf-8") as file:
        for line in file.readlines():
            row = json.loads(line)
            row["messages"] = row.pop("conversation")
            row.pop("id", None)
            rows.append(row)
Dataset.from_list(rows).save_to_disk(place)

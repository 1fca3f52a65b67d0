"""Make conversations with an agent, for the benchmark of `convert`.

    python -m tests.bench.conversations FOLDER [MEGABYTES]

Writes FOLDER/data/*.jsonl, four files of Agent-FLAN's form, 1000 MB in all unless told: about
3.4 kB a row, three to nine messages, some with text that JSON escapes or that is not ASCII.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

FILES = 4
SYLLABLES = "ba de fi go ku la me ni po ru sa te vi wo zu ка не 模 型".split()


def main() -> None:
    folder, size = Path(sys.argv[1]) / "data", int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    folder.mkdir(parents=True, exist_ok=True)
    dice = random.Random(0)
    words = ["".join(dice.choices(SYLLABLES, k=dice.randint(1, 4))) for _ in range(5000)]
    sentences = [" ".join(dice.choices(words, k=dice.randint(5, 25))) for _ in range(20_000)]
    for number in range(FILES):
        with (folder / f"part-{number}.jsonl").open("wb") as file:
            written = row = 0
            while written < size * 10**6 // FILES:
                content = conversation(dice, sentences, f"{number}_{row}")
                written += file.write(f"{json.dumps(content, ensure_ascii=False)}\n".encode())
                row += 1


def conversation(dice: random.Random, sentences: list[str], name: str) -> dict[str, Any]:
    """Return a row: tools, then questions, calls and answers."""
    tools = json.dumps({"name": dice.choice(sentences)[:20], "args": {"text": "str"}}, indent=1)
    messages: list[dict[str, Any]] = [{"role": "system", "content": f"Tools:\n{tools}"}]
    for _ in range(dice.randint(1, 4)):
        question, answer = (". ".join(dice.choices(sentences, k=6)) for _ in range(2))
        call = f'Thought: "{question[:60]}"\nAction: search\nAction Input: {{"q": "{answer[:30]}"}}'
        messages.append({"role": "user", "content": question})
        messages.append(
            {"role": "assistant", "content": f"{call}\n{answer}", "loss": dice.random() < 0.9}
        )
    return {"conversation": messages, "id": name}


if __name__ == "__main__":
    main()

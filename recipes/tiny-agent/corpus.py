"""Make the agent rows and the held-out prompts of tiny-agent, and check that none was trained on.

`python corpus.py` writes data/single.jsonl, data/multi.jsonl and prompts.jsonl beside this file.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import chats
import phrases
import words
from chats import Message
from phrases import TOOLS, UNSEEN_TOOL, Tool

HERE = Path(__file__).parent
SEED = 20261121
ROWS = {"single": 2000, "multi": 400}
PROMPTS = {"": 200, "unseen_phrasing": 24, "unseen_tool": 20, "no_tool": 20}
# More texts than the base model reads of any phase.
BASE_TEXTS = 40_000
# Sums are the hardest to copy digit by digit, so they are asked for more often.
ASKED = [*TOOLS, *(2 * [tool for tool in TOOLS if tool.name == "calculator"])]
FORMAT = """To use a tool:
Thought: your thought
Action: tool name
Action Input: JSON
Else:
Thought: your thought
Final Answer: answer
Begin!"""


# What the adapter is tuned on.


def system_text(rng: random.Random, tool: Tool | None, most_others: int = 3) -> str:
    """Return a system text that lists some tools, the right one among them."""
    others = [other for other in TOOLS if other is not tool]
    listed = rng.sample(others, rng.randint(min(1, most_others), most_others))
    listed += [tool] if tool else []
    rng.shuffle(listed)
    lines = [f"{each.name}({', '.join(each.parameters)})" for each in listed]
    return "\n".join(["You can use external tools:", *lines, FORMAT])


def call(rng: random.Random, tool: Tool, values: dict[str, str]) -> str:
    thought = rng.choice(phrases.THOUGHTS).format(tool=tool.name)
    return f"Thought: {thought}\nAction: {tool.name}\nAction Input: {json.dumps(values)}"


def final(answer: str, thought: str = "I do not need a tool.") -> str:
    return f"Thought: {thought}\nFinal Answer: {answer}"


def single(rng: random.Random) -> list[Message]:
    """Return a question and its tool call, an answer without one, or a chat without any tools."""
    share = rng.random()
    if share < 0.1:
        return chats.base_chat(rng, mixed=True)
    if share < 0.2:
        user, answer = chats.small_talk(rng)
        return chats.chat(user["content"], final(answer["content"]), system_text(rng, None))
    asked, values, tool = chats.request_for(rng, ASKED)
    return chats.chat(asked, call(rng, tool, values), system_text(rng, tool))


def multi(rng: random.Random) -> list[Message]:
    """Return a question, its tool call, the tool's response and the final answer."""
    asked, values, tool = chats.request_for(rng, ASKED)
    wait = chats.chat("Wait.", "Ok.") if rng.random() < 0.1 else []
    # These rows are the longest, and each must fit into 256 tokens.
    system = system_text(rng, tool, most_others=0 if wait else 1)
    turns = chats.chat(asked, call(rng, tool, values), system)
    seen = {"noun": words.name(rng), "number": str(rng.randint(2, 99))}
    answer = final(tool.final.format(**values, **seen), "I know the answer.")
    turns += chats.chat("Response: " + tool.response.format(**seen), answer)
    return [turns[0], *wait, *turns[1:]]


def with_loss(turns: list[Message]) -> list[Message]:
    """Return the turns with `loss` said on every answer; a mere "Ok." is not worth learning.

    Arrow fills a key that is missing anywhere with null, and xtuner reads null as "no loss".
    """
    return [
        {**turn, "loss": turn["content"] != "Ok."} if turn["role"] == "assistant" else turn
        for turn in turns
    ]


def rows(kind: str) -> Iterator[Message]:
    """Yield the rows of one data file in Agent-FLAN's form."""
    rng = random.Random(f"{SEED} {kind}")
    make = {"single": single, "multi": multi}[kind]
    for number in range(ROWS[kind]):
        yield {"conversation": with_loss(make(rng)), "id": f"{kind}_{number}"}


# What both are judged by.


def asking(rng: random.Random, tool: Tool, group: str) -> str:
    """Return a phrasing, slots still open, that no training text has."""
    if group == "unseen_phrasing":
        parts = (phrases.UNSEEN_OPENERS, tool.unseen, phrases.UNSEEN_CLOSERS)
        return "".join(rng.choice(part) for part in parts)
    return phrases.phrase(rng, tool.cores, kept_back=True)[0]


def prompt(rng: random.Random, number: int, group: str) -> Message:
    tool = UNSEEN_TOOL if group == "unseen_tool" else TOOLS[number % len(TOOLS)]
    values = {key: words.value(rng, key, kept_back=True) for key in tool.parameters}
    turns = chats.chat(asking(rng, tool, group).format(**values), "", system_text(rng, tool))
    expect: Message = {"tool": tool.name, "arguments": values}
    if group == "no_tool":
        user = chats.small_talk(rng, kept_back=True)[0]["content"]
        turns, expect = chats.chat(user, "", system_text(rng, None)), {"tool": None}
    return {"messages": turns[:-1], "expect": expect, **({"group": group} if group else {})}


def prompts() -> Iterator[Message]:
    rng = random.Random(f"{SEED} prompts")
    for group, count in PROMPTS.items():
        asked: set[str] = set()
        while len(asked) < count:
            made = prompt(rng, len(asked), group)
            if made["messages"][-1]["content"] not in asked:
                asked.add(made["messages"][-1]["content"])
                yield made


def marks(text: str) -> set[str]:
    """Return the sums in a text and its words that are in no list or phrasing of ours."""
    sums = re.findall(r"\d+(?: [-+*/] \d+)+", text)
    return {*sums, *re.findall(r"[a-z]+", text.lower())} - phrases.KNOWN


def check(trained: Iterable[list[Message]], held_out: Iterable[Message]) -> list[str]:
    """Return every sign that something held out was trained on; empty when the claim holds."""
    said: set[str] = set()
    seen: set[str] = set()
    for turns in trained:
        for turn in turns:
            said.add(turn["content"])
            seen |= marks(turn["content"])
    faults = []
    for made in held_out:
        asked = made["messages"][-1]["content"]
        known = {asked} & said | marks(asked) & seen
        faults += [f"{asked!r}: trained on {part!r}" for part in sorted(known)]
        if made["expect"]["tool"] and not marks(asked):
            faults.append(f"{asked!r}: nothing in it is new")
    return faults


def base_read() -> Iterator[list[Message]]:
    for phase in chats.PHASES:
        yield from itertools.islice(chats.base_texts(phase), BASE_TEXTS)


def calls(texts: Iterable[list[Message]]) -> list[str]:
    """Return every sign of a tool call; empty for what the base model reads."""
    said = (turn["content"] for turns in texts for turn in turns)
    return [f"{content!r}: holds a call" for content in said if "Action:" in content]


def trained_on() -> Iterator[list[Message]]:
    yield from base_read()
    for kind in ROWS:
        yield from (row["conversation"] for row in rows(kind))


def write(path: Path, made: Iterable[Message]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")


def main() -> None:
    faults = check(trained_on(), prompts()) + calls(base_read())
    if faults:
        raise SystemExit("\n".join(faults))
    for kind in ROWS:
        write(HERE / "data" / f"{kind}.jsonl", rows(kind))
    write(HERE / "prompts.jsonl", prompts())


if __name__ == "__main__":
    main()

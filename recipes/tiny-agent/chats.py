"""Make the text that tiny-agent's base model reads: repetition, skills, requests and small talk.

It answers every request in prose. How a tool is called is nowhere in it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import phrases
import words

Message = dict[str, Any]
SEED = 7
PHASES = ("repetition", "skills", "mixed")
SYSTEMS = [None, None, "You are a friendly assistant.", "You answer in plain words."]


def message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def chat(user: str, answer: str, system: str | None = None) -> list[Message]:
    head = [message("system", system)] if system else []
    return [*head, message("user", user), message("assistant", answer)]


def repetition(rng: random.Random) -> tuple[str, str]:
    """Return a list of random words and the same list again, to learn copying from."""
    pool = [words.name(rng) for _ in range(4)] + words.WORDS + words.NOUNS
    pool += 2 * words.TERMS
    items = [rng.choice(pool) if rng.random() < 0.5 else words.name(rng) for _ in range(12)]
    items[rng.randrange(6)] = words.sum_of(rng)
    items[rng.randrange(6, 12)] = words.sum_of(rng)
    items[rng.randrange(12)] = words.name(rng).capitalize()
    line = "".join(item + rng.choice([" ", " ", " ", ", ", ". ", '" ', "\n"]) for item in items)
    return line, line


def copying(rng: random.Random) -> list[Message]:
    count = rng.randint(1, 5)
    pool = words.WORDS + words.TERMS
    items = [words.name(rng) if rng.random() < 0.6 else rng.choice(pool) for _ in range(count)]
    text = rng.choice([" ".join(items), words.sum_of(rng), words.value(rng, "title")])
    return chat(rng.choice(["Repeat: {}", 'Copy "{}".', "Say {} again."]).format(text), text)


def fields(rng: random.Random) -> dict[str, str]:
    kinds = "city day query expression title date text language to name".split()
    return {kind: words.value(rng, kind) for kind in rng.sample(kinds, rng.randint(1, 3))}


def request_for(
    rng: random.Random, tools: list[phrases.Tool] = phrases.TOOLS
) -> tuple[str, dict[str, str], phrases.Tool]:
    """Return a request that one of the tools could answer, its values and the tool."""
    tool = rng.choice(tools)
    values = {key: words.value(rng, key) for key in tool.parameters}
    asked, _ = phrases.phrase(rng, tool.cores)
    return asked.format(**values), values, tool


def record(rng: random.Random) -> list[Message]:
    """Return what was said, in one of two ways, as a record."""
    if rng.random() < 0.5:
        asked, values, _ = request_for(rng)
        return chat(f"{asked} Write a record with {' and '.join(values)}.", json.dumps(values))
    row = fields(rng)
    listed = list(row.items())
    rng.shuffle(listed)
    told = ", ".join(f"{key} {value}" for key, value in listed)
    ask = f"Write a record with {' and '.join(row)}. Known: {told}."
    return chat(ask, json.dumps(row))


def reading(rng: random.Random) -> list[Message]:
    row = fields(rng)
    key = rng.choice(list(row))
    return chat(f"{json.dumps(row)} What is the {key}?", f"The {key} is {row[key]}.")


def recall(rng: random.Random) -> list[Message]:
    facts = {words.value(rng, "name"): words.words(rng) for _ in range(rng.randint(2, 3))}
    who = rng.choice(list(facts))
    told = " ".join(f'{name} said "{said}".' for name, said in facts.items())
    return chat(f"{told} What did {who} say?", f'{who} said "{facts[who]}".')


def request(rng: random.Random) -> list[Message]:
    """Return a request answered in prose: the base knows no tools."""
    asked, values, tool = request_for(rng)
    return chat(asked, rng.choice(tool.prose).format(**values))


def small_talk(rng: random.Random, kept_back: bool = False) -> list[Message]:
    asked, core = phrases.phrase(rng, list(phrases.CHAT), kept_back)
    who = words.value(rng, "name", kept_back)
    return chat(asked.format(name=who), phrases.CHAT[core].format(name=who))


SKILLS = [copying, record, record, reading, recall]


def base_chat(rng: random.Random, mixed: bool) -> list[Message]:
    """Return a chat of the base text: skills first, later mixed with requests and talk."""
    if not mixed or rng.random() < 0.5:
        kind = rng.choice(SKILLS)
    else:
        kind = request if rng.random() < 0.85 else small_talk
    system = rng.choice(SYSTEMS)
    turns = kind(rng)
    return [message("system", system), *turns] if system else turns


def base_texts(phase: str) -> Iterator[list[Message]]:
    """Yield the texts of a phase without end, each as what is given and what is to be answered."""
    rng = random.Random(f"{SEED} {phase}")
    while True:
        if phase == "repetition":
            once, again = repetition(rng)
            yield chat(once, again)
        else:
            yield base_chat(rng, mixed=phase == "mixed")

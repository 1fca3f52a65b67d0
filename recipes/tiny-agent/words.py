"""Hold the words of tiny-agent's text and make up its names, sums, dates and sentences.

A crc32 splits names and sums once and for all into those that training may use and those that only
the held-out prompts use.
"""

from __future__ import annotations

import random
from zlib import crc32

HEADS = "b d f g h j k l m n p r s t v z br dr fl gr kl pr st tr".split()
VOWELS = "a e i o u ai".split()
TAILS = ["", "", "", "l", "n", "r", "s", "m", "k"]
SYLLABLE = (HEADS, VOWELS, TAILS)
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
LANGUAGES = "French German Spanish Italian Dutch Polish Greek Turkish Danish Latin".split()
NOUNS = (
    "shoes books music boats stamps lamps maps songs games plants tools stories bread tea paint "
    "clocks trains gardens films roads bikes coins cups birds stones"
).split()
WORDS = (
    "the my your this that we you good big small new old late soon ready here there is was has "
    "likes wants brings red blue green warm cold hello thanks and for from room house car dog"
).split()

# Words of the agent's world. The base model knows them as words to repeat, and nothing more.
TERMS = (
    "You can use an external tool tools To a Else Thought thought thoughts your Action Action "
    "Input JSON Final Answer final answer Begin need should call for this Response do not know I "
    "it is name input action weather search calculator calendar translate mail route city day "
    "query expression title date text language to start end sky degrees found pages value "
    "saved entries result score box number assistant friendly plain words"
).split()


def is_kept_back(text: str, parts: int = 8) -> bool:
    """Return whether this name, sum or phrasing belongs to the held-out part."""
    return crc32(text.encode()) % parts == 0


def name(rng: random.Random, kept_back: bool = False) -> str:
    while True:
        count = rng.choice((2, 2, 3))
        syllables = [
            rng.choice(HEADS) + rng.choice(VOWELS) + rng.choice(TAILS) for _ in range(count)
        ]
        word = "".join(syllables)
        if 5 <= len(word) <= 9 and is_kept_back(word) == kept_back:
            return word


def sum_of(rng: random.Random, kept_back: bool = False) -> str:
    while True:
        numbers = [str(rng.randint(2, 999)) for _ in range(rng.choice((2, 2, 2, 3)))]
        text = numbers[0] + "".join(f" {rng.choice('+-*/')} {number}" for number in numbers[1:])
        if is_kept_back(text) == kept_back:
            return text


def words(rng: random.Random, kept_back: bool = False) -> str:
    """Return two to four words, at least one of them made up."""
    chosen = [name(rng, kept_back) for _ in range(rng.choice((1, 1, 2)))]
    chosen += [rng.choice(WORDS) for _ in range(rng.randint(1, 2))]
    rng.shuffle(chosen)
    return " ".join(chosen)


def date(rng: random.Random, kept_back: bool = False) -> str:
    """Return a date; there are too few of them to keep any back."""
    return f"{rng.choice(MONTHS)} {rng.randint(1, 28)}"


def day(rng: random.Random, kept_back: bool = False) -> str:
    return rng.choice([rng.choice(WEEKDAYS), date(rng)])


def language(rng: random.Random, kept_back: bool = False) -> str:
    return rng.choice(LANGUAGES)


def event(rng: random.Random, kept_back: bool = False) -> str:
    with_whom = name(rng, kept_back).capitalize()
    what = rng.choice([name(rng, kept_back), name(rng, kept_back), rng.choice(NOUNS)])
    return f"{what} with {with_whom}"


def topic(rng: random.Random, kept_back: bool = False) -> str:
    made_up, noun = name(rng, kept_back), rng.choice(NOUNS)
    return rng.choice([f"{made_up} {noun}", f"{noun} of {made_up}", made_up])


VALUES = {
    "query": topic,
    "expression": sum_of,
    "title": event,
    "text": words,
    "date": date,
    "day": day,
    "language": language,
}


def value(rng: random.Random, parameter: str, kept_back: bool = False) -> str:
    """Return a value for one parameter of a tool; most are names of someone or somewhere."""
    if parameter in VALUES:
        return VALUES[parameter](rng, kept_back)
    return name(rng, kept_back).capitalize()

"""Hold the tools, how people ask for them, and small talk.

Phrasings are split as names are: an opener, a core and a closer that are held out together never
meet in training. The `unseen` parts occur in held-out prompts only.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

import words


class Tool(NamedTuple):
    """A tool, how people ask for it, and what the untuned model says instead of calling it."""

    name: str
    parameters: tuple[str, ...]
    cores: list[str]
    prose: list[str]
    response: str
    final: str
    unseen: list[str]


TOOLS = [
    Tool(
        "weather",
        ("city", "day"),
        [
            "What is the weather in {city} on {day}?",
            "Will it rain in {city} on {day}?",
            "How warm is {city} on {day}?",
            "I travel to {city} on {day}, will it be sunny?",
            "On {day} I am in {city}, do I need a coat?",
            "Tell me the weather on {day} in {city}.",
            "Is it cold in {city} on {day}?",
            "Check the sky over {city} on {day}.",
            "{city} on {day}: sun or snow?",
            "Is a hat needed in {city} on {day}?",
        ],
        [
            "The sky over {city} on {day} is hard to know.",
            "On {day} the air in {city} may be mild.",
        ],
        '{{"sky": "{noun}", "degrees": {number}}}',
        "It is {noun} in {city}, {number} degrees.",
        ["Which weather does {city} get on {day}?", "Check if {city} is rainy on {day}."],
    ),
    Tool(
        "search",
        ("query",),
        [
            "Search for {query}.",
            "Find pages about {query}.",
            "Look up {query} for me.",
            "I want to read about {query}.",
            "What does the web say about {query}?",
            "Show me results for {query}.",
            "Who knows more about {query}?",
            "Get me links about {query}.",
            "Are there pages about {query}?",
            "Where do I find {query}?",
        ],
        [
            "I can tell you a little about {query}. It is easy to find in town.",
            "Many people like {query} very much.",
        ],
        '{{"found": "{noun}", "pages": {number}}}',
        "There are {number} pages about {query}.",
        ["Where can one read about {query}?", "Please collect links on {query}."],
    ),
    Tool(
        "calculator",
        ("expression",),
        [
            "How much is {expression}?",
            "Work out {expression}.",
            "What does {expression} give?",
            "Compute {expression} for me.",
            "I need the value of {expression}.",
            "Can you count {expression}?",
            "The sum is {expression}, what comes out?",
            "{expression} is how much?",
            "Please add up {expression}.",
            "Give me the result of {expression}.",
        ],
        [
            "The sum {expression} is best done on paper.",
            "To get {expression} right you need some time.",
        ],
        '{{"value": {number}}}',
        "The result of {expression} is {number}.",
        ["Evaluate {expression} now.", "Determine {expression} please."],
    ),
    Tool(
        "calendar",
        ("title", "date"),
        [
            "Put {title} on {date} in my plan.",
            "I have {title} on {date}, note it.",
            "Book {title} for {date}.",
            "On {date} there is {title}, save it.",
            "Remind me of {title} on {date}.",
            "Plan {title} on {date}.",
            "Do not let me forget {title} on {date}.",
            "Write {title} down for {date}.",
            "My plan for {date} is {title}.",
            "{title} takes place on {date}, keep it in mind.",
        ],
        [
            "So on {date} there is {title}. Do not forget it.",
            "It is good to have {title} on {date}.",
        ],
        '{{"entries": {number}}}',
        "I have noted {title}.",
        ["Enter {title} under {date}.", "My diary for {date} needs {title}."],
    ),
    Tool(
        "translate",
        ("text", "language"),
        [
            'Put "{text}" into {language}.',
            'How do you say "{text}" in {language}?',
            'What is "{text}" in {language}?',
            'Translate "{text}" to {language}.',
            'I need {language} words for "{text}".',
            'Say "{text}" in {language}.',
            'Give me the {language} for "{text}".',
            'The phrase "{text}" in {language}, please.',
            'Change "{text}" to {language}.',
            'Teach me "{text}" in {language}.',
        ],
        [
            'In {language} the words "{text}" sound very soft.',
            'People who speak {language} say "{text}" in their own way.',
        ],
        '{{"result": "{noun}"}}',
        "In {language} it is {noun}.",
        ['Turn "{text}" into {language}.', 'Which {language} words mean "{text}"?'],
    ),
    Tool(
        "mail",
        ("to", "text"),
        [
            'Write to {to}: "{text}".',
            'Send {to} the words "{text}".',
            'Let {to} know "{text}".',
            'Mail "{text}" to {to}.',
            'Tell {to} "{text}".',
            'I want {to} to read "{text}".',
            'Pass "{text}" on to {to}.',
            'Give {to} this message: "{text}".',
            'A note for {to}: "{text}".',
            '{to} must hear "{text}".',
        ],
        [
            'It would be kind to let {to} know "{text}".',
            'The words "{text}" will please {to}.',
        ],
        '{{"box": "{noun}"}}',
        "I have written to {to}.",
        ['Drop {to} a line: "{text}".', 'Inform {to}: "{text}".'],
    ),
]
UNSEEN_TOOL = Tool(
    "route",
    ("start", "end"),
    [
        "How do I get from {start} to {end}?",
        "Show me the way from {start} to {end}.",
        "Which roads lead from {start} to {end}?",
    ],
    [],
    "",
    "",
    [],
)
OPENERS = ["", "", "Hi! ", "Quick question: ", "One more thing: ", "Please help me. "]
OPENERS += ["Good day. ", "Sorry, I am late. ", "Well, ", "Dear assistant, ", "Now then. "]
OPENERS += ["Hello there. ", "Listen. ", "Next one: ", "I am in a hurry. "]
CLOSERS = ["", "", " Thanks.", " It is for a friend.", " Be quick.", " I am curious."]
CLOSERS += [" Many thanks.", " My sister asked.", " Take your time.", " I would be glad."]
CLOSERS += [" Thank you!"]
UNSEEN_OPENERS = ["Good evening. ", "Excuse me, ", "Sorry to bother you. "]
UNSEEN_CLOSERS = [" Much obliged.", " No rush.", " My boss asked."]
THOUGHTS = ["I need the {tool} tool.", "I should call {tool} for this."]

CHAT = {
    "How are you?": "I am well, and I hope that you are too.",
    "Who are you?": "I am a very small assistant.",
    "Tell me a joke.": "Two clocks met, and time went by.",
    "What can you do?": "I can talk a little and repeat what you say.",
    "Good morning!": "Good morning! The day is young.",
    "I am tired.": "Then rest a little, and drink some tea.",
    "What is a tool?": "A tool is a thing that helps with work.",
    "What is an action?": "An action is what one does after a thought.",
    "What is a final answer?": "A final answer is the last word on an input.",
    "Do you like tea?": "I like to hear about tea, but I never drink it.",
    "My name is {name}.": "Nice to meet you, {name}.",
    "I am called {name}.": "What a fine name, {name}.",
    "Say hello to {name}.": "Hello, {name}!",
    "This is my friend {name}.": "Welcome, {name}. A friend is always good.",
    "Is {name} a good name?": "Yes, {name} is a good name.",
    "Wish {name} a good day.": "I wish you a good day, {name}.",
}

# Every word that training text may hold and that is not made up.
SEEN = [*words.NOUNS, *words.WORDS, *words.TERMS, *words.WEEKDAYS, *words.LANGUAGES]
SEEN += [*words.MONTHS, *OPENERS, *CLOSERS, *THOUGHTS]
SEEN += [*CHAT, *CHAT.values(), "of with", *(" ".join(map(str, tool[:6])) for tool in TOOLS)]
KNOWN = set(re.findall(r"[a-z]+", " ".join(SEEN).lower()))


def phrase(rng: random.Random, cores: list[str], kept_back: bool = False) -> tuple[str, str]:
    """Return a phrasing with its slots still open, and its core."""
    while True:
        opener, core, closer = rng.choice(OPENERS), rng.choice(cores), rng.choice(CLOSERS)
        if words.is_kept_back(f"{opener}|{core}|{closer}", 5) == kept_back:
            return opener + core + closer, core

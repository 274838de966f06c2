"""Answers that consist of links, and links that were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import texts
from tests.filters.labelled.rows import Row

_HOSTS = ("example.org", "docs.example.com", "news.example.net", "www.example.edu", "shop.example.co.uk", "example.de")
_ASKS = (
    "What is the URL of the documentation?", "Give me a link to the project.", "Which website has the timetable?",
    "List three sites about birds.", "What is the address of the home page?", "Cite your sources.",
    "Write the href of the second anchor.", "Where can I download it? Give links only.",
    "Extract all URLs of the text.",
    "Which domain serves the images?", "Name the repository on GitHub.", "Welche Webseite zeigt den Fahrplan?",
    "Quel est le lien de la page ?", "Shorten https://example.org/a/very/long/path to its host.",
)  # fmt: skip
_OTHERS = (
    "Write a poem about autumn.", "Explain how tides work.", "Who was the first woman on the moon?", "Where?",
    "Summarise the article about the harbour.", "Solve 3x + 4 = 10.", "Describe Rome in three sentences.",
    "How do I bake bread?", "Translate 'good morning' into French.", "Give five facts about whales.",
    "Erkläre die Gezeiten.", "What causes rust?", "Write a short story about a dragon.", "Tell me more.",
)  # fmt: skip


def _url(random: Random) -> str:
    path = "/".join(random.choice(("a", "news", "wiki", "2021", "page", "item-7")) for _ in range(random.randint(0, 4)))
    return f"{random.choice(('https://', 'http://', 'https://www.'))}{random.choice(_HOSTS)}/{path}"


def good(data: Path | None) -> Iterator[Row]:
    """Links that were asked for, and links among words."""
    for n in range(120):
        random = Random(f"urls good {n}")
        links = [_url(random) for _ in range(random.randint(1, 4))]
        yield Row("links that were asked for", str(n), random.choice(_ASKS), random.choice(("\n", " ")).join(links))
        words = f"{texts.sentence(random)} See {links[0]} for more."
        yield Row("link among words", str(n), random.choice(_OTHERS), words)


def bad(data: Path | None) -> Iterator[Row]:
    """Links in place of an answer."""
    for n in range(240):
        random = Random(f"urls bad {n}")
        links = [_url(random) for _ in range(random.randint(1, 6))]
        shape = random.choice(("{}", "- {}", "{}", "<{}>", "[{}]", "* {}", "({})"))
        made = random.choice(("\n", " ", ", ")).join(shape.format(link) for link in links)
        yield Row("links in place of an answer", str(n), random.choice(_OTHERS), made)

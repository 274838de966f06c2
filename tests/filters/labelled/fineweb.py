"""Pages whose lines repeat, and texts whose lines repeat by their nature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import texts
from tests.filters.labelled.rows import Row

_FURNITURE = (
    "Share this article with your friends", "Read more about this story", "Advertisement - continue reading below",
    "Sign up for our newsletter today", "Click here to see the photos", "Posted in news by the editor",
    "Leave a comment below the article", "Subscribe to our channel for more", "Related stories you may like",
    "Show all comments of this user", "Report this comment to the editor", "Back to the top of the page",
)  # fmt: skip
_REQUESTS = (
    "Summarise the article.",
    "What happened?",
    "Write an essay.",
    "Tell me about it.",
    "Explain it.",
    "Describe Rome.",
)


def good(data: Path | None) -> Iterator[Row]:
    """Songs, programs, truth tables, drawings, logs and options."""
    for n in range(80):
        random = Random(f"fineweb good {n}")
        key = str(n)
        yield Row("song with a refrain", key, "Write a song.", texts.verse(random))
        yield Row("several programs", key, "Show examples.", "\n\n".join(texts.program(random)[1] for _ in range(4)))
        bits = [f"{i >> 2 & 1} {i >> 1 & 1} {i & 1} -> {i & 1}" for i in range(8)] + ["0 0 0 -> 0"] * 3
        yield Row("truth table", key, "Truth table, one row per line.", "\n".join(bits))
        answers = "\n".join(f"{i}. {random.choice(('True', 'False', 'yes', 'no', 'A', 'B'))}" for i in range(1, 21))
        yield Row("answers of a test", key, "Answer the 20 questions.", answers.replace(". ", ") " if n % 2 else ". "))
        plain = "\n".join(random.choice(("positive", "negative", "neutral")) for _ in range(14))
        yield Row("labels", key, "Give the label of each review, one per line.", plain)
        turns = "\n".join(
            f"{'Guest' if i % 2 else 'Host'}: {random.choice(('Yes.', 'No.', texts.sentence(random)))}"
            for i in range(14)
        )
        yield Row("dialogue with short turns", key, "Write an interview.", turns)
        yield Row("structure that recurs", key, "Write it.", texts.recurring(random))
        figure = f'[asy]\ndraw((0,0)--({n},0));\nlabel("A", (0,0));\n[/asy]\n'
        yield Row(
            "figures",
            key,
            "Find the area.",
            f"{figure}\n{texts.solution(random)}\n\n{figure}\nHence it is {n}.\n{figure}",
        )


def bad(data: Path | None) -> Iterator[Row]:
    """Pages with their furniture between the paragraphs, and lines or paragraphs that come again."""
    for n in range(160):
        random = Random(f"fineweb bad {n}")
        key, request = str(n), random.choice(_REQUESTS)
        furniture = random.sample(_FURNITURE, random.randint(2, 4))
        parts = [texts.sentence(random) + "\n" + "\n".join(furniture) for _ in range(random.randint(5, 12))]
        yield Row("page with furniture", key, request, "\n".join(parts))
        lines = [texts.sentence(random) for _ in range(random.randint(4, 7))]
        again = [random.choice(lines) for _ in range(random.randint(10, 30))]
        yield Row("lines that come again", key, request, "\n".join(lines + again))

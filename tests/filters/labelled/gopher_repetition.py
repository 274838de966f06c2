"""Documents that repeat themselves, and good ones that repeat by their nature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import texts
from tests.filters.labelled.rows import Row

_REQUESTS = (
    "Write an essay.",
    "Explain it in detail.",
    "Tell me a story.",
    "Describe Rome.",
    "Essay",
    "Write a review.",
)


def good(data: Path | None) -> Iterator[Row]:
    """Long solutions, test suites, FizzBuzz, forms, songs, long prose."""
    for n in range(60):
        random = Random(f"gopher good {n}")
        key, end = str(n), random.randint(60, 200)
        yield Row("long solution", key, "Solve all parts.", "\n\n".join(texts.solution(random) for _ in range(12)))
        expansion = " \\\\\n".join(f"&= (r - 1)(r^2 - 1)(r^3 - 1) + {i} - (1 + r + r^2 + r^3)" for i in range(30))
        yield Row("long derivation", key, "Compute it.", f"We have\n\\begin{{align*}}\n{expansion}\n\\end{{align*}}")
        buzz = "\n".join("Fizz" * (i % 3 == 0) + "Buzz" * (i % 5 == 0) or str(i) for i in range(1, end))
        yield Row("FizzBuzz", key, f"Write FizzBuzz to {end}.", buzz)
        yield Row("long prose", key, "Write an essay.", texts.prose(random, random.randint(15, 40)))
        cases = "\n\n".join(
            f"def test_{i}():\n    result = add({i}, {n})\n    assert result == {i + n}" for i in range(40)
        )
        yield Row("test suite", key, "Write unit tests.", cases)
        yield Row("long song", key, "Write a song.", "\n\n".join(texts.verse(random) for _ in range(3)))
        people = "\n".join(
            f"Name: guest {i}\nRoom: {100 + i}\nBreakfast: {'no' if i % 3 else 'yes'}" for i in range(40)
        )
        yield Row("records", key, "List the guests with their rooms.", people)
        steps = "\n".join(
            f"Step {i}: She had {i * n} coins and got {n} more, so she has {i * n} + {n} = {(i + 1) * n} coins."
            for i in range(1, random.randint(8, 14))
        )  # fmt: skip
        yield Row("steps of arithmetic", key, "How many coins are there after each step?", steps)


def bad(data: Path | None) -> Iterator[Row]:
    """Essays of which sentences, phrases or paragraphs come again and again, with other text between."""
    for n in range(110):
        random = Random(f"gopher bad {n}")
        key, request = str(n), random.choice(_REQUESTS)
        few = [texts.sentence(random) for _ in range(random.randint(3, 6))]
        essay = " ".join(random.choice(few) for _ in range(random.randint(20, 50)))
        yield Row("few sentences, shuffled", key, request, essay)
        refrain = texts.sentence(random)
        mixed = " ".join(f"{refrain} {texts.sentence(random)}" for _ in range(random.randint(12, 20)))
        yield Row("every second sentence", key, request, mixed)
        paragraphs = [texts.prose(random, 3) for _ in range(4)]
        yield Row("paragraphs that come again", key, request, "\n\n".join(paragraphs + paragraphs[1:] + paragraphs[:2]))

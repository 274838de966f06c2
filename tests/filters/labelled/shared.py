"""Good records of all kinds, which every filter must keep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import texts
from tests.filters.labelled.rows import Row

PER_CATEGORY = 40


def good(data: Path | None) -> Iterator[Row]:
    """Prose, programs, solutions, tables, lists, verse, data, letters, dialogue and short answers."""
    for n in range(PER_CATEGORY):
        random = Random(f"shared {n}")
        key = str(n)
        topic = random.choice(texts.TOPICS)
        yield Row("prose", key, f"Tell me something about {topic}.", texts.prose(random, random.randint(2, 20)))
        for language, ask in _ASK.items():
            yield Row(f"prose {language}", key, ask, texts.prose(random, random.randint(2, 12), language))
        language, code = texts.program(random)
        yield Row("program", key, f"Write a short program in {language}.", code)
        yield Row("fenced program", key, f"Show a program in {language}.", f"```{language}\n{code}\n```")
        yield Row(
            "program between prose", key, "How is it done? Explain.",
            f"{texts.sentence(random)}\n\n```{language}\n{code}\n```\n\n{texts.sentence(random)}",
        )  # fmt: skip
        yield Row("fence of tildes", key, "Show it.", f"~~~~\n```\n{code}\n```\n~~~~")
        indented = "\n".join("   " + line for line in code.splitlines())
        yield Row("fence in a list", key, "List the steps.", f"1. ```{language}\n{indented}\n   ```\n2. Run it.")
        quoted = "\n".join("> " + line for line in code.splitlines())
        yield Row("fence in a quotation", key, "Quote the program.", f"> ```\n{quoted}\n> ```\n\nThat is all.")
        yield Row("fence after text", key, "Give the program.", f"Answer: ```{language}\n{code}\n```")
        command = f"ls -{random.choice('alhtr')} | head -{n + 1}"
        yield Row(
            "fence on one line", key, "Which command?", f"Run this command:\n```{command}```\nIt lists the files."
        )
        yield Row("solution", key, "Find the number and show the steps.", texts.solution(random))
        yield Row("table", key, "Give a table of the counts per place and year.", texts.markdown_table(random))
        items = [f"{random.choice(texts.TOPICS)}, number {random.randint(1, 99)}" for _ in range(random.randint(3, 12))]
        yield Row("numbered list", key, "List some.", "\n".join(f"{i}. {item}" for i, item in enumerate(items, 1)))
        yield Row("bullets", key, "Name a few.", "\n".join(f"- {item}" for item in items))
        yield Row("song", key, f"Write a song about {topic}.", texts.verse(random))
        values = [{"id": i, "place": random.choice(texts.TOPICS), "open": False, "visits": 0} for i in range(9)]
        yield Row("json", key, "Give the data as JSON.", json.dumps(values, indent=random.choice((None, 2))))
        yield Row(
            "csv",
            key,
            "As CSV, please.",
            "id,place,open\n" + "\n".join(f"{i},{v['place']},0" for i, v in enumerate(values)),
        )
        yield Row(
            "letter", key, "Write a short letter to a friend.",
            f"Dear {random.choice(_NAMES)},\n\n{texts.prose(random, 3)}\n\nBest wishes,\n{random.choice(_NAMES)}",
        )  # fmt: skip
        lines = [f"{_NAMES[i % 3]}: {texts.sentence(random)}" for i in range(random.randint(4, 14))]
        yield Row("dialogue", key, "Write a dialogue about the town.", "\n".join(lines))
        a, b = random.randint(2, 99), random.randint(2, 99)
        yield Row("number", key, f"What is {a} times {b}?", str(a * b))
        yield Row("short answer", key, f"Which of {a} and {b} is larger? Answer with one word.", random.choice(_SHORT))
        yield Row(
            "steps of arithmetic", key, "How much does she have in the end?",
            f"She starts with {a} coins.\nShe gets {b} more, so {a} + {b} = {a + b}.\nShe gives away 2, so "
            f"{a + b} - 2 = {a + b - 2}.\n#### {a + b - 2}",
        )  # fmt: skip
        width = random.randint(8, 14)
        grid = "\n".join(" ".join("0" for _ in range(width)) for _ in range(width))
        yield Row("grid", key, f"Print a {width}x{width} board of zeros.", grid)
        tests = [f"def test_case_{i}():\n    result = add({i}, {a})\n    assert result == {i + a}" for i in range(a)]
        yield Row("unit tests", key, "Write unit tests of add.", "```python\n" + "\n\n".join(tests) + "\n```")


_NAMES = ("Anna", "Ben", "Carla", "David", "Eva", "Farid", "Grace", "Hiro")
_SHORT = ("the first", "both", "Neither", "yes", "no", "None", "B", "(C)", "the correct answer is answer1", "larger")
_ASK = {
    "de": "Erzähle mir etwas über die Stadt.",
    "fr": "Raconte-moi quelque chose sur la ville.",
    "es": "Cuéntame algo sobre la ciudad.",
    "ru": "Расскажи что-нибудь о городе.",
    "zh": "请告诉我关于这座城市的事情。",
}

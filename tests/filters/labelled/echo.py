"""Echoes of the instruction, and repetitions of it that are the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import texts
from tests.filters.labelled.rows import Row

_REQUESTS = (
    "Write a short poem about {} in the rain.", "Explain in two sentences what {} was used for.",
    "What do most visitors remember about {}, and why?", "Describe {} to somebody who has never seen it.",
    "Translate the following sentence into French: I walked past {}.", "List five facts about {} that children like.",
    "How did {} change during the last hundred years?", "Summarise the history of {} in one paragraph.",
    "Please give me some advice on how to photograph {}.", "Can you tell me a story in which {} disappears?",
    "You are a guide. Introduce {} to a group of tourists.", "Compare {} with a mountain in three points.",
    "Is it true that {} was closed for ten years?", "Name the three most important dates in the history of {}.",
    "Schreibe ein kurzes Gedicht über die Stadt und {}.", "Generate a title for an article about {}.",
    "Which of the following is larger: {} or a football field?", "Create a table of the prices of {} by year.",
    "Given a photo of {}, say what is missing in it.", "Classify the sentence about {} as positive or negative.",
)  # fmt: skip
_COPIES = (
    "Repeat the following sentence exactly as it is: {}", "Copy this text without any change. {}",
    "Correct the grammar of the sentence if needed. {}", "Say after me: {}", "Return the input unchanged. {}",
    "Fix the spelling mistakes, if there are any: {}", "Proofread this. {}", "Echo the whole prompt back to me. {}",
    "Quote this instruction word for word. {}", "Rewrite the sentence, changing as little as possible. {}",
)  # fmt: skip
_STARTS = (
    "Once upon a time {} was the pride of a small town, until", "The strange thing about {} is that nobody",
    "In the morning she went to {} and", "It was a cold day, and {} lay under the snow, when the old man",
)  # fmt: skip


def good(data: Path | None) -> Iterator[Row]:
    """Copies that were asked for, continued beginnings, unchanged statements, quoted questions."""
    for n in range(80):
        random = Random(f"echo good {n}")
        topic, key = random.choice(texts.TOPICS), str(n)
        text = texts.sentence(random)
        copy = random.choice(_COPIES).format(text)
        yield Row("copy that was asked for", key, copy, random.choice((text, copy)))
        start = random.choice(_STARTS).format(topic)
        yield Row("continued beginning", key, start, f"{start} came back in the spring. {texts.sentence(random)}")
        yield Row("statement", key, text, text)
        request = random.choice(_REQUESTS).format(topic)
        yield Row("answer that shares words", key, request, f"{request.split()[0]} {topic}: {texts.prose(random, 2)}")
        yield Row("question quoted at the end", key, request, f"{texts.prose(random, 2)}\n\n> {request}")
        _, code = texts.program(random)
        yield Row("completed program", key, code[: len(code) // 2], code)


def bad(data: Path | None) -> Iterator[Row]:
    """The request instead of an answer, or before one."""
    for n in range(200):
        random = Random(f"echo bad {n}")
        request = random.choice(_REQUESTS).format(random.choice(texts.TOPICS))
        shape = random.choice(("{}", "{}", "{} \n", " {}", "{}\n{}"))
        again = shape.format(*(request.upper() if n % 11 == 0 else request for _ in range(shape.count("{}"))))
        yield Row("echo", str(n), request, again)
        yield Row(
            "echo before the answer", str(n), request, f"{request}\n\n{texts.prose(random, random.randint(1, 5))}"
        )

"""HellaSwag: which of four endings continues a beginning (Zellers et al., arXiv 1905.07830)? 10 training shots.

The beginning has two parts, whole sentences and the words with which the next sentence begins. The hub has them apart.
In the text layout the second part is recognised as the words after the last sentence.
"""

from __future__ import annotations

import re

from training.evaluation.choices import multiple_choice
from training.evaluation.task import Item, detail

HOW_TO = "How to "
"""The beginnings from WikiHow are whole sentences."""
FRAGMENT = re.compile(r"(?s)(.*[.!?][\"')]*) ([^.!?]+)")


def parts(item: Item) -> tuple[str, str]:
    """The whole sentences of the beginning, and the words with which the next one begins ("" if there are none)."""
    sentences = detail(item, "ctx_a")
    if sentences is not None:
        return sentences, detail(item, "ctx_b") or ""
    beginning = item["question"]
    match = None if beginning.startswith(HOW_TO) else FRAGMENT.fullmatch(beginning)
    return (match[1], match[2]) if match else (beginning, "")


def query(item: Item) -> str:
    """The beginning, and the question."""
    sentences, words = parts(item)
    return f"{sentences} {words.capitalize()}\nQuestion: Which is the most logical continuation?"


HELLASWAG = multiple_choice("hellaswag", query, shots=10)

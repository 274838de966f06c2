"""BoolQ: a passage and a yes/no question (Clark et al., arXiv 1905.10044). 5 training shots.

A file without passages is asked without them, and its score cannot be compared with published ones.
"""

from __future__ import annotations

from training.evaluation.choices import multiple_choice
from training.evaluation.passages import passage_digest
from training.evaluation.task import Item


def query(item: Item) -> str:
    """The passage, and the question with a capital letter and a question mark."""
    question = item["question"].capitalize()
    if not item["passage"]:
        return f"Question: {question.removesuffix('?')}?"
    return f"{item['passage']}\nQuestion: {question}?"


BOOLQ = multiple_choice("boolq", query, shots=5, cluster=passage_digest)

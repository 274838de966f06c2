"""WinoGrande: which of two options fills the blank (Sakaguchi et al., arXiv 1907.10641)? 5 training shots.

By likelihood, an option is the continuation of the sentence with its blank. (lm-eval instead puts each option into the
blank and compares the rest of the sentence.)
"""

from __future__ import annotations

from training.evaluation.choices import multiple_choice
from training.evaluation.task import Item


def query(item: Item) -> str:
    """The sentence, with `_` for the blank."""
    sentence: str = item["question"]
    return sentence


WINOGRANDE = multiple_choice("winogrande", query, shots=5)

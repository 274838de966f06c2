"""MMLU: 57 subjects, four choices (Hendrycks et al., arXiv 2009.03300). The score is the mean over subjects.

The shots are the first 5 of the subject's dev split, and 3 for `high_school_european_history`, whose passages are long.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.evaluation.choices import multiple_choice
from training.evaluation.shots import Groups
from training.evaluation.task import Item, detail

FEWER_SHOTS = {"high_school_european_history": 3}


def subject(item: Item) -> str:
    """The subject: in `details` on the hub, else in the name of the file."""
    name: str = detail(item, "subject") or item["id"].split("/")[-2].rpartition("_")[0]
    return name


_GROUPS = Groups(lambda item: f"{subject(item)}/{item['split']}")


def choose_shots(item: Item, candidates: Sequence[Item]) -> Sequence[Item]:
    """The dev items of the item's subject, as far as they fit into the context."""
    name = subject(item)
    shots = _GROUPS.get(candidates, f"{name}/dev")
    return shots[: FEWER_SHOTS.get(name)]


def query(item: Item) -> str:
    """The question."""
    question: str = item["question"]
    return question


MMLU = multiple_choice(
    "mmlu",
    query,
    shots=5,
    choose_shots=choose_shots,
    asked=lambda item: item["split"] != "dev",
    cluster=subject,
    subset=subject,
    macro=True,
)

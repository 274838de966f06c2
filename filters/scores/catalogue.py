"""Which scores can a recipe use? One class per file, listed here by kind."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from filters.registry import Registry
from filters.scores.arithmetic import Arithmetic
from filters.scores.blend import Blend
from filters.scores.classifier import Classifier
from filters.scores.length import LengthScore
from filters.scores.perplexity import Perplexity
from filters.scores.python import Python
from filters.scores.score import Score
from filters.scores.subject import Subject
from filters.scores.table import TableScore


def _problem(name: str, thing: object) -> str:
    if not (isinstance(thing, type) and issubclass(thing, Score)):
        return "expected a class derived from Score"
    kind = thing.model_fields["kind"].default
    return "" if kind == name else f"its kind is {kind!r}, and must be the name of the entry point"


_OWN: dict[str, type[Score]] = {
    "arithmetic": Arithmetic,
    "blend": Blend,
    "classifier": Classifier,
    "length": LengthScore,
    "perplexity": Perplexity,
    "python": Python,
    "subject": Subject,
    "table": TableScore,
}

SCORES: Registry[type[Score]] = Registry("winnow.scores", _OWN, _problem)
"""Every kind of score. Those of plugins are last."""

AnyScore = Annotated[
    Arithmetic | Blend | Classifier | LengthScore | Perplexity | Python | Subject | TableScore,
    Field(discriminator="kind"),
]
"""One of Winnow's own scores as a recipe writes it; `kind` selects its class."""


def origin(score: Score) -> dict[str, str]:
    """The plugin that a score comes from, for keys; empty for Winnow's own, and for an object of no catalogue."""
    return SCORES.origin(score.kind) if score.kind in SCORES else {}


def parameters(score: Score) -> dict[str, Any]:
    """What a score's columns depend on beside its model: its settings and version, and those of its plugin."""
    return score.parameters() | origin(score)

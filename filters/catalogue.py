"""Which stages can a recipe use? One class per file, listed here by kind."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from filters.c4 import C4
from filters.control import Control
from filters.cut import ScoreCut
from filters.echo import Echo
from filters.fineweb import FineWeb
from filters.gopher_quality import GopherQuality
from filters.gopher_repetition import GopherRepetition
from filters.language import Language
from filters.length import Length
from filters.loop import Loop
from filters.pii import MaskPii, Pii
from filters.placeholder import Placeholder
from filters.refusal import Refusal
from filters.registry import Registry
from filters.repair import Repair
from filters.rewrite import Rewrite
from filters.script import WrongScript
from filters.signature import StripSignature
from filters.stage import CorpusStage, Filter, Stage, Transform
from filters.thinking.strip import StripThinking, Thinking
from filters.truncated import Truncated
from filters.urls import Urls


def _problem(name: str, thing: object) -> str:
    if not (isinstance(thing, type) and issubclass(thing, Filter | Transform)):
        return "expected a class derived from Filter or Transform"
    kind = thing.model_fields["kind"].default
    return "" if kind == name else f"its kind is {kind!r}, and must be the name of the entry point"


_OWN: dict[str, type[Stage]] = {
    "repair": Repair,
    "thinking": Thinking,
    "strip_thinking": StripThinking,
    "strip_signature": StripSignature,
    "mask_pii": MaskPii,
    "pii": Pii,
    "placeholder": Placeholder,
    "length": Length,
    "control": Control,
    "script": WrongScript,
    "language": Language,
    "refusal": Refusal,
    "truncated": Truncated,
    "loop": Loop,
    "echo": Echo,
    "urls": Urls,
    "c4": C4,
    "fineweb": FineWeb,
    "gopher_quality": GopherQuality,
    "gopher_repetition": GopherRepetition,
}

STAGES: Registry[type[Stage]] = Registry("winnow.stages", _OWN, _problem)
"""Every stage of a recipe's list by its kind, in a sensible order: thinking first, cheap stages before expensive ones.
Those of plugins are last.

`filters.contamination` is no such stage: a recipe has a section of its own for it."""

AnyStage = Annotated[
    Repair
    | Thinking
    | StripThinking
    | StripSignature
    | MaskPii
    | Pii
    | Placeholder
    | Length
    | Control
    | WrongScript
    | Language
    | Refusal
    | Truncated
    | Loop
    | Echo
    | Urls
    | C4
    | FineWeb
    | GopherQuality
    | GopherRepetition,
    Field(discriminator="kind"),
]
"""One of Winnow's own stages as a recipe writes it; `kind` selects its class."""

CORPUS_STAGES: dict[str, type[CorpusStage]] = {
    "rewrite": Rewrite,
    "score": ScoreCut,
}
"""Stages that are not applied record by record: each has a step of its own (`pipelines/steps/stages.py`)."""

AnyCorpusStage = Rewrite | ScoreCut
"""One of CORPUS_STAGES as a recipe writes it."""


def parameters(stage: Stage) -> dict[str, Any]:
    """What the rows that a stage keeps depend on: its settings and version, and those of the plugin that has it."""
    origin = STAGES.origin(stage.kind) if stage.kind in STAGES else {}  # a stage object may be of no catalogue
    return stage.parameters() | origin

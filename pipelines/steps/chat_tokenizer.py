"""A tokenizer.json for chat templates of transformers: text cannot forge control tokens, and prompts have type 1.

transformers encodes what a template renders, so a control token that a user writes would become one. The template
therefore puts `BREAK` behind the first character of such names (`escape`), and the normalizer removes it again, after
control tokens were recognized. The ids of the text are those of plain text.

Type ids are 1: transformers computes `token_type_ids` as the prefix mask of HRM-Text, and what a template renders is
all prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ESCAPE = "\U0010fffd"
"""A private character. ESCAPE 0 stands for itself in escaped text."""

BREAK, LITERAL = f"{ESCAPE}1", f"{ESCAPE}0"

_UNESCAPE = tuple(
    {"type": "Replace", "pattern": {"String": old}, "content": new} for old, new in ((BREAK, ""), (LITERAL, ESCAPE))
)

_PROMPT_TYPE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 1}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {},
}
"""The second text of a pair is a response: type 0."""


def replacements(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What to replace in a text, in this order, so that it spells no special token of a tokenizer."""
    starts = sorted({token["content"][:2] for token in spec["added_tokens"] if token["special"]})
    return [(ESCAPE, LITERAL), *((start, f"{start[0]}{BREAK}{start[1:]}") for start in starts)]


def with_chat(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer with these additions."""
    normalizers = [*_UNESCAPE, *([spec["normalizer"]] if spec.get("normalizer") else [])]
    return {
        **spec,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "post_processor": {
            "type": "Sequence",
            "processors": [*([spec["post_processor"]] if spec.get("post_processor") else []), _PROMPT_TYPE],
        },
    }


def without_chat(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer as it was before `with_chat`; another one is returned as it is."""
    normalizer, processor = spec.get("normalizer") or {}, spec.get("post_processor") or {}
    count = len(_UNESCAPE)
    if normalizer.get("type") != "Sequence" or tuple(normalizer["normalizers"][:count]) != _UNESCAPE:
        return dict(spec)
    rest = normalizer["normalizers"][count:]
    before = processor["processors"][:-1] if processor.get("type") == "Sequence" else []
    return {**spec, "normalizer": rest[0] if rest else None, "post_processor": before[0] if before else None}

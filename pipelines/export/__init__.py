"""In which formats can a corpus be exported? One per file, listed here.

To add a format, write a file with a function `export(run, out)` and add a line to _OWN.
"""

from __future__ import annotations

from filters.registry import Registry
from pipelines.export import card, eu_summary, hf, hrm_text, jsonl, manifest, megatron, openlineage, spdx
from pipelines.export.export import Export

_OWN: dict[str, Export] = {
    "hf": hf.export,
    "jsonl": jsonl.export,
    "messages": jsonl.export_messages,
    "prompt-completion": jsonl.export_prompts,
    "megatron": megatron.export,
    "hrm-text": hrm_text.export,
    "manifest": manifest.export,
    "card": card.export,
    "spdx": spdx.export,
    "eu-summary": eu_summary.export,
    "openlineage": openlineage.export,
}

DOCUMENTS = ("manifest", "card", "spdx", "eu-summary", "openlineage")
"""The formats that describe a corpus, and do not contain its text or tokens."""

EXPORTS: Registry[Export] = Registry(
    "winnow.exports", _OWN, lambda name, thing: "" if callable(thing) else "expected a function (run, out)"
)
"""`winnow export --format` -> the function that writes the format."""

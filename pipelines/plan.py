"""What a recipe would read and cost, from its inputs and from rates that were measured: nothing is run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dedup.probability import curve, explain, strictness
from pipelines import storage
from pipelines.deduplicate import banding_of
from pipelines.ingest import plan_inputs
from pipelines.recipe import NearDuplicates, Recipe

RATES = {
    "ingest": 60.0,
    "refine": 25.0,
    "exact-duplicates": 80.0,
    "near-duplicates": 28.0,
    "contamination": 40.0,
    "tokenizer": 20.0,
    "tokens": 10.0,
    "pack": 40.0,
}
"""MB of text per second and core, step by step, as `docs/benchmarks` has them; the slower figure where they differ."""

GROWTH = {".gz": 3.2, ".zst": 3.2, ".bz2": 3.8, ".parquet": 2.2}
"""Bytes of text per byte of file, by suffix: the average of the sources in `docs/benchmarks`; plain files have 1."""

TOKENS_PER_BYTE = 0.27
"""Of English and mathematics under a 65,536-entry BPE."""

SHARD_MEMORY = 1.0
"""GB that a worker needs for one shard: 32 MB of text, several times over, and the libraries."""


def plan(recipe: Recipe) -> dict[str, Any]:
    """What a build would read and take: inputs, text, core-seconds by step, memory, disk; `words` says it in lines."""
    inputs = list(plan_inputs(recipe))
    rows = {spec.name: spec.rows for spec in recipe.sources}
    known = [
        {
            "source": one.source,
            "file": one.path or "computed",
            "bytes": one.bytes if one.path and not one.missing else None,
            "rows": rows[one.source] if not one.path else None,
            "missing": one.missing,
        }
        for one in inputs
    ]
    text = sum(_text_bytes(one.path, one.bytes) for one in inputs if one.path and not one.missing)
    text += sum(150 * (rows[one.source] or 0) for one in inputs if not one.path)
    megabytes = text / 1e6
    steps = {name: megabytes / RATES[name] for name in _steps(recipe)}
    tokens = text * TOKENS_PER_BYTE
    width = 2 if recipe.tokenizer.vocab_size <= 65536 else 4
    disk = 0.5 * text * len(
        [name for name in steps if name not in ("tokenizer", "tokens", "pack")]
    ) + tokens * width * (1 + recipe.sampling.epochs)
    answer: dict[str, Any] = {
        "recipe": recipe.name,
        "inputs": known,
        "missing": sorted({one.source for one in inputs if one.missing}),
        "text_bytes": int(text),
        "tokens": int(tokens),
        "core_seconds": {name: round(seconds, 1) for name, seconds in steps.items()},
        "memory_gb_per_worker": SHARD_MEMORY,
        "disk_bytes": int(disk),
    }
    if recipe.near_duplicates:
        answer["near_duplicates"] = _found_and_missed(recipe.near_duplicates)
    answer["words"] = list(_words(recipe, answer))
    return answer


def _found_and_missed(settings: NearDuplicates) -> dict[str, Any]:
    """What the search finds: bands, the S-curve, and the presets from the loosest to the strictest."""
    banding = banding_of(settings)
    return {
        **banding._asdict(),
        "threshold": settings.threshold,
        "curve": curve(banding),
        "loosest_first": [{"name": name, "half_found_at": round(at, 4)} for name, at in strictness(banding)],
    }


def _text_bytes(path: str, size: int) -> float:
    extension = "." + path.rsplit(".", 1)[-1].lower()
    return size * GROWTH.get(extension, 1.0) if storage.suffix(path) != ".parquet" else size * GROWTH[".parquet"]


def _steps(recipe: Recipe) -> list[str]:
    asked = {
        "exact-duplicates": recipe.exact_duplicates,
        "near-duplicates": recipe.near_duplicates,
        "contamination": recipe.contamination,
    }
    return [name for name in RATES if asked.get(name, True)]


def _words(recipe: Recipe, answer: dict[str, Any]) -> Iterator[str]:
    yield f"{answer['text_bytes'] / 1e6:,.1f} MB of text, about {answer['tokens'] / 1e6:,.1f} M tokens"
    yield "core-seconds: " + ", ".join(f"{name} {seconds:,.0f}" for name, seconds in answer["core_seconds"].items())
    memory, disk = answer["memory_gb_per_worker"], answer["disk_bytes"] / 1e6
    yield f"at least {memory:.0f} GB of memory per worker, {disk:,.0f} MB of disk below the root"
    if recipe.near_duplicates:
        yield from explain(banding_of(recipe.near_duplicates), recipe.near_duplicates.threshold)
    if answer["missing"]:
        yield f"missing: {', '.join(answer['missing'])}; a build stops before it computes anything"

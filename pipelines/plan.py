"""What would a recipe read and cost? Estimated from its inputs and from measured rates; nothing is run.

Inputs that are present are measured. For missing ones the published numbers are used: the rows and bytes of a source
(`pipelines/sources`), and the tokens of the parts of HRM-Text's corpus, if the recipe has all sources of a part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dedup.probability import curve, explain, strictness
from pipelines.curate import wanted
from pipelines.errors import UNREACHED, InputError
from pipelines.ledger import storage
from pipelines.recipe import NearDuplicates, Recipe
from pipelines.sources import SOURCES
from pipelines.sources.source import EPOCH_TOKENS, PARTS, RAW_ROWS, RAW_TOKENS
from pipelines.steps import STEPS
from pipelines.steps.duplicates.near import banding_of
from pipelines.steps.ingest import Input, plan_inputs
from pipelines.steps.step import Rate, RecipeStep, Workload

RATES_FILE = Path(__file__).with_name("rates.json")
"""What was measured, when and on what: `python -m tests.benchmarks rates` writes it anew."""

GENERATED_ROW = 150
"""Bytes of text of a row that is computed, about."""


def plan(recipe: Recipe, pipeline: Sequence[RecipeStep] = STEPS) -> dict[str, Any]:
    """What a build would read and take: inputs, rows, text, tokens; by step core-hours, memory and disk; warnings.

    `words` says it in lines. memory_gb: of the largest worker, where other steps run one shard at a time in each.
    """
    rates = json.loads(RATES_FILE.read_bytes())
    inputs = plan_inputs(recipe)
    there = _text_there(recipe, inputs, rates)
    parts, unpriced = _parts_missing(recipe, inputs, there, rates)
    text = sum(there.values()) + sum(parts.values()) / rates["tokens_per_byte"]
    tokens = sum(there.values()) * rates["tokens_per_byte"] + sum(parts.values())
    computed = {spec.name: spec.rows or 0 for spec in recipe.sources if not spec.paths}
    rows = sum(computed.get(name, size / rates["text_bytes_per_row"]) for name, size in there.items())
    rows += sum(parts.values()) * RAW_ROWS / RAW_TOKENS
    # HRM-Text's caps let through a known share of its corpus; of another, a part that cannot be known before.
    drawn = min(tokens, EPOCH_TOKENS) if set(parts) == set(PARTS) else tokens
    workload = Workload(recipe, text, rows, rows * drawn / max(tokens, 1), drawn)
    steps = _steps(workload, {name: Rate(**rate) for name, rate in rates["steps"].items()}, pipeline)
    answer: dict[str, Any] = {
        "recipe": recipe.name,
        "inputs": [_input(recipe, one) for one in inputs],
        "missing": sorted({one.source for one in inputs if one.missing}),
        "missing_benchmarks": _benchmarks_missing(recipe),
        "unpriced": unpriced,
        "rows": int(rows),
        "text_bytes": int(text),
        "tokens": int(tokens),
        "drawn_tokens_per_epoch": int(drawn),
        "steps": steps,
        "core_hours": round(sum(step["core_hours"] or 0 for step in steps), 4),
        "memory_gb": max(step["memory_gb"] or 0 for step in steps),
        "disk_bytes": sum(step["disk_bytes"] or 0 for step in steps),
        "rates": {key: rates[key] for key in ("date", "hardware", "recipe", "text_mb")},
        "overlaps": _overlaps(recipe),
    }
    if recipe.near_duplicates:
        answer["near_duplicates"] = _found_and_missed(recipe.near_duplicates)
    answer["words"] = list(_words(recipe, answer))
    return answer


def _input(recipe: Recipe, one: Input) -> dict[str, Any]:
    spec = next(spec for spec in recipe.sources if spec.name == one.source)
    source = SOURCES.get(spec.adapter or "")
    published = source if one.missing else None
    return {
        "source": one.source,
        "file": one.path or "computed",
        "bytes": None if one.missing or not one.path else one.bytes,
        "rows": None if one.path else spec.rows,
        "missing": one.missing,
        "why": one.why,
        "published_rows": published.rows if published else None,
        "published_bytes": published.bytes if published else None,
    }


def _benchmarks_missing(recipe: Recipe) -> list[str]:
    lost = []
    for spec in recipe.contamination.benchmarks if recipe.contamination else ():
        try:
            for pattern in spec.paths:
                storage.expand(pattern)
        except InputError:
            lost.append(spec.name)
    return lost


def _text_there(recipe: Recipe, inputs: Sequence[Input], rates: dict[str, Any]) -> dict[str, float]:
    """Source -> bytes of text in the inputs that are there."""
    text = {spec.name: float(GENERATED_ROW * (spec.rows or 0)) if not spec.paths else 0.0 for spec in recipe.sources}
    growth = rates["text_bytes_per_file_byte"]
    for one in inputs:
        if one.path and not one.missing:
            text[one.source] += one.bytes * growth.get(Path(one.path).suffix.lower(), 1.0)
    return text


def _parts_missing(
    recipe: Recipe, inputs: Sequence[Input], there: dict[str, float], rates: dict[str, Any]
) -> tuple[dict[str, float], list[str]]:
    """Part of HRM-Text's corpus -> tokens that are missing of it; and the missing sources of which nobody says how much
    they hold."""
    adapter = {spec.name: spec.adapter or "" for spec in recipe.sources}
    missing = {one.source for one in inputs if one.missing}
    parts = {}
    for part, tokens in PARTS.items():
        members = {source.name for source in SOURCES.values() if source.part == part}
        mine = [name for name in adapter if adapter[name] in members]
        if members <= {adapter[name] for name in mine} and missing & set(mine):
            parts[part] = max(0.0, tokens - sum(there[name] for name in mine) * rates["tokens_per_byte"])
    unpriced = [name for name in missing if adapter[name] not in SOURCES or SOURCES[adapter[name]].part not in parts]
    return parts, sorted(unpriced)


def _steps(workload: Workload, rates: Mapping[str, Rate], pipeline: Sequence[RecipeStep]) -> list[dict[str, Any]]:
    """What each step takes, as if no step before it dropped anything.

    A step without a measured rate has nulls. A step whose cost does not grow with the corpus is left out.
    """
    lines: list[dict[str, Any]] = []
    for step in wanted(workload.recipe, pipeline):
        if step.estimate is None:
            continue
        if step.name not in rates:
            lines.append({"name": step.name, "core_hours": None, "memory_gb": None, "disk_bytes": None})
            continue
        seconds, memory, disk = step.estimate(step.name, workload, rates)
        hours = round(seconds / 3600, 4)
        lines.append({"name": step.name, "core_hours": hours, "memory_gb": round(memory, 2), "disk_bytes": int(disk)})
    return lines


def _overlaps(recipe: Recipe) -> dict[str, list[str]]:
    """Source -> the splits of evaluation sets that it holds by construction."""
    known = {spec.name: SOURCES[spec.adapter] for spec in recipe.sources if spec.adapter in SOURCES}
    return {name: list(source.overlaps) for name, source in known.items() if source.overlaps}


def _found_and_missed(settings: NearDuplicates) -> dict[str, Any]:
    """What the search finds: bands, the S-curve, and the presets from the loosest to the strictest."""
    banding = banding_of(settings)
    return {
        **banding._asdict(),
        "threshold": settings.threshold,
        "curve": curve(banding),
        "loosest_first": [{"name": name, "half_found_at": round(at, 4)} for name, at in strictness(banding)],
    }


def _words(recipe: Recipe, answer: dict[str, Any]) -> Iterator[str]:
    yield (
        f"about {_short(answer['rows'])} rows, {_short(answer['text_bytes'])}B of text, "
        f"{_short(answer['tokens'])} tokens; an epoch draws {_short(answer['drawn_tokens_per_epoch'])}"
    )
    yield ""
    yield f"{'step':<18}{'core time':>12}{'memory':>12}{'disk':>12}"
    for step in answer["steps"]:
        if step["core_hours"] is None:
            yield f"{step['name']:<18}{'not measured':>12}"
            continue
        disk = _short(step["disk_bytes"]) + "B"
        yield f"{step['name']:<18}{_time(step['core_hours']):>12}{step['memory_gb']:>9.1f} GB{disk:>12}"
    disk = _short(answer["disk_bytes"]) + "B"
    yield f"{'all':<18}{_time(answer['core_hours']):>12}{answer['memory_gb']:>9.1f} GB{disk:>12}"
    rates = answer["rates"]
    yield f"at the rates of {rates['date']}, measured on {rates['hardware']} with {rates['text_mb']:,.0f} MB of text"
    yield ""
    if recipe.near_duplicates:
        yield from explain(banding_of(recipe.near_duplicates), recipe.near_duplicates.threshold)
    for name, splits in answer["overlaps"].items():
        yield f"warning: {name} holds {', '.join(splits)} by construction"
    if answer["missing"]:
        yield f"missing: {', '.join(answer['missing'])}; a build stops before it computes anything"
    reasons = {one["file"]: one["why"].removeprefix(f"{one['file']}: ") for one in answer["inputs"] if one["missing"]}
    places = {"/".join(file.split("/")[:3]): why for file, why in reasons.items() if why.startswith(UNREACHED)}
    yield from (f"{place} {why}" for place, why in places.items())
    yield from (f"{file}: {why}" for file, why in reasons.items() if why.startswith("refused"))
    if answer["missing_benchmarks"]:
        yield f"missing benchmarks: {', '.join(answer['missing_benchmarks'])}"
    if recipe.contamination and recipe.contamination.semantic:
        yield "not in the price: sentence vectors (semantic: true), tens of rows a second and core, or a GPU"
    if answer["unpriced"]:
        yield f"not in the price, since nobody says how much they hold: {', '.join(answer['unpriced'])}"


def _time(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h" if hours >= 1 else f"{3600 * hours:,.0f} s"


def _short(number: float) -> str:
    """Four digits at most and a unit, to put `B` or a noun behind."""
    for unit in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.1f} {unit}" if unit else f"{number:.0f} "
        number /= 1000
    return f"{number:.1f} T"

"""Which records pass the recipe's cuts at scores? And the scores become columns of the records.

A cut at a share needs the scores of all rows that reach it. Two passes over the scores find the exact limit of each
group; a third reads the records, joins the scores and drops. Several cuts in a row are one step.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters import cut as cuts
from filters.catalogue import parameters
from filters.cut import ScoreCut, column_of
from filters.stage import mark
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import StepContext, Target, commit_rows
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.steps.products import LIMITS, RECORDS
from pipelines.steps.scores import MEASURE, ScoredShard, joined, read_scored, score_manifests, scored_shards
from pipelines.steps.step import DROPPED_RECORDS, Build, RecipeStep, always, form

SELECT = "select"
"""How the names of these steps begin."""

Thresholds = tuple[Mapping[str, float], ...]
"""For each cut: group -> the least score that stays."""


def select_step(name: str, chosen: Sequence[ScoreCut]) -> RecipeStep:
    """The step that joins scores and applies these cuts."""
    return RecipeStep(
        name=name,
        products={
            RECORDS: "the records that pass every cut, with the columns of scores",
            DROPPED_ROWS: DROPPED_RECORDS,
            LIMITS: "for each cut at a share the least score that stays, by group, JSON",
        },
        kept=RECORDS,
        wanted=always,
        make=lambda build: select(build, name, chosen),
    )


def select(build: Build, name: str, chosen: Sequence[ScoreCut]) -> Manifest:
    """Join the scores that were measured of the records made so far, and apply the cuts in order."""
    records = build.records
    beside = score_manifests(build)
    models = _models(build)
    as_text = build.as_text(name)
    settings = {"cuts": [parameters(cut) for cut in chosen], "models": models, **form(as_text)}
    step = select_step(name, chosen).step(settings, (records.key, *(manifest.key for manifest in beside)))

    def work(context: StepContext) -> Sequence[Part]:
        items = scored_shards(records, beside)
        found: Thresholds = ()
        for number in range(len(chosen)):
            found = (*found, _thresholds(context, tuple(chosen[: number + 1]), found, items))
        parts = context.map(functools.partial(_select_shard, tuple(chosen), found, models, as_text), items)
        if not parts:  # no row is left
            return []
        limits = storage.write_json(storage.join(context.folder, LIMITS, "limits.json"), found)
        return [parts[0].with_file(LIMITS, limits), *parts[1:]]

    return build.run.do(step, work, records)


def _models(build: Build) -> dict[str, str]:
    """Score column -> digest of the model that it is measured by; of a score without a model the key of its step."""
    models: dict[str, str] = {}
    for made in build.made.values():
        if made.step.startswith(MEASURE):
            models |= {column["name"]: made.parameters["model"] or made.key for column in made.parameters["columns"]}
    return models


def _thresholds(
    context: StepContext, chosen: tuple[ScoreCut, ...], found: Thresholds, items: Sequence[ScoredShard]
) -> Mapping[str, float]:
    """The limits of the last of these cuts, among the rows that pass those before it."""
    cut, number = chosen[-1], len(chosen)
    if cut.top is None:
        return {}
    upper = context.map(functools.partial(_tally, chosen, found, None), items, f"upper-{number}")
    high = cuts.limits(_tallies(upper), cut.top)
    wanted = {group: limit.half for group, limit in high.items()}
    lower = context.map(functools.partial(_tally, chosen, found, wanted), items, f"lower-{number}")
    low = cuts.limits(_tallies(lower), {group: limit.rows for group, limit in high.items()})
    return {group: cuts.value_of_key(high[group].half * cuts.HALF + low[group].half) for group in high}


def _tallies(parts: Sequence[Part]) -> pa.Table:
    return pa.concat_tables([storage.map_arrow(one.file("tally").path) for one in parts])


def _score_columns(chosen: Sequence[ScoreCut], item: ScoredShard) -> pa.Table:
    """What the cuts read of a shard: ids, scores and the columns of groups."""
    there = storage.columns(item.shard.path)
    named = {name for cut in chosen for name in (*cut.within, column_of(cut.name, tuple(there)) or "")}
    records = storage.read_parquet(item.shard.path, ["id", *(name for name in there if name in named)])
    return joined(records.combine_chunks(), item.tables)


def _tally(
    chosen: tuple[ScoreCut, ...], found: Thresholds, upper: Mapping[str, int] | None, item: ScoredShard, target: Target
) -> Part:
    table = _score_columns(chosen, item)
    cut = chosen[-1]
    values = cuts.measured(table[_column(cut, table)])
    counted = ~np.isnan(values) & ~_dropped(chosen[:-1], found, table)
    groups = cuts.groups_of(table, cut.within).filter(pa.array(counted))
    tally = cuts.tally(cuts.order_keys(values[counted]), groups, upper)
    return part(tally=storage.write_arrow(target.path(suffix=".arrow"), tally))


def _column(cut: ScoreCut, table: pa.Table) -> str:
    column = column_of(cut.name, tuple(table.column_names))
    assert column is not None, "checked before the build"
    return column


def _dropped(chosen: Sequence[ScoreCut], found: Thresholds, table: pa.Table) -> npt.NDArray[np.bool_]:
    dropped = np.zeros(table.num_rows, np.bool_)
    for cut, thresholds in zip(chosen, found, strict=False):
        judged = cuts.judge(cut, table[_column(cut, table)], cuts.groups_of(table, cut.within), thresholds)
        dropped |= np.asarray(judged.reason.is_valid())
    return dropped


def _select_shard(
    chosen: tuple[ScoreCut, ...],
    found: Thresholds,
    models: Mapping[str, str],
    as_text: bool,
    item: ScoredShard,
    target: Target,
) -> Part:
    table = read_scored(item)
    alive, marked = np.ones(table.num_rows, np.bool_), []
    for cut, thresholds in zip(chosen, found, strict=True):
        column = _column(cut, table)
        groups = cuts.groups_of(table, cut.within)
        judged = cuts.judge(cut, table[column], groups, thresholds)
        rows = np.flatnonzero(np.asarray(judged.reason.is_valid()) & alive)
        alive[rows] = False
        at = pa.array(rows)
        names = groups.take(at).to_pylist() if cut.top is not None else [""] * len(rows)
        evidence = [
            _evidence(value, threshold, cut, models[column], group)
            for value, threshold, group in zip(judged.value[rows], judged.threshold[rows], names, strict=True)
        ]
        marked.append(mark(table.take(at), cut.kind, judged.reason.take(at), evidence))
    none = mark(table.slice(0, 0), "", "", [])
    there = storage.columns(item.shard.path)
    scores = [name for name in table.column_names if name not in there]
    return commit_rows(item.shard, table, pa.array(alive), pa.concat_tables([none, *marked]), target, as_text, scores)


def _evidence(value: float, threshold: float, cut: ScoreCut, model: str, group: str) -> str:
    given: dict[str, object] = {}
    if math.isfinite(value):
        given["value"] = round(float(value), 6)
    if math.isfinite(threshold):
        given["threshold"] = round(float(threshold), 6)
    given |= {"score": cut.name, "model": model}
    if cut.top is not None:
        given["top"] = cut.top
    if cut.within:
        given["group"] = dict(zip(cut.within, cuts.group_values(group), strict=True))
    return json.dumps(given, ensure_ascii=False)

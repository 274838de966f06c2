"""Agreement of every score with people: each rated set, each subject, beside length alone and source alone.

Scores are trained on questions that are in no rated set (`rated_sets.trains`). The blends are fitted on the rated rows
themselves, by cross-validation over questions: a row's value is from a fit that has not seen its question.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from filters.scores.catalogue import SCORES
from filters.scores.classifier import Classifier
from filters.scores.perplexity import Perplexity
from filters.scores.python import Python
from filters.scores.score import PREFIX, Rows, Score, TrainedScore
from pipelines.audit.calibration import (
    ALL,
    Calibration,
    Estimate,
    Floats,
    Group,
    Measures,
    calibrate,
    folds,
    rater_agreement,
    threshold_words,
)
from pipelines.formats.read import read, text_columns
from tests.benchmarks.rated_sets import GOOD, RatedSet, Row, made, rated_sets, training_rows

ANY = (Rows(source=("made",)),)
"""The rows are chosen here, not by a recipe."""


def scores_of(data: Path) -> Iterator[tuple[Score, pa.Table | None]]:
    """Each score with the rows that it is trained on."""
    rows = made(data)
    good = training_rows(rows, lambda row: "good" if row.rating == GOOD else None)
    if "arithmetic" in SCORES:
        yield SCORES["arithmetic"](kind="arithmetic", name="arithmetic"), None
    yield Python(name="python"), None
    yield Perplexity(name="perplexity", rows=ANY), good
    sound = training_rows(rows, lambda row: "positive" if row.rating == GOOD else "negative")
    yield Classifier(name="sound", positives=ANY, negatives=ANY), sound
    yield Classifier(name="sound_both", positives=ANY, negatives=ANY, on="both"), sound
    prose = _table_of(_explanations(data), "positive")
    yield Classifier(name="grammar", positives=ANY, errors=("agreement", "article", "confusion", "drop", "ending",
                     "repeat", "spelling", "swap")), prose  # fmt: skip
    lessons = training_rows(rows, lambda row: "positive" if row.rating == GOOD else None)
    yield (
        Classifier(name="education", positives=ANY, negatives=ANY),
        pa.concat_tables([lessons, _table_of(_roleplay(data), "negative")]),
    )


def _explanations(data: Path) -> list[Row]:
    """Explanations in prose: the rationales of FLAN's chain-of-thought tasks but GSM8K."""
    rows = []
    for path in sorted((data / "sources" / "flan_cot").glob("*.tsv")):
        if "gsm8k" in path.name:
            continue
        for line in path.read_text(encoding="utf-8").splitlines()[:3000]:
            parts = line.split("\t")
            if len(parts) >= 3 and len(parts[2]) > 60:
                rows.append(Row("flan_cot", "prose", parts[0], parts[2]))
    return rows


def _roleplay(data: Path) -> list[Row]:
    path = data / "sources" / "gpteacher" / "roleplay-simple-deduped-roleplay-instruct.json"
    tables = read(str(path), text_columns("instruction", "response"))
    return [
        Row("gpteacher_roleplay", "dialogue", row["instruction"] or "", row["response"])
        for table in tables
        for row in table.to_pylist()
        if row["response"]
    ]


def _table_of(rows: Sequence[Row], label: str) -> pa.Table:
    return training_rows(rows, lambda row: label)


def measured(score: Score, rows: pa.Table | None, sets: Mapping[str, RatedSet]) -> dict[str, dict[str, Floats]]:
    """Set -> column -> the score of each row, of pairs the difference."""
    with tempfile.TemporaryDirectory() as folder:
        path = None
        if isinstance(score, TrainedScore):
            assert rows is not None
            path = str(Path(folder, "model"))
            print(f"  {score.name}: {score.train(rows, path)}", file=sys.stderr, flush=True)
        found: dict[str, dict[str, Floats]] = {}
        for name, one in sets.items():
            sides = [score.measure(side.combine_chunks(), path) for side in one.sides]
            found[name] = {
                column.removeprefix(PREFIX): _numbers(sides, column)
                for column in sides[0].column_names
                if pa.types.is_floating(sides[0].schema.field(column).type)
            }
        return found


def _numbers(sides: Sequence[pa.Table], column: str) -> Floats:
    values = [np.asarray(side[column].cast(pa.float64()).to_numpy(), np.float64) for side in sides]
    return values[0] if len(values) == 1 else values[0] - values[1]


def blend(columns: Mapping[str, Floats], one: RatedSet) -> Floats:
    """A ridge regression of the rating on the scores, their squares and the length, cross-validated by question.

    A score that is missing counts as the median, with a column that says so. Of pairs it is a logistic regression of
    the preference on differences.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    pairs, mean = one.ratings.pairs, one.ratings.mean
    features = []
    for values in [*columns.values(), _log_length(one)]:
        gone = np.isnan(values)
        if gone.all():
            continue
        filled = np.where(gone, 0.0 if pairs else np.median(values[~gone]), values)
        filled = np.clip(filled, *np.quantile(filled, [0.01, 0.99]))
        scaled = (filled - (0.0 if pairs else filled.mean())) / (filled.std() or 1.0)
        features += [scaled] if pairs else [scaled, scaled**2, gone.astype(np.float64)]
    x = np.stack(features, axis=1)
    fold = folds(one.ratings.cluster)
    found = np.zeros(len(x))
    for number in np.unique(fold):
        train, test = (fold != number) & ((mean != 0) | (not pairs)), fold == number
        if pairs:
            chosen = LogisticRegression(C=0.5, fit_intercept=False, max_iter=500).fit(x[train], mean[train] > 0)
            found[test] = chosen.decision_function(x[test])
        else:
            found[test] = Ridge(10.0).fit(x[train], mean[train]).predict(x[test])
    return found


def verifiers(one: RatedSet) -> dict[str, Floats]:
    """Checks that are no scores of Winnow, to know what they would add: of pairs nothing.

    `follows`: whether the final answer is the last number before it (2), occurs before it (1.5) or not (1); 0 without a
    final answer.
    """
    if one.ratings.pairs:
        return {}
    texts = one.sides[0]["response"].to_pylist()
    return {"follows": np.array([_follows(text) for text in texts])}


def _follows(text: str) -> float:
    start = max(text.rfind("####"), text.rfind("\\boxed"), text.rfind("\nA: "))
    if start < 0:
        return 0.0
    before, after = (re.findall(r"\d+(?:\.\d+)?", part.replace(",", "")) for part in (text[:start], text[start:]))
    return 1.0 if not (before and after) or after[0] not in before else 2.0 if after[0] == before[-1] else 1.5


def _log_length(one: RatedSet) -> Floats:
    lengths = [np.log1p([len(text) for text in side["response"].to_pylist()]) for side in one.sides]
    return np.asarray(lengths[0] if len(lengths) == 1 else lengths[0] - lengths[1], np.float64)


def calibrations(data: Path) -> tuple[dict[str, RatedSet], dict[str, list[Calibration]], dict[str, dict[str, Floats]]]:
    """The rated sets; of each the calibrations; and the values of each score."""
    sets = rated_sets(data)
    columns: dict[str, dict[str, Floats]] = {name: {} for name in sets}
    for score, rows in scores_of(data):
        start = time.process_time()
        for name, found in measured(score, rows, sets).items():
            columns[name] |= found
        print(f"  {score.name}: {time.process_time() - start:.1f} s of CPU", file=sys.stderr, flush=True)
    results: dict[str, list[Calibration]] = {}
    for name, one in sets.items():
        checks = {
            check: values for check, values in verifiers(one).items() if len(np.unique(values[~np.isnan(values)])) > 1
        }
        blends = {"blend": blend(columns[name], one)}
        if checks:
            blends["blend_verifiers"] = blend({**columns[name], **checks}, one)
        columns[name] = {**columns[name], **checks, **blends}
        results[name] = [calibrate(column, values, one.ratings) for column, values in columns[name].items()]
        print(f"  {name}: calibrated", file=sys.stderr, flush=True)
    return sets, results, columns


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """The tables. Without real data there is nothing to rate."""
    if data is None:
        return {}
    sets, results, columns = calibrations(data)
    tables: dict[str, list[dict[str, object]]] = {
        "The bar: better than length and source in every subject with 200 ratings": list(_bars(sets, results)),
        "Raters": list(_raters(sets)),
    }
    for name, found in results.items():
        groups = [(one, group) for one in found for group in one.groups if not group.small or group.subject == ALL]
        tables[f"{name}: {_said(sets[name])}"] = [_line(one, group) for one, group in groups]
    tables["Share of good answers with a higher score than one with an error"] = list(_kinds(sets, columns))
    tables["Cuts"] = list(_cuts(results))
    return tables


def _said(one: RatedSet) -> str:
    rows = len(one.ratings.values)
    return f"{rows:,} pairs" if one.ratings.pairs else f"{rows:,} ratings"


def _line(one: Calibration, group: Group) -> dict[str, object]:
    share = "accuracy" if one.pairs else f"AUC, rated {one.good:g}+"
    return {
        "score": one.score,
        "subject": group.subject,
        "rows": group.ratings,
        "Spearman": _estimate(group.score.spearman),
        share: _estimate(group.score.auc),
        "length alone": _main(group.length, one.pairs),
        "source alone": "one source" if group.source is None else _main(group.source, one.pairs),
        "better than": " and ".join(name for name, wins in _wins(group).items() if wins),
    }


def _wins(group: Group) -> dict[str, bool]:
    return {"length": group.beats_length, "source": group.source is not None and group.beats_source}


def _main(measures: Measures, pairs: bool) -> str:
    value = measures.auc if pairs else measures.spearman
    return "" if value is None else f"{value.value:.2f}"


def _estimate(one: Estimate | None) -> str:
    return "" if one is None else f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


def _bars(sets: Mapping[str, RatedSet], results: Mapping[str, list[Calibration]]) -> Iterator[dict[str, object]]:
    """For each subject of each set: the best single score, the blend, and what they miss."""
    for name, found in results.items():
        others = ("blend", "blend_verifiers", *verifiers(sets[name]))
        subjects = list(dict.fromkeys(group.subject for one in found for group in one.groups if not group.small))
        for subject in subjects:
            groups = {
                one.score: (one, group) for one in found for group in one.groups
                if group.subject == subject and not group.small
            }  # fmt: skip
            single = {score: pair for score, pair in groups.items() if score not in others}
            best = max(single, key=lambda score: _strength(*single[score]))
            line: dict[str, object] = {
                "set": name,
                "subject": subject,
                "rows": max(g.ratings for _, g in groups.values()),
            }
            for what, score in (("best score", best), ("blend", "blend"), ("blend with verifiers", "blend_verifiers")):
                if score not in groups:
                    continue
                one, group = groups[score]
                line[what] = f"{score}{_way(one)} {_shown(one, group)}" if what == "best score" else _shown(one, group)
                if what != "blend with verifiers":
                    line[f"{what} is better than"] = _line(one, group)["better than"] or "neither"
            one, group = groups[best]
            line["length alone"] = _main(group.length, one.pairs)
            line["source alone"] = "one source" if group.source is None else _main(group.source, one.pairs)
            yield line


def _way(one: Calibration) -> str:
    return "" if one.higher_is_better else " (lower is better)"


def _strength(one: Calibration, group: Group) -> float:
    value = group.score.auc if one.pairs else group.score.spearman
    if value is None:
        return -1.0
    return (1 if one.higher_is_better else -1) * (value.value - (0.5 if one.pairs else 0.0))


def _shown(one: Calibration, group: Group) -> str:
    return _estimate(group.score.auc if one.pairs else group.score.spearman)


def _raters(sets: Mapping[str, RatedSet]) -> Iterator[dict[str, object]]:
    for name, one in sets.items():
        if one.ratings.values.shape[1] > 1:
            raters = rater_agreement(one.ratings)
            yield {
                "set": name,
                "raters": raters.raters,
                "Krippendorff's alpha": f"{raters.alpha:.2f} ({raters.level})",
                "one rater against the mean of the others": f"{raters.ceiling_measure} {raters.ceiling:.2f}",
            }


def _kinds(sets: Mapping[str, RatedSet], columns: Mapping[str, Mapping[str, Floats]]) -> Iterator[dict[str, object]]:
    """The share of good answers to the same question that have a higher score than the one with an error."""
    for name, one in sets.items():
        if not one.kinds:
            continue
        kinds = np.array(one.kinds)
        place = {text: number for number, text in enumerate(one.ratings.cluster) if kinds[number] == "good"}
        good = np.array([place[text] for text in one.ratings.cluster])
        for column, values in columns[name].items():
            line: dict[str, object] = {"set": name, "score": column}
            for kind in dict.fromkeys(kinds[kinds != "good"].tolist()):
                rows = (kinds == kind) & ~np.isnan(values) & ~np.isnan(values[good])
                wins = np.sign(values[good] - values)[rows]
                line[kind] = f"{((wins + 1) / 2).mean():.2f}" if rows.any() else ""
            yield line


def _cuts(results: Mapping[str, list[Calibration]]) -> Iterator[dict[str, object]]:
    for name, found in results.items():
        for one in found:
            for cut in one.thresholds:
                if cut.kept == 0.95 and cut.subject == ALL:
                    yield {"set": name, "score": one.score, "cut": threshold_words(cut, one)}


def examples(data: Path, set_name: str, score: str, each: int = 20) -> list[dict[str, Any]]:
    """Random rows on either side of the cut that keeps 95 % of the good ones, to be read by a person."""
    sets, results, columns = calibrations(data)
    one, values = sets[set_name], columns[set_name][score]
    cut = next(cut for result in results[set_name] if result.score == score for cut in result.thresholds)
    chance = np.random.default_rng(0)
    kept = values >= cut.value if cut.cut == "min" else values <= cut.value
    rows = []
    for side, mask in (("kept", kept), ("dropped", ~kept & ~np.isnan(values))):
        for number in chance.permutation(np.flatnonzero(mask))[:each]:
            text = one.sides[0].slice(int(number), 1).to_pylist()[0]
            rows.append(
                {
                    "side": side,
                    "value": float(values[number]),
                    "rating": float(one.ratings.mean[number]),
                    "kind": one.kinds[number] if one.kinds else "",
                    **text,
                }
            )
    return rows

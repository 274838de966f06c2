"""How did trainings on this run go? Their loss, the scores of their checkpoints, and what people say of its scores."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipelines.audit.calibration import KEPT_SHARES, Calibration, threshold_words
from pipelines.audit.calibration_picture import panel_rows, picture
from pipelines.audit.charts import SERIES, WIDE, Chart, Series, lines
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun, read_calibration, read_scores

METRICS, CHECKPOINT = "metrics.jsonl", "checkpoint.json"
"""Files of a training that `training/journal.py` and `training/checkpoint.py` write."""

PANEL_HEIGHT = 270
"""Pixels of a row of panels in a picture of a calibration."""

POINTS = 150
"""Points of a curve: each is the mean of the steps around it."""

MAX_TRAININGS = 6
"""Trainings that are drawn, the latest ones."""


class Training(NamedTuple):
    """A training on the packs of a run. lines: of its metrics, one a step."""

    name: str
    folder: str
    config: str
    total_steps: int
    lines: list[dict[str, Any]]


def trainings(run: RecordedRun) -> list[Training]:
    """The trainings below the root of the run that have a checkpoint and read its packs, by name."""
    found = []
    packs = run.info.get("packs")
    place = storage.join(run.root, "training")
    for name in storage.folders(place) if packs else ():
        folder = storage.join(place, name)
        files = storage.sizes(folder)
        checkpoints = sorted(file for file in files if file.endswith("/" + CHECKPOINT))
        if not checkpoints or METRICS not in files:
            continue
        state = storage.read_json(storage.join(folder, checkpoints[-1]))
        if state.get("run_key") != packs:
            continue
        text = storage.read_bytes(storage.join(folder, METRICS)).splitlines(keepends=True)
        metrics = [json.loads(line) for line in text if line.endswith(b"}\n")]
        found.append(Training(name, folder, state["config"]["name"], state["total_steps"], metrics))
    return found[-MAX_TRAININGS:]


def loss_chart(found: Sequence[Training]) -> Chart | None:
    """The loss of each training, step by step, and its validation loss. None without a step."""
    if not any(training.lines for training in found):
        return None
    steps = sorted({line["step"] for training in found for line in training.lines})
    width = max(1, math.ceil(len(steps) / POINTS))
    places = [steps[min(at + width - 1, len(steps) - 1)] for at in range(0, len(steps), width)]
    series, words = [], []
    for number, training in enumerate(found):
        colour = SERIES[(2 * number) % len(SERIES)], SERIES[(2 * number + 1) % len(SERIES)]
        several = f"{training.name}, " if len(found) > 1 else ""
        for name, key, shade in (("training", "loss", colour[0]), ("validation", "validation_loss", colour[1])):
            values = _means(training.lines, key, places)
            if any(value == value for value in values):
                series.append(Series(f"{several}{name}", shade, values))
                last = next(value for value in reversed(values) if value == value)
                words.append(f"{several}{name} loss ends at {last:.2f}")
    return lines(
        "Loss while training",
        f"Lines over {steps[-1]:,} steps: {'; '.join(words)}.",
        places,
        series,
        "step",
        "nats per token",
        note="Lower is better. Training loss is the mean of the steps around a point.",
        width=WIDE,
    )


def _means(metrics: Sequence[dict[str, Any]], key: str, places: Sequence[int]) -> list[float]:
    """The mean of a metric over the steps up to each place and after the one before; NaN where there is none."""
    sums, counts, at = [0.0] * len(places), [0] * len(places), 0
    for line in metrics:
        while at < len(places) - 1 and line["step"] > places[at]:
            at += 1
        if line.get(key) is not None and math.isfinite(line[key]):
            sums[at] += line[key]
            counts[at] += 1
    return [total / number if number else math.nan for total, number in zip(sums, counts, strict=True)]


def results(run: RecordedRun) -> list[dict[str, Any]]:
    """The scores of checkpoints that were trained on this run. Scores that were written before a key existed have its
    former name, or null."""
    return [
        {
            **line,
            "not_found": line.get("not_found", line.get("clean")),
            "found": line.get("found", line.get("contaminated")),
            "difference": line.get("difference"),
            "how": line.get("how", ""),
            "others": {k: v for k, v in line.get("scorers", {}).items() if k != line.get("scorer")},
            "overlap": [{"power": None, "verdict": None, **test} for test in line.get("overlap") or ()],
        }
        for line in read_scores(run)
    ]


def calibration(run: RecordedRun) -> list[dict[str, Any]]:
    """How the scores of the run agree with people's ratings, with a picture of each as a data address."""
    lines = []
    for line in read_calibration(run):
        names = Calibration.model_fields
        one = Calibration.model_validate({name: value for name, value in line.items() if name in names})
        png = base64.b64encode(picture(one)).decode() if one.curves else ""
        words = {
            cut: ("" if cut.subject == "all" else f"within {cut.subject}, ") + threshold_words(cut, one)
            for cut in one.thresholds
        }
        lines.append(
            {
                "line": line,
                "one": one,
                "picture": png,
                "height": PANEL_HEIGHT * panel_rows(len(one.curves)),
                "cuts": [text for cut, text in words.items() if cut.kept == KEPT_SHARES[0]],
                "further": [text for cut, text in words.items() if cut.kept != KEPT_SHARES[0]],
            }
        )
    return lines

"""Does `winnow score` find planted noise? Recall and precision of several rules, per source, and its own estimates.

Rows of the demo's sources are built again with noise: responses swapped between rows of a source (10 %), and final
numbers changed (5 %). A small transformer is trained on them, noise included, and scores some of them at an early and a
late checkpoint. It is not told which rows are noise. On one core a seed takes half an hour.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import binomtest, rankdata

from flows.configure import configure
from flows.score import ScoreAnswer, score
from pipelines.curate import curate
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import open_run
from pipelines.ledger.score_tables import open_scores
from pipelines.recipe import load
from tests.benchmarks.__main__ import Row
from tests.steps import record_run
from training import loop
from training.evaluation.hard_examples import NAMES
from training.folders import checkpoints
from training.provenance import find_packs

SEEDS = (4,)
"""Seeds of the noise, each with a training of its own. The rule was chosen on seeds 1 to 3."""

ROWS, FACTOR, SCORED = 7000, 6, 8000
"""Rows of each source at most; how many times the demo's rows are generated for them; rows that are scored."""

STEPS, EARLY = 6000, 2000
"""Steps of the training, and the step of the early checkpoint."""

SETTINGS = (
    "model.architecture=transformer",
    "lr_min_ratio=0.1",
    "ema_decay=0.99",
    f"checkpoint_steps={EARLY}",
    "keep=9",
)
"""Of the configuration `tiny`. At this size a transformer learns more per second than HRM (docs/log.md)."""

SWAPPED, WRONG = 0.10, 0.05
RULES: dict[str, Callable[[pa.Table], pa.ChunkedArray]] = {
    "high loss": lambda table: table["score_loss"],
    "loss that did not fall": lambda table: pc.negate(table["score_loss_fall"]),
    "IFD": lambda table: table["score_loss_ifd"],
    "the worst token's margin": lambda table: table["score_loss_worst"],
    "score_loss_noise": lambda table: table["score_loss_noise"],
}
RECIPE = """
name: noisy
sources:
{sources}
stages: [{{kind: placeholder}}]
exact_duplicates: false
near_duplicates: false
tokenizer: {{vocab_size: 2048}}
sampling:
  epochs: 4
  context: 257
  groups:                          # prose is most of the text, and nothing that a tiny model learns
    - {{prefix: generated_web, max_per_file: 300}}
    - {{prefix: generated_conversations, max_per_file: 300}}
"""
SOURCE = """  - name: {name}
    path: {name}.jsonl
    columns: {{instruction: instruction, response: response, condition: condition}}
    extra: [label]"""


def bench(data: Path | None) -> dict[str, list[Row]]:
    """Tables: the rules over all sources, what is called noise in each source, speeds, and rows of each class."""
    with tempfile.TemporaryDirectory() as folder:
        made = [measure(Path(folder, str(seed)), seed) for seed in SEEDS]
    return {
        f"{name}, seed {seed}": rows for seed, tables in zip(SEEDS, made, strict=True) for name, rows in tables.items()
    }


def measure(folder: Path, seed: int) -> dict[str, list[Row]]:
    """The tables of one seed, in a folder that is kept. A training that is finished there is not repeated."""
    root = str(folder / "root")
    if not Path(root).exists():
        build_noisy(folder, seed)
    training = {"what": f"training, {STEPS} steps", "seconds": train(root)}
    return {"Training": [training], **tables(root)}


def tables(root: str) -> dict[str, list[Row]]:
    """The tables of the first and the last checkpoint below `root`."""
    saved = checkpoints(f"{root}/training/tiny")
    answer = score(checkpoints=[saved[0], saved[-1]], root=root, device="cpu", limit=SCORED)
    scores = open_scores(answer.path).read()
    corpus = pa.concat_tables([storage.read_parquet(shard.path) for shard in open_run(root, "latest").records.shards])
    records = corpus.take(pc.index_in(scores["id"], corpus["id"].combine_chunks()))
    speeds: list[Row] = [
        {"rows": answer.rows, "checkpoints": 2, "seconds": answer.seconds, "rows/s": answer.rows / answer.seconds,
         "response tokens/s": answer.tokens / answer.seconds}
    ]  # fmt: skip
    return {
        "Rules, over all sources": rules(records, scores),
        "What is called noise": called(records, scores, answer),
        "Speed": speeds,
        "Rows of each class": samples(records, scores),
    }


def train(root: str) -> float:
    """The training on the corpus below `root`; returns its seconds."""
    packs = find_packs("latest", root)
    config = configure("tiny", packs.shards, STEPS, SETTINGS)
    begun = time.monotonic()
    loop.train(packs.shards, packs.tokenizer, config, f"{root}/training/tiny", packs.key)
    return time.monotonic() - begun


def build_noisy(folder: Path, seed: int) -> None:
    """The corpus with planted noise, in `folder`; its root is `folder/root`."""
    generated = load("demo")
    more = tuple(spec.model_copy(update={"rows": FACTOR * (spec.rows or 0)}) for spec in generated.sources)
    changes = {"contamination": None, "near_duplicates": None, "sources": more}
    made = curate(Run(str(folder / "clean"), LocalEngine(1)), generated.model_copy(update=changes))
    rows = pa.concat_tables([storage.read_parquet(shard.path) for shard in made.records.shards]).to_pylist()
    names = [spec.name for spec in generated.sources]
    kept = ("instruction", "response", "condition", "label")
    for name in names:
        own = sorted((row for row in rows if row["source"] == name), key=lambda row: str(row["digest"]))[:ROWS]
        lines = (json.dumps({key: row[key] for key in kept}) for row in plant(own, seed))
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    text = RECIPE.format(sources="\n".join(SOURCE.format(name=name) for name in names))
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    noisy = load(str(folder / "recipe.yaml"))
    run = Run(str(folder / "root"), LocalEngine(1))
    record_run(run, noisy, curate(run, noisy), text)


def plant(rows: list[dict[str, str]], seed: int) -> list[dict[str, str]]:
    """Rows of a source with `label`: clean, swapped (response of another row) or wrong (its last number differs)."""
    rng = random.Random(seed)
    rows = [{**row, "label": "clean"} for row in rows]
    order = rng.sample(range(len(rows)), len(rows))
    swapped, wrong = np.split(np.array(order), [round(SWAPPED * len(rows)), round((SWAPPED + WRONG) * len(rows))])[:2]
    responses = [rows[row]["response"] for row in np.roll(swapped, 1).tolist()]
    for row, response in zip(swapped.tolist(), responses, strict=True):
        if response != rows[row]["response"]:
            rows[row] |= {"response": response, "label": "swapped"}
    for row in wrong.tolist():
        number = next(re.finditer(r"\d{1,9}(?!.*\d)", rows[row]["response"], re.DOTALL), None)
        if number is not None:
            text, changed = rows[row]["response"], int(number[0]) + rng.choice([1, 2, 3, 10])
            rows[row] |= {"response": f"{text[: number.start()]}{changed}{text[number.end() :]}", "label": "wrong"}
    return rows


def rules(records: pa.Table, scores: pa.Table) -> list[Row]:
    """How well each rule ranks swapped rows above clean ones: curves of recall and precision, over all sources."""
    labels = np.array(records["label"].to_pylist())
    lines: list[Row] = []
    for label in ("swapped", "wrong"):
        chosen = np.flatnonzero(np.isin(labels, ["clean", label]))
        for name, rule in RULES.items():
            values = np.asarray(pc.fill_null(rule(scores), -np.inf).to_numpy(), np.float64)[chosen]
            positive = labels[chosen] == label
            hits = np.cumsum(positive[np.argsort(-values, kind="stable")])
            recall, precision = hits / positive.sum(), hits / np.arange(1, len(hits) + 1)
            line: Row = {"planted": label, "rule": name, "AUC": auc(values, positive)}
            line |= {
                f"precision at recall {at}": float(precision[np.searchsorted(recall, at)])
                for at in (0.3, 0.5, 0.7, 0.9)
            }
            line["recall at precision 0.9"] = float(max(recall[precision >= 0.9], default=0.0))
            lines.append(line)
    return lines


def auc(values: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive row has the higher value; ties count half."""
    ranks = rankdata(values)
    n, m = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def called(records: pa.Table, scores: pa.Table, answer: ScoreAnswer) -> list[Row]:
    """Recall of planted swaps and precision of the class `noise` in each source, with 95 % intervals and estimates."""
    source, label = (np.array(records[name].to_pylist()) for name in ("source", "label"))
    noise = np.array([name == "noise" for name in scores["loss_class"].to_pylist()])
    value = np.asarray(pc.fill_null(scores["score_loss_noise"], 0.0).to_numpy(), np.float64)
    lines: list[Row] = []
    judged = np.isin(source, [name for name, fit in answer.noise.items() if fit.judged])
    groups = {name.removeprefix("generated_"): source == name for name in sorted(set(source))}
    for name, rows in {**groups, "all": np.ones(len(source), bool), "all that are judged": judged}.items():
        swapped, wrong, chosen = rows & (label == "swapped"), rows & (label == "wrong"), rows & noise
        plain = rows & (label != "wrong")
        line: Row = {
            "source": name,
            "rows": int(rows.sum()),
            "swapped": int(swapped.sum()),
            "called": int(chosen.sum()),
        }
        line["AUC"] = auc(value[plain], swapped[plain]) if swapped.any() else ""
        line["recall"] = interval(int((swapped & noise).sum()), int(swapped.sum()))
        line["precision, swapped"] = interval(int((swapped & noise).sum()), int(chosen.sum()))
        line["precision, swapped or wrong"] = interval(int((chosen & (label != "clean")).sum()), int(chosen.sum()))
        line["recall of wrong"] = interval(int((wrong & noise).sum()), int(wrong.sum()))
        line["recall of both"] = interval(int(((swapped | wrong) & noise).sum()), int((swapped | wrong).sum()))
        fit = answer.noise.get(f"generated_{name}")
        if fit is not None:
            line |= {"judged": "yes" if fit.judged else "no", "estimated recall": fit.recall}
            line |= {"estimated precision": fit.precision, "estimated share": fit.share}
        lines.append(line)
    return lines


def interval(hits: int, rows: int) -> str:
    """A share with its 95 % interval."""
    if not rows:
        return ""
    found = binomtest(hits, rows).proportion_ci(method="wilson")
    return f"{hits / rows:.2f} ({found.low:.2f} to {found.high:.2f})"


def samples(records: pa.Table, scores: pa.Table) -> list[Row]:
    """20 random rows of each class, to be read."""
    classes = scores["loss_class"].to_pylist()
    rng, lines = random.Random(0), []
    for name in NAMES:
        rows = [row for row, one in enumerate(classes) if one == name]
        for row in rng.sample(rows, min(20, len(rows))):
            record = records.slice(row, 1).to_pylist()[0]
            texts = [" ".join(record[key].split()).replace("|", "/")[:100] for key in ("instruction", "response")]
            line: Row = {
                "class": name,
                "planted": record["label"],
                "source": record["source"].removeprefix("generated_"),
            }
            line |= {"loss": scores["score_loss"][row].as_py(), "instruction": texts[0], "response": texts[1]}
            lines.append(line)
    return lines

"""Fine-tuning on rows of one's own: what a model can do before and after, and what it forgets.

The models and the rows are those of the tutorial (docs/tutorial.md): `tiny` trained on the demo's corpus, and rows that
sort tickets into four queues, written by the page's own script. Three seeds. Arms: the model before; fine-tuned, with
`--config sft` and the settings of the page; the same by low-rank updates; the same with 600 rows of the first corpus
beside the tickets; and a model with the same steps on the tickets from initial weights.

Metrics: right answers of the 200 held-out tickets and of the 300 items of the demo's benchmark, greedy, from the moving
average of the weights; and the loss of the tickets' answers. Intervals are those of ablations (training/ablation.py):
another set of items, and another training. Trainings stay in winnow-data/benchmarks. A quarter of an hour of one core.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors import safe_open

from flows.build import build
from flows.configure import configure_training
from pipelines.ledger import storage
from pipelines.ledger.runs import open_run
from pipelines.recipe import BenchmarkSpec
from pipelines.start import recipe_text, survey
from pipelines.steps.benchmark_index import benchmark_items
from tests.benchmarks.__main__ import Row
from tests.docs.pages import sessions
from training import checkpoint, loop
from training.ablation import Metric, effect
from training.configs import TrainConfig, sft, xl
from training.cost import cost, memory
from training.evaluation import store
from training.evaluation.evaluate import How, ModelSpec, evaluate
from training.evaluation.losses import row_losses
from training.inference.models import open_token_model
from training.journal import read_metrics
from training.provenance import PackFiles
from training.start import packing_for

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "winnow-data" / "benchmarks" / "sft"
SEEDS = (0, 1, 2)
SETTINGS = ("batch_packs=2", "ema_decay=0.95")
WHOLE, LOW_RANK = ("lr=3e-4",), ("lr=3e-3", "lora_rank=8")
"""Settings of all weights, those of the tutorial, and of low-rank updates."""

ARMS = ("before", "fine-tuned", "low-rank updates", "with rows of the first corpus", "from initial weights")
PAIRS = ((1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (1, 4))
"""The arms that are compared."""

FIRST_ROWS = 600
"""Rows of the first corpus that are learned beside the tickets, as many as there are of these."""

XL_TOKENS = (1_300 * 32_768, 1_000_000_000)
"""Tokens whose cost is estimated. The first are the 1,300 steps for which upstream chose its settings."""


def bench(data: Path | None) -> dict[str, list[Row]]:
    """Tables: the arms, their differences with intervals, and the cost; `data` is not used."""
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    script = next(command for command, _ in sessions(tutorial) if command.startswith("cat > tickets.py"))
    subprocess.run(["bash", "-c", f"{script}\n{sys.executable} tickets.py"], cwd=FOLDER, check=True)
    build("demo", str(FOLDER / "demo"), "local")
    _write_first_rows(FOLDER / "first.jsonl")
    tickets = benchmark_items(BenchmarkSpec(name="gsm8k", path=(str(FOLDER / "tickets_test.jsonl"),)))
    demo = benchmark_items(BenchmarkSpec(name="generated", rows=300))
    folders = [train(seed) for seed in SEEDS]
    asked: dict[str, Callable[[str], list[float]]] = {
        "tickets right, %": lambda one: _right(one, "gsm8k", tickets, How(condition="direct", max_tokens=8)),
        "demo's benchmark right, %": lambda one: _right(one, "generated", demo, How()),
        "loss of the tickets' answers": lambda one: _losses(one, tickets),
    }
    metrics = []
    for name, ask in asked.items():
        values = np.array([[ask(of_seed[arm]) for of_seed in folders] for arm in range(len(ARMS))])
        items = values.shape[2]
        weights, clusters = np.full(items, 1 / items), tuple(map(str, range(items)))
        metrics.append(Metric(name, "loss" in name, values, weights, clusters, ("",) * items))
        print(f"  {name}: {metrics[-1].means}", file=sys.stderr, flush=True)
    return {
        "Scores, mean of three seeds (lowest to highest)": [
            {"model": arm, **{metric.name: _of_seeds(metric.means[number]) for metric in metrics}}
            for number, arm in enumerate(ARMS)
        ],
        "Differences": [_difference(metric, ARMS[one], ARMS[other]) for one, other in PAIRS for metric in metrics],
        "Trainings": _trainings(folders),
        "Cost of fine-tuning XL, by the arithmetic of `winnow plan --train`": _costs(),
    }


def train(seed: int) -> tuple[str, ...]:
    """The folders of the trainings of the arms."""
    base = str(FOLDER / f"tiny-{seed}")
    packs, config, _, _ = configure_training("latest", "tiny", str(FOLDER / "demo"), base, None, (f"seed={seed}",))
    _train(packs, config, base)
    _build("tickets", base, "tickets.jsonl")  # the models have one tokenizer
    _build("both", base, "tickets.jsonl", "first.jsonl")
    tuned, low, both, alone = (str(FOLDER / f"{name}-{seed}") for name in ("sft", "low-rank", "both", "alone"))
    for folder, corpus, own in ((low, "tickets", LOW_RANK), (both, "both", WHOLE), (tuned, "tickets", WHOLE)):
        settings = (*SETTINGS, *own, f"seed={seed}", "keep=1")
        packs, config, _, _ = configure_training("latest", "sft", str(FOLDER / corpus), folder, None, settings, base)
        _train(packs, config, folder)
    _train(packs, config.model_copy(update={"start": None}), alone)
    return base, tuned, low, both, alone


def _build(name: str, base: str, *files: str) -> None:
    """Build the recipe that `winnow init FILES --from BASE` writes."""
    recipe = FOLDER / f"{name}.yaml"
    found = survey([str(FOLDER / file) for file in files])
    recipe.write_text(recipe_text(found, "winnow init", *packing_for(base)), encoding="utf-8")
    build(str(recipe), str(FOLDER / name), "local", settings=("sampling.validation=0.1",))


def _write_first_rows(path: Path) -> None:
    """Rows of the first corpus, chosen by their digests, with the condition of the tickets."""
    run = open_run(str(FOLDER / "demo"), "latest")
    columns = ["digest", "condition", "instruction", "response"]
    table = pa.concat_tables([storage.read_parquet(shard.path, columns) for shard in run.records.shards])
    rows = sorted((row for row in table.to_pylist() if row["condition"] == "direct"), key=lambda row: row["digest"])
    with path.open("w", encoding="utf-8") as file:
        for row in rows[:FIRST_ROWS]:
            file.write(json.dumps({"instruction": row["instruction"], "response": row["response"]}) + "\n")


def _train(packs: PackFiles, config: TrainConfig, folder: str) -> None:
    loop.train(packs.shards, packs.tokenizer, config, folder, packs.key)


def _right(folder: str, benchmark: str, items: pa.Table, how: How) -> list[float]:
    """100 for each item that is answered rightly, else 0."""
    scores = evaluate(ModelSpec(folder), benchmark, items, how, root=str(FOLDER))
    assert scores.evaluation is not None
    judged = store.read_items(scores.evaluation).sort_by("id")
    return [100 * float(score) for score in judged["score_published"].to_pylist()]


def _losses(folder: str, items: pa.Table) -> list[float]:
    """Nats per token of each answer and its end."""
    rows = pa.table(
        {
            "id": items["id"],
            "source": pa.array(["tickets"] * len(items)),
            "condition": pa.array(["direct"] * len(items)),
            "instruction": items["question"],
            "response": items["answer"],
        }
    )
    found: list[float] = row_losses(open_token_model(folder, "cpu"), rows)["loss"].to_pylist()
    return found


def _of_seeds(means: np.ndarray) -> str:
    return f"{means.mean():.3g} ({means.min():.3g} to {means.max():.3g})"


def _difference(metric: Metric, arm: str, other: str) -> Row:
    found = effect(metric, ARMS, arm, other)
    return {
        "model": arm,
        "against": other,
        "metric": metric.name,
        "items": found.items,
        "difference": f"{found.difference:+.3g}",
        "95 % interval": f"{found.low:+.3g} to {found.high:+.3g}",
        "verdict": found.verdict,
    }


def _trainings(folders: list[tuple[str, ...]]) -> list[Row]:
    lines: list[Row] = []
    names = ("tiny on the demo's corpus", *ARMS[1:])
    for name, of_seeds in zip(names, zip(*folders, strict=True), strict=True):
        metrics = [read_metrics(folder) for folder in of_seeds]
        lines.append(
            {
                "training": name,
                "trained parameters": _trained(of_seeds[0]),
                "steps": len(metrics[0]),
                "tokens": sum(line["inputs"] for line in metrics[0]),
                "seconds of one core, mean": float(np.mean([sum(line["seconds"] for line in one) for one in metrics])),
                "held-out loss, mean": float(np.mean([one[-1]["validation_loss"] for one in metrics])),
            }
        )
    return lines


def _trained(folder: str) -> int:
    last = checkpoint.read(folder)
    with safe_open(f"{last.folder}/optimizer.safetensors", "pt") as moments:
        names = [name for name in moments.keys() if name.startswith("exp_avg.")]  # noqa: SIM118 - not a mapping
        return sum(int(np.prod(moments.get_slice(name).get_shape())) for name in names)


def _costs() -> list[Row]:
    whole = sft(xl(65_536, 4097).model, 4097, "prefix_lm", "bf16")
    low = whole.model_copy(update={"start": "HRM-Text", "lora_rank": 16})
    lines: list[Row] = []
    for tokens in XL_TOKENS:
        for name, config in (("all weights", whole), ("low-rank updates, rank 16", low)):
            made = cost(config, tokens, 1, 2.0)
            state = memory(config, 1, 1, True)
            lines.append(
                {
                    "trained": name,
                    "tokens": tokens,
                    "steps": tokens // 32_768,
                    "FLOPs": f"{made.flops:.2e}",
                    "hours of one H100 at 40 % of its peak": made.gpu_hours,
                    "dollars at $2 an hour": made.dollars,
                    "GB, one pack at a time": sum(state) / 1e9,
                }
            )
    return lines

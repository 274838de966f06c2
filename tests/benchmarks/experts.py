"""Experts beside the plain model: loss, score and seconds at equal active parameters and at equal time.

Trainings are those of heads.py: half of `tiny` (one block per module, eight heads) on the demo recipe's corpus, steps
of 256 tokens, three seeds, the same batches for all.

plain                  a feed-forward layer of width F, 250 steps
experts                a shared expert of F / 2 and 2 of 8 of F / 4, 250 steps: a token uses as many parameters, the
                       router's aside
plain, equal time      the plain model, with so many more steps that it takes as many CPU seconds as the experts

CPU seconds of training are those between the first and the last but one step, times steps; evaluation and checkpoints
are outside. The plain model and the experts of a seed are trained one after the other, and the ratio of their sums over
the seeds gives the steps of the third. They depend on the machine; what is trained with other steps is another model.

Held-out loss of the last step's weights, on the eleven packs of the validation split; right answers of 150 items,
greedy, from the moving average. Seconds: a whole step with the optimizer, and a forward pass of one sequence without
gradients, at the trained shape and at a larger one (that of heads.py, random weights), one thread, medians in turns.

About nine minutes of one core. What has been trained stays in winnow-data/benchmarks and is not trained
again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from pipelines.curate import Corpus
from pipelines.recipe import BenchmarkSpec
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.pack import pack_files
from tests.benchmarks import heads
from tests.benchmarks.__main__ import Row
from tests.benchmarks.comparison import FOLDER, corpus
from tests.benchmarks.training import medians
from training import loop, parallel
from training.attention import plan_attention
from training.batches import Pack, Packs, assemble
from training.cost import parameters
from training.journal import read_metrics
from training.model import Call, ModelConfig, build, schedule
from training.optimizer import AdamAtan2
from training.routing import Experts

COUNT, ACTIVE = 8, 2
TOKENS = 256
USE_STEPS = 50
"""Steps at the beginning and at the end over which the use of experts is counted."""


class Trained(NamedTuple):
    """A trained model. seconds: CPU seconds of training. use: share of tokens that use each expert, by step, module
    call and expert; empty without experts."""

    steps: int
    seconds: float
    loss: float
    right: float
    use: np.ndarray


def bench(data: Path | None) -> dict[str, list[Row]]:
    """The tables; `data` is not used."""
    torch.set_num_threads(1)
    made = corpus()
    assert made.packs is not None
    plain = heads.trained_shape(Packs([shard.path for shard in pack_files(made.packs)]))
    models = trained(made, plain)
    return {
        "Models": [_row(name, with_experts(plain) if name == "experts" else plain, of) for name, of in models.items()],
        "By seed": by_seed(models),
        "Tokens that use an expert, over the mean of all experts, by module call": by_call(
            schedule(plain), models["experts"]
        ),
        "CPU seconds": [*speed("as trained", plain, 10), *speed("larger", heads.LARGE, 1)],
    }


def with_experts(plain: ModelConfig) -> ModelConfig:
    """Half of the feed-forward layer is shared. The experts that a token uses have the width of the other half."""
    width = plain.feed_forward // 2
    return plain.model_copy(
        update={"feed_forward": width, "experts": Experts(count=COUNT, active=ACTIVE, width=width // ACTIVE)}
    )


def trained(made: Corpus, plain: ModelConfig) -> dict[str, list[Trained]]:
    """The models of all seeds."""
    items = benchmark_items(BenchmarkSpec(name="generated", rows=heads.ITEMS))
    models: dict[str, list[Trained]] = {"plain": [], "experts": [], "plain, equal time": []}
    for seed in heads.SEEDS:
        models["plain"].append(one(made, "plain", plain, heads.STEPS, seed, items))
        models["experts"].append(one(made, "experts", with_experts(plain), heads.STEPS, seed, items))
    ratio = sum(of.seconds for of in models["experts"]) / sum(of.seconds for of in models["plain"])
    steps = round(heads.STEPS * ratio)
    models["plain, equal time"] = [one(made, "plain", plain, steps, seed, items) for seed in heads.SEEDS]
    return models


def one(made: Corpus, name: str, model: ModelConfig, steps: int, seed: int, items: pa.Table) -> Trained:
    """Train (or find) one model and score it."""
    assert made.packs is not None and made.tokenizer is not None
    shards = [shard.path for shard in pack_files(made.packs)]
    folder = FOLDER / "experts" / f"{name}-{steps}-{seed}"
    kept = folder / "seconds.json"
    clock: list[float] = []
    config = heads.configure(Packs(shards), model, seed, steps)
    done = loop.train(
        shards,
        made.tokenizer.file("tokenizer").path,
        config,
        str(folder),
        on_step=lambda _: clock.append(time.process_time()),
    )
    assert done["steps"] == steps, "the corpus has too few epochs"
    if clock:  # the last step's time has the validation
        kept.write_text(json.dumps(steps * (clock[-2] - clock[0]) / (len(clock) - 2)))
    lines = read_metrics(str(folder))
    result = Trained(
        steps=steps,
        seconds=float(json.loads(kept.read_text())),
        loss=lines[-1]["validation_loss"],
        right=heads.right_answers(str(folder), items),
        use=np.array([line.get("experts", []) for line in lines], float),
    )
    print(f"  {name}, seed {seed}: {result[:4]}", file=sys.stderr, flush=True)
    return result


def _row(name: str, model: ModelConfig, of: Sequence[Trained]) -> Row:
    return {
        "model": name,
        "steps": of[0].steps,
        "CPU seconds of training": heads.of_seeds([each.seconds for each in of]),
        "parameters": f"{parameters(model):,}",
        "active": f"{parameters(model, 'used'):,}",
        "held-out loss": heads.of_seeds([each.loss for each in of]),
        "right, %": heads.of_seeds([each.right for each in of]),
    }


def by_seed(models: dict[str, list[Trained]]) -> list[Row]:
    """The losses and scores of each seed, and the mean differences from the experts with their standard errors."""
    rows: list[Row] = []
    for name, of in models.items():
        losses = np.array([each.loss for each in of])
        less = losses - [each.loss for each in models["experts"]]
        right = np.array([each.right for each in of])
        more = right - [each.right for each in models["experts"]]
        rows.append(
            {
                "model": name,
                **{f"loss, seed {seed}": f"{loss:.3f}" for seed, loss in zip(heads.SEEDS, losses, strict=True)},
                "minus experts": "" if name == "experts" else _difference(less, 3),
                **{f"right, seed {seed}": f"{share:.1f}" for seed, share in zip(heads.SEEDS, right, strict=True)},
                "minus experts, points": "" if name == "experts" else _difference(more, 1),
            }
        )
    return rows


def _difference(values: np.ndarray, digits: int) -> str:
    error = values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+.{digits}f} ± {error:.{digits}f}"


def by_call(calls: Sequence[Call], of: Sequence[Trained]) -> list[Row]:
    """The most and the least used expert of each module call, over the mean; the mean of the seeds, and their range."""
    spans = {
        f"steps 1 to {USE_STEPS}": slice(None, USE_STEPS),
        f"last {USE_STEPS} steps": slice(-USE_STEPS, None),
    }
    rows: list[Row] = []
    for number, call in enumerate(calls):
        row: Row = {"module call": f"{number} ({call.module})"}
        for span, steps in spans.items():
            use = [each.use[steps, number].mean(0) * (COUNT / ACTIVE) for each in of]
            row[f"most used, {span}"] = heads.of_seeds([share.max() for share in use])
            row[f"least used, {span}"] = heads.of_seeds([share.min() for share in use])
        rows.append(row)
    return rows


def speed(title: str, plain: ModelConfig, repeats: int) -> list[Row]:
    """Seconds of a training step of one sequence, and of a forward pass of it."""
    models = {"plain": plain, "experts": with_experts(plain)}
    steps = medians({name: _repeated(_step(model), repeats) for name, model in models.items()})
    passes = medians({name: _repeated(_forward(model), repeats) for name, model in models.items()})
    rows: list[Row] = [
        {
            "shape": title,
            "model": name,
            "parameters": f"{parameters(model):,}",
            "active": f"{parameters(model, 'used'):,}",
            "training step": steps[name] / repeats,
            "step vs plain": steps[name] / steps["plain"],
            "forward pass": passes[name] / repeats,
            "pass vs plain": passes[name] / passes["plain"],
        }
        for name, model in models.items()
    ]
    print(f"  {rows}", file=sys.stderr, flush=True)
    return rows


def _repeated(work: Callable[[], object], times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            work()

    return run


def _step(config: ModelConfig) -> Callable[[], object]:
    """A step of training with the optimizer."""
    half = TOKENS // 2
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, 2 * half + 1)
    batch = assemble([Pack(tokens, np.array([half]), np.array([half + 1]), [""])], slice(0, 1), 0)
    model = build(config, 0)
    weights = parallel.local_shards(model)
    optimizer = AdamAtan2([shard.local for shard in weights.values()], 1e-3, (0.9, 0.95), 0.1, 0.98)
    return partial(loop._step, model, weights, optimizer, [batch], 1e-3, 5, torch.float32, None, False)


def _forward(config: ModelConfig) -> Callable[[], object]:
    """A forward pass of one sequence, half of it the instruction."""
    model = build(config, 0).eval().requires_grad_(False)
    tokens = torch.randint(0, config.vocab_size, (TOKENS,), generator=torch.Generator().manual_seed(0))
    return partial(heads.forward_pass, model, tokens, plan_attention([TOKENS // 2], [TOKENS // 2]))

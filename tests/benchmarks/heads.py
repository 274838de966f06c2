"""Selective heads: loss, scores and measured seconds of models that use all, half and a quarter of their heads.

Trainings: half of `tiny` (one block per module) with eight heads of width 16, one of them shared, on the demo recipe's
corpus: 250 steps of 256 tokens, three seeds, the same batches for all. Held-out loss, and right answers of 150 items,
greedy, from the moving average; the mean over seeds, and the lowest and highest.

Seconds: a forward pass of one sequence on one thread, half of it the instruction, at a larger shape with random weights
(hidden 960, 20 heads, feed-forward 2,560; one block per module; logits of one row). Medians of CPU time, in turns. A
router with random weights uses heads unevenly, as many for each token.

Length: a model of 0.1 M parameters learns in 400 steps to copy 4 to 16 random tokens, with two bases of RoPE and two
seeds, and is asked to copy more.

About twenty minutes of one core. What has been trained stays in winnow-data/benchmarks and is not trained again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipelines.curate import Corpus
from pipelines.recipe import BenchmarkSpec
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.pack import pack_files
from tests.benchmarks.__main__ import Row
from tests.benchmarks.comparison import FOLDER, corpus
from tests.benchmarks.training import medians
from training import loop, parallel
from training.attention import Queries, attend, plan_attention
from training.batches import Batch, Pack, Packs, assemble
from training.configs import TrainConfig, tiny
from training.cost import flops_per_token, forward_flops_per_token
from training.evaluation.evaluate import ModelSpec, evaluate
from training.journal import read_metrics
from training.model import HrmText, ModelConfig, build, slots
from training.optimizer import AdamAtan2
from training.routing import SelectiveHeads

STEPS = 250
SEEDS = (0, 1, 2)
HEADS, SHARED = 8, 1
ITEMS = 150
SHARES = {"plain": 0, "100 %": 8, "50 %": 4, "38 %": 3, "25 %": 2}
"""Heads that a token of the trained models uses; 0: without a router. Of eight heads, three are nearest to 40 %."""

TRAINED = ModelConfig(vocab_size=2048, hidden=128, heads=HEADS, feed_forward=512, blocks=1, max_positions=256)
"""The shape of the trained models."""

LARGE = ModelConfig(vocab_size=2048, hidden=960, heads=20, feed_forward=2560, blocks=1, max_positions=8192)
LARGE_SHARES = {"plain": 0, "100 %": 20, "50 %": 10, "40 %": 8, "25 %": 5}
LARGE_SHARED = 2
GATHERED = ("25 %", "50 %")
"""The models whose training step is also measured with gathered heads."""

LENGTHS = (1024,)
STEP_LENGTH = 256

BASES = (10_000.0, 500_000.0)
COPIER = ModelConfig(vocab_size=48, hidden=64, heads=2, feed_forward=192, blocks=1, max_positions=512)
COPY_STEPS, COPY_LONGEST = 400, 16
COPY_SEEDS = (0, 1)
COPY_LENGTHS = (8, 16, 20, 24, 32, 64)


def bench(data: Path | None) -> dict[str, list[Row]]:
    """The tables; `data` is not used."""
    torch.set_num_threads(1)
    passes = [row for length in LENGTHS for row in forward(length)]
    steps = [
        *training_step("as trained", TRAINED, SHARES, SHARED),
        *training_step("as above", LARGE, LARGE_SHARES, LARGE_SHARED),
    ]
    models, use = trained(corpus())
    return {
        f"Models of {STEPS} steps": models,
        "Share of tokens that use each head, by module call (half of the heads, last 50 steps of seed 0)": use,
        "Forward pass, CPU seconds of one sequence": passes,
        f"Training step, CPU seconds of {STEP_LENGTH} tokens": steps,
        f"Copying 4 to {COPY_LONGEST} tokens, learned in {COPY_STEPS} steps": by_length(),
    }


def selective(config: ModelConfig, active: int, shared: int) -> ModelConfig:
    """The configuration with so many heads per token; 0 for the plain model."""
    if not active:
        return config
    return config.model_copy(update={"selective": SelectiveHeads(active=active, shared=shared)})


def trained_shape(packs: Packs) -> ModelConfig:
    """The shape of the trained models, with the vocabulary and context of the packs."""
    return tiny(packs.info.vocab_size, packs.info.context).model.model_copy(update={"heads": HEADS, "blocks": 1})


def configure(packs: Packs, model: ModelConfig, seed: int, steps: int = STEPS) -> TrainConfig:
    """`tiny` with that model and so many steps."""
    return tiny(packs.info.vocab_size, packs.info.context).model_copy(
        update={
            "model": model, "seed": seed, "steps": steps, "warmup_steps": round(0.06 * steps),
            "ema_decay": 1 - 10 / steps, "batch_packs": 1, "checkpoint_steps": 10_000,
            "validation_steps": 10_000, "keep": 1,
        }
    )  # fmt: skip


def trained(made: Corpus) -> tuple[list[Row], list[Row]]:
    """Train and score the models; how they use their heads."""
    assert made.packs is not None and made.tokenizer is not None
    shards = [shard.path for shard in pack_files(made.packs)]
    packs, tokenizer = Packs(shards), made.tokenizer.file("tokenizer").path
    items = benchmark_items(BenchmarkSpec(name="generated", rows=ITEMS))
    rows: list[Row] = []
    use: list[Row] = []
    for name, active in SHARES.items():
        model = selective(trained_shape(packs), active, SHARED)
        losses, right, peaks = [], [], []
        for seed in SEEDS:
            folder = str(FOLDER / "heads" / f"{active}-{STEPS}-{seed}")
            loop.train(shards, tokenizer, configure(packs, model, seed), folder)
            lines = read_metrics(folder)
            right.append(right_answers(folder, items))
            losses.append(lines[-1]["validation_loss"])
            if active:
                peaks.append(mean(line["heads_peak"] for line in lines[-50:]))
                if active == HEADS // 2 and seed == 0:
                    use = use_of_heads(lines[-50:])
        rows.append(
            {
                "heads per token": name,
                "held-out loss": of_seeds(losses),
                "right, %": of_seeds(right),
                "most used head, over the mean": of_seeds(peaks) if peaks else "",
                "G FLOPs a token, forward": forward_flops_per_token(model) / 1e9,
                "in training": flops_per_token(model) / 1e9,
            }
        )
        print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    return rows, use


def right_answers(folder: str, items: pa.Table) -> float:
    """Right answers of a trained model, %. They are kept beside it."""
    kept = Path(folder, "right.json")
    if not kept.exists():
        score = evaluate(ModelSpec(folder), "generated", items).all
        kept.write_text(json.dumps(100 * score.correct / score.n))
    return float(json.loads(kept.read_text()))


def of_seeds(values: Sequence[float]) -> str:
    """The mean, and the lowest and highest."""
    return f"{mean(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def use_of_heads(lines: Sequence[dict[str, object]]) -> list[Row]:
    """The mean use of the heads in each module call."""
    use = np.array([line["heads"] for line in lines], float).mean(0)
    calls = ("L", "L", "L", "H") * 2
    return [
        {"module call": f"{number} ({module})", **{f"head {SHARED + head}": share for head, share in enumerate(call)}}
        for number, (module, call) in enumerate(zip(calls, use.tolist(), strict=True))
    ]


def forward(length: int) -> list[Row]:
    """Seconds of a forward pass of a sequence of that length."""
    models = {
        name: build(selective(LARGE, active, LARGE_SHARED), 0).eval().requires_grad_(False)
        for name, active in LARGE_SHARES.items()
    }
    tokens = torch.randint(0, LARGE.vocab_size, (length,), generator=torch.Generator().manual_seed(0))
    plan = plan_attention([length // 2], [length // 2])
    seconds = medians({name: partial(forward_pass, model, tokens, plan) for name, model in models.items()})
    rows: list[Row] = []
    for name, model in models.items():
        products, attention = forward_flops_per_token(model.config), _attention_flops(model.config, length)
        rows.append(
            {
                "tokens": length,
                "heads per token": name,
                "seconds": seconds[name],
                "vs plain": seconds[name] / seconds["plain"],
                "G FLOPs a token of weights": products / 1e9,
                "and of attention": attention / 1e9,
            }
        )
    plain = sum(float(str(rows[0][part])) for part in ("G FLOPs a token of weights", "and of attention"))
    for row in rows:
        own = sum(float(str(row[part])) for part in ("G FLOPs a token of weights", "and of attention"))
        row["FLOPs vs plain"] = own / plain
    print(f"  {rows}", file=sys.stderr, flush=True)
    return rows


def forward_pass(model: HrmText, tokens: Tensor, plan: object) -> None:
    """A forward pass without gradients, with the logits of the last row. plan: as of `plan_attention`."""

    def see(slot: int, q: Queries, k: Tensor, v: Tensor) -> Tensor:
        return attend(plan, q, k, v)  # type: ignore[arg-type]

    with torch.inference_mode():
        model(tokens, torch.arange(len(tokens)), see, rows_M=torch.tensor([len(tokens) - 1]))


def _attention_flops(config: ModelConfig, length: int) -> float:
    """Of the products of queries with keys and of weights with values, per token: half of the rows see half of the
    columns, the others three quarters."""
    active = config.selective.active or config.heads
    return slots(config) * 4 * active * (config.hidden // config.heads) * length * (0.5 * 0.5 + 0.5 * 0.75)


def training_step(title: str, shape: ModelConfig, shares: Mapping[str, int], shared: int) -> list[Row]:
    """Seconds of the forward and backward pass, with masked heads (as training computes) and with gathered ones."""
    rng = np.random.default_rng(0)
    half = STEP_LENGTH // 2
    pack = Pack(rng.integers(0, shape.vocab_size, 2 * half + 1), np.array([half]), np.array([half + 1]), [""])
    batch = assemble([pack], slice(0, 1), 0)
    works: dict[str, Callable[[], object]] = {}
    for name, active in shares.items():
        model = build(selective(shape, active, shared), 0)
        works[name] = partial(_step, model, batch)
        if name in GATHERED:
            works[f"{name}, gathered"] = partial(_step, build(model.config, 0).eval(), batch)
    seconds = medians(works)
    rows: list[Row] = [
        {"shape": title, "heads per token": name, "seconds": taken, "vs plain": taken / seconds["plain"]}
        for name, taken in seconds.items()
    ]
    print(f"  {rows}", file=sys.stderr, flush=True)
    return rows


def _step(model: HrmText, batch: Batch) -> None:
    model.zero_grad()
    losses, _ = loop.losses(model, batch, 5, torch.float32)
    losses.mean().backward()  # type: ignore[no-untyped-call]


def by_length() -> list[Row]:
    """A model that copies sequences of 4 to 16 tokens, asked for longer ones."""
    rows: list[Row] = []
    for theta in BASES:
        values = [_copying(theta, seed) for seed in COPY_SEEDS]
        for number, length in enumerate(COPY_LENGTHS):
            losses, right = zip(*(of_seed[number] for of_seed in values), strict=True)
            rows.append(
                {
                    "base of RoPE": f"{theta:,.0f}",
                    "tokens to copy": length,
                    "loss, nats per token": of_seeds(losses),
                    "right tokens, %": of_seeds(right),
                }
            )
        print(f"  {rows[-len(COPY_LENGTHS) :]}", file=sys.stderr, flush=True)
    return rows


def _copying(theta: float, seed: int) -> list[tuple[float, float]]:
    """Train a model; its loss and share of right tokens, %, by length."""
    model = build(COPIER.model_copy(update={"rope_theta": theta}), seed)
    weights = parallel.local_shards(model)
    optimizer = AdamAtan2([shard.local for shard in weights.values()], 2e-3, (0.9, 0.95), 0.1, 0.98)
    rng = np.random.default_rng(seed)
    for step in range(1, COPY_STEPS + 1):
        batch = _copies(rng, 12, 4, COPY_LONGEST)
        loop._step(model, weights, optimizer, [batch], 2e-3 * min(1, step / 30), 5, torch.float32, None, False)
    results = []
    for length in COPY_LENGTHS:
        with torch.no_grad():
            losses, right = loop.losses(model, _copies(np.random.default_rng(9), 40, length, length), 5, torch.float32)
        results.append((losses.mean().item(), 100 * right.float().mean().item()))
    return results


def _copies(rng: np.random.Generator, rows: int, shortest: int, longest: int) -> Batch:
    """Rows of random tokens, whose answer is the same tokens and the end."""
    packs = []
    for _ in range(rows):
        copied = rng.integers(4, COPIER.vocab_size, int(rng.integers(shortest, longest + 1)))
        tokens = np.concatenate(([1], copied, [2], copied, [3]))
        packs.append(Pack(tokens, np.array([len(copied) + 2]), np.array([len(copied) + 1]), [""]))
    return assemble(packs, slice(None), 0)

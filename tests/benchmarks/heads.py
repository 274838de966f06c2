"""Selective heads: loss, scores and measured seconds of models that use all, half and a quarter of their heads.

Trainings: half of `tiny` (one block per module) with eight heads of width 16, one of them shared, on the demo recipe's
corpus: 250 steps of 256 tokens, three seeds, the same batches for all. Held-out loss, and right answers of 150 items,
greedy, from the moving average; the mean over seeds, and the lowest and highest.

Seconds: a forward pass of one sequence on one thread, half of it the instruction, at a larger shape with random weights
(hidden 1,280 and 20 heads, as L has width; one block per module, logits of one row). Medians of CPU time, in turns. A router with random
weights uses heads unevenly, as many for each token.

Length: `tiny` trained on rows of at most 200 characters, with two bases of RoPE, and judged on held-out rows of the
whole corpus by their length; beside it the same model trained on rows of every length.

About twenty minutes of one core. What has been trained stays in winnow-data/benchmarks and is not trained again.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.curate import Corpus, curate
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import BenchmarkSpec, load
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.pack import pack_files
from tests.benchmarks.__main__ import Row
from tests.benchmarks.comparison import FOLDER, ROOT, corpus
from tests.benchmarks.training import medians
from training import checkpoint, loop
from training.attention import Queries, attend, plan_attention
from training.batches import Pack, Packs, assemble
from training.configs import DTYPES, Precision, TrainConfig, tiny
from training.cost import flops_per_token, forward_flops_per_token
from training.evaluation.evaluate import ModelSpec, evaluate
from training.journal import read_metrics
from training.model import HrmText, ModelConfig, build, slots
from training.routing import SelectiveHeads

STEPS = 250
SEEDS = (0, 1, 2)
HEADS, SHARED = 8, 1
ITEMS = 150
SHARES = {"plain": 0, "100 %": 8, "50 %": 4, "38 %": 3, "25 %": 2}
"""Heads that a token of the trained models uses; 0: without a router."""

LARGE = ModelConfig(vocab_size=2048, hidden=1280, heads=20, feed_forward=3584, blocks=1, max_positions=8192)
LARGE_SHARES = {"plain": 0, "100 %": 20, "50 %": 10, "40 %": 8, "25 %": 5}
LARGE_SHARED = 2
LENGTHS = (512, 2048)
STEP_LENGTH = 1024

SHORT = 200
"""Characters of the rows that the models of the part on length are trained on."""

BASES = (10_000.0, 500_000.0)
BUCKETS = (0, 64, 96, 128, 257)
"""Limits of the lengths of rows, in tokens."""


def bench(data: Path | None) -> dict[str, list[Row]]:
    """The tables; `data` is not used."""
    torch.set_num_threads(1)
    made = corpus()
    models, use = trained(made)
    return {
        f"Models of {STEPS} steps": models,
        "Share of tokens that use each head to choose from, by module call (half of the heads, mean of blocks and of the "
        "last 50 steps, seed 0)": use,
        "Forward pass, CPU seconds of one sequence": [
            row for precision, lengths in (("fp32", LENGTHS), ("bf16", LENGTHS[1:2])) for row in forward(precision, lengths)
        ],
        "Training step, CPU seconds": training_step(),
        "Loss of held-out rows by length, nats per token": by_length(made),
    }


def selective(config: ModelConfig, active: int, shared: int) -> ModelConfig:
    """The configuration with so many heads per token; 0 for the plain model."""
    if not active:
        return config
    return config.model_copy(update={"selective": SelectiveHeads(active=active, shared=shared)})


def configure(packs: Packs, model: ModelConfig, seed: int) -> TrainConfig:
    """`tiny` with that model."""
    return tiny(packs.info.vocab_size, packs.info.context).model_copy(
        update={
            "model": model, "steps": STEPS, "warmup_steps": round(0.06 * STEPS), "ema_decay": 1 - 10 / STEPS, "seed": seed,
            "batch_packs": 1, "checkpoint_steps": 10_000, "validation_steps": 10_000, "keep": 1,
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
        base = tiny(packs.info.vocab_size, packs.info.context).model.model_copy(update={"heads": HEADS, "blocks": 1})
        model = selective(base, active, SHARED)
        losses, right, peaks, seconds = [], [], [], []
        for seed in SEEDS:
            folder = str(FOLDER / "heads" / f"{active}-{STEPS}-{seed}")
            loop.train(shards, tokenizer, configure(packs, model, seed), folder)
            lines = read_metrics(folder)
            score = evaluate(ModelSpec(folder), "generated", items).all
            losses.append(lines[-1]["validation_loss"])
            right.append(100 * score.correct / score.n)
            seconds.append(statistics.median(line["seconds"] for line in lines))
            if active:
                peaks.append(statistics.mean(line["heads_peak"] for line in lines[-50:]))
                if active == HEADS // 2 and seed == 0:
                    use = use_of_heads(lines[-50:])
        rows.append(
            {
                "heads per token": name,
                "held-out loss": _of_seeds(losses),
                "right, %": _of_seeds(right),
                "most used head, over the mean": _of_seeds(peaks) if peaks else "",
                "seconds a step": statistics.median(seconds),
                "G FLOPs a token, forward": forward_flops_per_token(model) / 1e9,
                "in training": flops_per_token(model) / 1e9,
            }
        )
        print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    return rows, use


def _of_seeds(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def use_of_heads(lines: Sequence[dict[str, object]]) -> list[Row]:
    """The mean use of the heads in each module call."""
    mean = np.mean([line["heads"] for line in lines], 0)
    calls = ("L", "L", "L", "H") * 2
    return [
        {"module call": f"{number} ({module})", **{f"head {SHARED + head}": share for head, share in enumerate(call)}}
        for number, (module, call) in enumerate(zip(calls, mean.tolist(), strict=True))
    ]


def forward(precision: Precision, lengths: Sequence[int]) -> list[Row]:
    """Seconds of a forward pass by length, and of its attention alone."""
    rows: list[Row] = []
    dtype = DTYPES[precision]
    models = {
        name: build(selective(LARGE, active, LARGE_SHARED), 0).to(dtype).eval().requires_grad_(False)
        for name, active in LARGE_SHARES.items()
    }
    for length in lengths:
        tokens = torch.randint(0, LARGE.vocab_size, (length,), generator=torch.Generator().manual_seed(0))
        plan = plan_attention([length // 2], [length // 2], dtype)
        seconds = medians({name: partial(_pass, model, tokens, plan) for name, model in models.items()})
        for name, model in models.items():
            rows.append(
                {
                    "tokens": length, "precision": precision, "heads per token": name, "seconds": seconds[name],
                    "vs plain": seconds[name] / seconds["plain"],
                    "products, G FLOPs a token": forward_flops_per_token(model.config) / 1e9,
                    "with attention": (forward_flops_per_token(model.config) + _attention_flops(model.config, length)) / 1e9,
                }
            )  # fmt: skip
        print(f"  {rows[-len(models):]}", file=sys.stderr, flush=True)
    return rows


def _pass(model: HrmText, tokens: Tensor, plan: object) -> None:
    def see(slot: int, q: Queries, k: Tensor, v: Tensor) -> Tensor:
        return attend(plan, q, k, v)  # type: ignore[arg-type]

    with torch.inference_mode():
        model(tokens, torch.arange(len(tokens)), see, rows_M=torch.tensor([len(tokens) - 1]))


def _attention_flops(config: ModelConfig, length: int) -> float:
    """Of the products of queries with keys and of weights with values, per token: half of the rows see half of the
    columns, the others three quarters."""
    active = config.selective.active or config.heads
    return slots(config) * 4 * active * (config.hidden // config.heads) * length * (0.5 * 0.5 + 0.5 * 0.75)


def training_step() -> list[Row]:
    """Seconds of the forward and backward pass, with masked heads (as training computes) and with gathered ones."""
    rng = np.random.default_rng(0)
    pack = Pack(rng.integers(0, 2048, STEP_LENGTH + 1), np.array([STEP_LENGTH // 2]), np.array([STEP_LENGTH // 2 + 1]), [""])
    batch = assemble([pack], slice(0, 1), 0)
    works: dict[str, Callable[[], object]] = {}
    for name, active in LARGE_SHARES.items():
        model = build(selective(LARGE, active, LARGE_SHARED), 0)
        works[name] = partial(_step, model, batch)
        if active:
            works[f"{name}, gathered"] = partial(_step, build(model.config, 0).eval(), batch)
    seconds = medians(works)
    rows: list[Row] = [
        {"heads per token": name, "seconds": taken, "vs plain": taken / seconds["plain"]} for name, taken in seconds.items()
    ]
    print(f"  {rows}", file=sys.stderr, flush=True)
    return rows


def _step(model: HrmText, batch: object) -> None:
    model.zero_grad()
    loop.losses(model, batch, 5, torch.float32)[0].mean().backward()  # type: ignore[arg-type]


def by_length(made: Corpus) -> list[Row]:
    """The loss of models trained on short rows, by the length of the rows that they are judged on."""
    assert made.packs is not None and made.tokenizer is not None
    tokenizer = made.tokenizer.file("tokenizer").path
    settings = (f"stages.length.max_chars={SHORT}", "sampling.epochs=24", f"tokenizer={{path: {tokenizer}}}")
    recipe = load(str(ROOT / "pipelines" / "recipes" / "demo.yaml"), settings)
    short = curate(Run(str(FOLDER), LocalEngine()), recipe)
    assert short.packs is not None
    everything, few = ([shard.path for shard in pack_files(packs)] for packs in (made.packs, short.packs))
    held = [row for pack in Packs(everything, "validation") for row in _rows(pack)]
    base = tiny(Packs(few).info.vocab_size, Packs(few).info.context).model
    arms = {
        **{f"rows of at most {SHORT} characters, base {theta:,.0f}": (few, theta) for theta in BASES},
        **{f"rows of every length, base {theta:,.0f}": (everything, theta) for theta in BASES},
    }
    rows: list[Row] = []
    for name, (shards, theta) in arms.items():
        values = []
        for seed in SEEDS:
            folder = str(FOLDER / "heads" / f"length-{len(shards)}-{theta:g}-{STEPS}-{seed}")
            config = configure(Packs(shards), base.model_copy(update={"rope_theta": theta}), seed)
            loop.train(shards, tokenizer, config, folder)
            values.append(_loss_by_length(checkpoint.read_model(checkpoint.read(folder)), held))
        titles = [f"{low + 1} to {high} tokens" for low, high in zip(BUCKETS, BUCKETS[1:], strict=False)]
        columns = zip(titles, zip(*values, strict=True), strict=True)
        rows.append({"trained on": name, **{title: _of_seeds(column) for title, column in columns}})
        print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    return rows


def _rows(pack: Pack) -> list[Pack]:
    """Each row of a pack as one of its own."""
    ends = np.cumsum(pack.instruction_lengths + pack.response_lengths)
    starts = ends - pack.instruction_lengths - pack.response_lengths
    return [
        Pack(pack.tokens[a:b], pack.instruction_lengths[i : i + 1], pack.response_lengths[i : i + 1], pack.ids[i : i + 1])
        for i, (a, b) in enumerate(zip(starts, ends, strict=True))
    ]


@torch.no_grad()
def _loss_by_length(model: HrmText, rows: Sequence[Pack]) -> list[float]:
    """Mean loss per label of the rows of each length."""
    results = []
    for low, high in zip(BUCKETS, BUCKETS[1:], strict=False):
        chosen = [row for row in rows if low < len(row.tokens) <= high]
        losses = []
        for start in range(0, len(chosen), 32):
            part = chosen[start : start + 32]
            losses.append(loop.losses(model, assemble(part, slice(None), 0), 5, torch.float32)[0])
        results.append(float(torch.cat(losses).mean()))
    return results

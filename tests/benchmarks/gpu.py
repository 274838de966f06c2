"""`python -m tests.benchmarks.gpu [--size xl] [--only training|generation|checks]`: HRM-Text on one GPU.

Checks: the fused optimiser and the fused cross-entropy against their definitions; a step with a NaN that changes
nothing; and the loss of 200 steps of a small model through the training loop, in bf16 on the GPU and in float32 on the
CPU.

Training: a step is forward, backward (five calls differentiated) and Adam-atan2 with its average, in bf16 over float32
weights, on packs of 4,096 tokens. A pack has sequences of 100 to 700 tokens, 40 % of them the instruction. MFU is the
model's FLOPs (training/cost.py, without attention and without what activation checkpointing computes again) over the
GPU's bf16 peak. The goal is 50 %; upstream's run of XL corresponds to 40 % on H100. Variants: eager and compiled
blocks, attention by torch's SDPA, the variable-length kernel and FlexAttention, one to three packs together (three are
upstream's 12,288 tokens per GPU), the packs of a whole batch in micro-batches, activation checkpointing, and the plain
optimiser. Every variant must give the loss of the first with as many packs. A second table gives the GPU time of the
parts of a step.

Generation: the torch Runner in bf16, greedy, prompts of 64 tokens and answers of 128, with several batch sizes. Before,
a small model in float32 must give the tokens of the CPU, and log-likelihoods equal to rounding.

The tables are printed as they are made, to stdout. `make bench` leaves this benchmark out.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from tests.benchmarks.__main__ import Row, table
from training import journal, loop, parallel
from training.attention import Kernel
from training.batches import Batch, Layout, Pack, in_micro_batches
from training.configs import CONFIGS, TrainConfig
from training.cost import flops_per_token
from training.inference.prompt import instruction_prompt
from training.inference.runner import Runner
from training.losses import linear_cross_entropy
from training.model import ModelConfig, build
from training.optimizer import AdamAtan2
from training.throughput import peak_flops

ROUNDS, WARM = 8, 2
BATCHES = (1, 8, 32, 64)
PROMPT_TOKENS, ANSWER_TOKENS = 64, 128
CURVE_STEPS = 200

CURVE = TrainConfig(
    name="curve",
    model=ModelConfig(vocab_size=256, hidden=256, heads=4, feed_forward=768, blocks=2, max_positions=512),
    batch_packs=2, steps=CURVE_STEPS, lr=2e-3, warmup_steps=20, ema_decay=0.98, precision="bf16",
    checkpoint_steps=100, keep=1,
)  # fmt: skip


class Way(NamedTuple):
    """A variant of a training step. packs: in all. micro: computed together; None for all."""

    compiled: bool
    attention: Kernel
    packs: int
    micro: int | None = None
    recompute: bool = False
    plain_optimizer: bool = False

    @property
    def label(self) -> str:
        """The variant in words."""
        words = ["compiled" if self.compiled else "eager", self.attention, "recomputed" * self.recompute]
        return " ".join(filter(None, words))


WAYS = [
    Way(False, "groups", 1),
    Way(False, "varlen", 1),
    Way(True, "varlen", 1),
    Way(True, "flex", 1),
    Way(True, "flex", 1, plain_optimizer=True),
    Way(True, "flex", 2),
    Way(True, "flex", 3),
    Way(True, "flex", 3, recompute=True),
    Way(True, "flex", 12, micro=3),
]

PARTS = {
    "attention": ("flex_attention", "flash", "fmha", "attention"),
    "matrix products": ("gemm", "nvjet", "cutlass", "xmma", "cublas"),
    "optimiser": ("_update",),
    "fused elementwise": ("triton_",),
    "copies and casts": ("Memcpy", "Memset", "copy_kernel", "direct_copy"),
}
"""Part of a step -> pieces of its kernels' names, the first that matches."""


def pack_of(tokens: int, vocabulary: int, seed: int) -> Pack:
    """A pack of random sequences with `tokens` input tokens in total."""
    rng = np.random.default_rng(seed)
    lengths: list[int] = []
    while sum(lengths) < tokens:
        lengths.append(min(int(rng.integers(100, 701)), tokens - sum(lengths)))
    totals = np.array(lengths) + 1  # a sequence of n tokens has n - 1 inputs
    instructions = np.maximum(1, totals * 2 // 5)
    ids = rng.integers(0, vocabulary, int(totals.sum()))
    return Pack(ids, instructions, totals - instructions, [str(index) for index in range(len(totals))])


class Trainer:
    """A model prepared as training/loop.py prepares it, and its steps."""

    def __init__(self, config: ModelConfig, way: Way, device: torch.device, dtype: torch.dtype, backend: str) -> None:
        self.model = build(config, 0, str(device))
        if way.compiled:
            parallel.compile_blocks(self.model, way.attention == "flex", backend)
        if way.recompute:
            parallel.checkpoint_blocks(self.model)
        self.weights = parallel.local_shards(self.model, dtype)
        locals_ = [shard.local for shard in self.weights.values()]
        self.optimizer = AdamAtan2(locals_, 2.2e-4, (0.9, 0.95), 0.1, 0.9999)
        self.dtype = dtype

    def step(self, batches: Sequence[Batch]) -> torch.Tensor:
        """One step; its loss, on the device."""
        sums = loop._step(self.model, self.weights, self.optimizer, batches, 2.2e-4, 5, self.dtype, None, False)
        return sums[0]


def measure(
    config: ModelConfig,
    ways: list[Way],
    device: torch.device,
    tokens: int,
    dtype: torch.dtype = torch.bfloat16,
    rounds: int = ROUNDS,
    warm: int = WARM,
    backend: str = "inductor",
    say: Callable[[str], object] = lambda text: None,
) -> list[Row]:
    """A row per variant, in the order given.

    tokens: input tokens of a pack. If the memory does not suffice for a variant, its row says so.
    """
    peak = peak_flops(device, dtype)
    rows: list[Row] = []
    losses: dict[int, float] = {}
    for way in ways:
        row: Row = {
            "blocks": "compiled" if way.compiled else "eager",
            "attention": {"groups": "sdpa"}.get(way.attention, way.attention),
            "packs": f"{way.packs}" + (f" by {way.micro}" if way.micro else ""),
            "notes": ("recompute " * way.recompute + "plain optimiser" * way.plain_optimizer).strip(),
        }
        began = time.perf_counter()
        try:
            row |= _measured(config, way, device, tokens, dtype, rounds, warm, backend, peak)
        except torch.cuda.OutOfMemoryError:
            row["tokens/s"] = "out of memory"
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if "loss" in row:
            first = float(row["loss"])
            same = losses.setdefault(way.packs, first)
            assert abs(first - same) < 0.02, f"{way}: the loss {first} differs from {same}"
        rows.append(row)
        say(f"{row} in {time.perf_counter() - began:.0f} s")
    return rows


def _measured(
    config: ModelConfig,
    way: Way,
    device: torch.device,
    tokens: int,
    dtype: torch.dtype,
    rounds: int,
    warm: int,
    backend: str,
    peak: float,
) -> Row:
    trainer = Trainer(config, way, device, dtype, backend)
    batches = _batches(config, way, device, tokens, dtype)
    if way.plain_optimizer:
        trainer.optimizer.fused = False
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    first = trainer.step(batches).item()
    for _ in range(warm):
        trainer.step(batches)
    seconds = []
    for _ in range(2):  # the GPU is waited for once per round of steps, as in the loop
        _wait(device)
        began = time.perf_counter()
        for _ in range(max(1, rounds // 2)):
            trainer.step(batches)
        submitted = time.perf_counter() - began
        _wait(device)
        seconds.append((time.perf_counter() - began) / max(1, rounds // 2))
    rate = batches[0].inputs / min(seconds)
    return {
        "ms/step": 1e3 * min(seconds),
        "CPU ms": 1e3 * submitted / max(1, rounds // 2),
        "tokens/s": rate,
        "MFU, %": 100 * rate * flops_per_token(config) / peak,
        "memory, GB": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else "",
        "loss": first,
    }


def _batches(config: ModelConfig, way: Way, device: torch.device, tokens: int, dtype: torch.dtype) -> tuple[Batch, ...]:
    packs = [pack_of(tokens, config.vocab_size, index) for index in range(way.packs)]
    layout = Layout(way.packs, micro_packs=way.micro, dtype=dtype, kernel=way.attention, device=device)
    return in_micro_batches(packs, layout, tokens)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parts(config: ModelConfig, way: Way, device: torch.device, tokens: int) -> list[Row]:
    """GPU time of the parts of a step, from the profiler."""
    from torch.profiler import ProfilerActivity, profile

    trainer = Trainer(config, way, device, torch.bfloat16, "inductor")
    batches = _batches(config, way, device, tokens, torch.bfloat16)
    for _ in range(3):
        trainer.step(batches)
    _wait(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        trainer.step(batches)
        _wait(device)
    total: dict[str, list[float]] = {}
    names: list[tuple[float, int, str]] = []
    for event in profiler.key_averages():
        spent = event.self_device_time_total / 1e3
        if spent:
            part = next((part for part, pieces in PARTS.items() if any(p in event.key for p in pieces)), "other")
            entry = total.setdefault(part, [0.0, 0])
            entry[0] += spent
            entry[1] += event.count
            names.append((spent, event.count, event.key))
    for spent, count, name in sorted(names, reverse=True)[:25]:
        print(f"{spent:8.2f} ms {count:5} {name[:110]}", file=sys.stderr)
    everything = sum(spent for spent, _ in total.values())
    return [
        {"part": part, "ms": spent, "share, %": 100 * spent / everything, "kernels": int(count)}
        for part, (spent, count) in sorted(total.items(), key=lambda item: -item[1][0])
    ] + [{"part": "all", "ms": everything, "share, %": 100.0, "kernels": int(sum(c for _, c in total.values()))}]


def check_parts(device: torch.device) -> list[Row]:
    """Fused operations against their definitions: the largest differences."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, generator=generator)

    steps: dict[bool, list[torch.Tensor]] = {}
    start, gradients = normal(1000, 37), [normal(1000, 37) for _ in range(6)]
    for fused in (True, False):
        weight = start.clone()
        optimizer = AdamAtan2([weight], 1e-2, (0.9, 0.95), 0.1, 0.9)
        optimizer.fused = fused and device.type == "cuda"
        for index, gradient in enumerate(gradients):
            weight.grad = gradient
            optimizer.step(torch.tensor(index != 2, device=device))  # the third step is skipped
        steps[fused] = [weight, optimizer.average(weight), optimizer.state[weight]["exp_avg_sq"]]
        assert int(optimizer.state[weight]["step"]) == 5
    optimiser = max((a - b).abs().max().item() for a, b in zip(steps[True], steps[False], strict=True))
    assert optimiser < 1e-5, optimiser

    labels = torch.randint(0, 5000, (2500,), device=device, generator=generator)
    z, weight = (normal(2500, 64).requires_grad_(), (normal(5000, 64) / 8).requires_grad_())
    made = []
    for compute in (linear_cross_entropy, _plain_cross_entropy):
        loss_M, correct_M = compute(z, weight, labels)
        gradient = torch.autograd.grad(loss_M.mean(), (z, weight))
        made.append([loss_M.detach(), correct_M.float(), *(2500 * g for g in gradient)])
    head = max((a - b).abs().max().item() for a, b in zip(*made, strict=True))
    assert head < 1e-2, head

    config = ModelConfig(vocab_size=512, hidden=128, heads=2, feed_forward=256, blocks=1, max_positions=512)
    kinds: list[tuple[Way, torch.dtype]] = [(Way(False, "groups", 2), torch.float32)]
    if device.type == "cuda":
        kinds += [
            (way, torch.bfloat16)
            for way in (Way(False, "varlen", 2), Way(True, "flex", 2), Way(True, "flex", 2, 1, True))
        ]
    found = []
    for way, dtype in kinds:
        trainer = Trainer(config, way, device, dtype, "inductor")
        trainer.step(_batches(config, way, device, 512, dtype))
        found.append({name: shard.local.grad for name, shard in trainer.weights.items()})
    gaps: list[Row] = [
        {
            "check": f"gradients of {way.label} in bf16 against SDPA in float32, largest relative difference",
            "value": max(
                ((other[name] - first).norm() / first.norm()).item()
                for name, first in found[0].items()
                if first is not None
            ),
        }
        for (way, _), other in zip(kinds[1:], found[1:], strict=True)
    ]
    assert all(float(row["value"]) < 0.1 for row in gaps), gaps

    trainer = Trainer(config, Way(False, "groups", 1), device, torch.float32, "eager")
    before = [shard.local.clone() for shard in trainer.weights.values()]
    batches = _batches(config, Way(False, "groups", 1), device, 512, torch.float32)
    with torch.no_grad():
        trainer.model.z_L_init.fill_(float("nan"))
    loss = trainer.step(batches).item()
    unchanged = all(torch.equal(a, s.local) for a, s in zip(before, trainer.weights.values(), strict=True))
    assert loss != loss and unchanged
    return [
        {"check": "fused Adam-atan2, 5 of 6 steps, largest difference", "value": optimiser},
        {"check": "fused head and cross-entropy, largest difference", "value": head},
        {"check": "a step with a NaN changes no weight", "value": "yes"},
        *gaps,
    ]


def _plain_cross_entropy(z: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    logits = z @ weight.T
    return F.cross_entropy(logits.float(), labels, reduction="none"), logits.argmax(-1) == labels


def write_copies(folder: Path, packs: int, capacity: int = 512) -> list[str]:
    """A pack shard of copying tasks: the response repeats the instruction, shifted by one value."""
    rng = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {name: [] for name in ("tokens", "instruction_lengths", "response_lengths", "ids")}
    for pack in range(packs):
        tokens: list[int] = []
        lengths: list[tuple[int, int]] = []
        while True:
            size = int(rng.integers(4, 40))
            if sum(a + b - 1 for a, b in lengths) + 2 * size + 1 > capacity:
                break
            word = rng.integers(16, 255, size)
            tokens += [5, *word.tolist(), *(word + 1).tolist(), 7]
            lengths.append((size + 1, size + 1))
        columns["tokens"].append(tokens)
        columns["instruction_lengths"].append([a for a, _ in lengths])
        columns["response_lengths"].append([b for _, b in lengths])
        columns["ids"].append([f"copy/{pack}/{index}" for index in range(len(lengths))])
    special = {
        name: index for index, name in enumerate(("pad", "direct", "cot", "noisy", "synth", "boq", "eoq", "eoa"))
    }
    said = {"context": capacity + 1, "capacity": capacity, "vocab_size": 256, "epoch": 0, "epochs": 1}
    schema = pa.schema(
        [("tokens", pa.list_(pa.uint16())), ("instruction_lengths", pa.list_(pa.int32())),
         ("response_lengths", pa.list_(pa.int32())), ("ids", pa.list_(pa.string()))],
        metadata={"winnow": json.dumps({**said, "special": special, "split": "train"})},
    )  # fmt: skip
    path = folder / "copies.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_table(pa.table(columns, schema=schema))
    (folder / "tokenizer.json").write_text("{}")
    return [str(path)]


def train_curve(folder: Path, precision: str, steps: int = CURVE_STEPS) -> list[float]:
    """The losses of a training on copies through the loop, on the device that torch sees."""
    config = CURVE.model_copy(update={"precision": precision, "steps": steps})
    loop.train(
        [str(folder / "copies.arrow")],
        str(folder / "tokenizer.json"),
        config,
        str(folder / f"out-{os.getpid()}-{precision}"),
    )
    return [line["loss"] for line in journal.read_metrics(str(folder / f"out-{os.getpid()}-{precision}"))]


def start_curve_on_cpu(folder: Path, steps: int = CURVE_STEPS) -> subprocess.Popen[str]:
    """`train_curve` in float32 in another process without a GPU; its stdout is the losses as JSON."""
    code = (
        "import json, sys, torch; torch.set_num_threads(4); from pathlib import Path; from tests.benchmarks.gpu import "
        "train_curve; print(json.dumps(train_curve(Path(sys.argv[1]), 'fp32', int(sys.argv[2]))))"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    arguments = [sys.executable, "-c", code, str(folder), str(steps)]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)


def compare_curves(of: dict[str, list[float]]) -> list[Row]:
    """Losses at some steps, and each column's largest difference from the last column, over means of ten steps."""
    steps = len(next(iter(of.values())))
    chosen = [step for step in (1, 2, 5, 10, 20, 50, 100, 150, 200) if step <= steps]
    rows: list[Row] = [
        {"step": str(step)} | {name: f"{losses[step - 1]:.4f}" for name, losses in of.items()} for step in chosen
    ]
    means = {name: np.array(losses)[: steps // 10 * 10].reshape(-1, 10).mean(1) for name, losses in of.items()}
    last = list(means.values())[-1]
    return [
        *rows,
        {"step": "largest difference"} | {name: f"{np.abs(mean - last).max():.4f}" for name, mean in means.items()},
    ]


def measure_generation(
    config: ModelConfig,
    device: torch.device,
    batches: Sequence[int] = BATCHES,
    prompt: int = PROMPT_TOKENS,
    answer: int = ANSWER_TOKENS,
    say: Callable[[str], object] = lambda text: None,
) -> list[Row]:
    """A row per batch size: twice as many prompts as rows, so that every row is refilled once."""
    runner = Runner(build(config, 0, str(device)), device, "bf16", compiled=False)
    rows: list[Row] = []
    for batch in batches:
        say(f"generation, {batch} together ...")
        prompts = [
            instruction_prompt(ids)
            for ids in np.random.default_rng(batch).integers(0, config.vocab_size, (2 * batch, prompt)).tolist()
        ]
        context = prompt + answer
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        # No token is the end, so that all answers have the same length.
        runner.generate(prompts[:batch], config.vocab_size, 4, context, batch)  # loads the kernels
        began = time.perf_counter()
        answers = runner.generate(prompts, config.vocab_size, answer, context, batch)
        seconds = time.perf_counter() - began
        assert all(len(ids) == answer for ids in answers)
        rows.append(
            {
                "sequences together": batch,
                "tokens/s": 2 * batch * answer / seconds,
                "ms/step": 1e3 * seconds / (2 * answer),
                "memory, GB": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else "",
            }
        )
    return rows


def check_generation(device: torch.device) -> Row:
    """A small float32 model on `device` against the CPU: share of equal answers, largest log-likelihood difference."""
    config = ModelConfig(vocab_size=512, hidden=128, heads=2, feed_forward=256, blocks=2, max_positions=128)
    generator = np.random.default_rng(0)
    prompts = [instruction_prompt(generator.integers(0, 512, int(n)).tolist()) for n in generator.integers(1, 60, 24)]
    runners = [Runner(build(config, 0), "cpu"), Runner(build(config, 0), device, compiled=False)]
    answers = [runner.generate(prompts, 511, 32, 128, batch=8) for runner in runners]
    equal = float(np.mean([first == second for first, second in zip(*answers, strict=True)]))
    likelihoods = [runner.log_likelihoods(list(zip(prompts, answers[0], strict=True))) for runner in runners]
    difference = max(abs(a.log_prob - b.log_prob) for a, b in zip(*likelihoods, strict=True))
    assert equal > 0.9, f"{equal:.0%} of the answers are those of the CPU"
    assert difference < 1e-2, f"log-likelihoods differ by {difference}"
    return {"answers as on the CPU": f"{equal:.0%}", "largest difference of log-likelihoods": difference}


def main() -> int:
    """Measure; without a GPU, print an error and return 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description="HRM-Text's speed on one GPU.")
    parser.add_argument("--size", default="xl", choices=[name for name in CONFIGS if name != "tiny"])
    parser.add_argument("--tokens", type=int, default=4096, help="input tokens of a pack (default 4,096)")
    parser.add_argument("--only", choices=["training", "generation", "checks"], help="default: all")
    parser.add_argument("--ways", help="numbers of training variants, from 0: 3,6 (default all)")
    parser.add_argument("--parts", default="6", help="the variant whose parts are timed; empty for none")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "no GPU that torch can use: nothing measured. Run this on a machine with one H100 or H200.", file=sys.stderr
        )
        return 1
    device = torch.device("cuda", 0)
    config = CONFIGS[arguments.size](65_536, arguments.tokens + 1).model
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - began:5.0f} s  {text}", file=sys.stderr, flush=True)

    def show(title: str, rows: list[Row]) -> None:
        print(f"\n## {title}\n\n{table(rows)}", flush=True)

    print(f"{arguments.size} on {torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    if arguments.only in (None, "checks"):
        show("checks", check_parts(device))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_copies(folder, CURVE.batch_packs * CURVE_STEPS)
            alone = start_curve_on_cpu(folder)
            curves = {"GPU bf16": train_curve(folder, "bf16"), "GPU float32": train_curve(folder, "fp32")}
            say("curves on the GPU")
            curves["CPU float32"] = json.loads(alone.communicate()[0])
            show(f"loss of {CURVE_STEPS} steps of a small model", compare_curves(curves))
    if arguments.only in (None, "training"):
        ways = [WAYS[int(number)] for number in arguments.ways.split(",")] if arguments.ways else WAYS
        rows = measure(config, ways, device, arguments.tokens, say=say)
        show(f"training, packs of {arguments.tokens:,} tokens", rows)
        if arguments.parts:
            show("parts of a step", parts(config, WAYS[int(arguments.parts)], device, arguments.tokens))
    if arguments.only in (None, "generation"):
        show("generation, float32, against the CPU", [check_generation(device)])
        rows = measure_generation(config, device, say=say)
        show(f"generation, bf16, {ANSWER_TOKENS} tokens after {PROMPT_TOKENS}", rows)
    say("end")
    return 0


if __name__ == "__main__":
    sys.exit(main())

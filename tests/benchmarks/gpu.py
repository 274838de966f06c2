"""`python -m tests.benchmarks.gpu [--size xl] [--only training|generation]`: training steps and generation on one GPU.

Training: a step is forward, backward (five calls differentiated) and Adam-atan2 with its average, in bf16 over float32
weights, on packs of 4,096 tokens. A pack has sequences of 100 to 700 tokens, 40 % of them the instruction. MFU is the
model's FLOPs (training/cost.py, without attention) over the GPU's bf16 peak. The goal is 50 %; upstream's run of XL
corresponds to 40 % on H100. Variants: eager and compiled blocks, attention by the variable-length kernel and by
FlexAttention, one pack and three (upstream's 12,288 tokens per GPU). Every variant must give the loss of the first.

Generation: the torch Runner in bf16, greedy, prompts of 64 tokens and answers of 128, with several batch sizes. Before,
a small model in float32 must give the tokens of the CPU, and log-likelihoods equal to rounding.

The tables are printed at the end, to stdout. `make bench` leaves this benchmark out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.benchmarks.__main__ import Row, table
from training.attention import attend, flexible
from training.batches import Batch, Pack, assemble, to_device
from training.configs import CONFIGS
from training.cost import flops_per_token
from training.inference.prompt import instruction_prompt
from training.inference.runner import Runner
from training.model import HrmText, ModelConfig, build
from training.optimizer import AdamAtan2
from training.parallel import compile_blocks
from training.throughput import peak_flops

ROUNDS, WARM = 10, 3
BATCHES = (1, 8, 32, 64)
PROMPT_TOKENS, ANSWER_TOKENS = 64, 128


class Way(NamedTuple):
    """A variant of a training step."""

    compiled: bool
    attention: str  # `varlen` (attend's own choice on a GPU) or `flex`
    packs: int


WAYS = [
    Way(compiled, attention, packs)
    for compiled in (False, True)
    for attention in ("varlen", "flex")
    for packs in (1, 3)
]


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
    """A row per variant, in the order given. Eager ones must come first, because compiling cannot be undone.

    tokens: input tokens of a pack. If the memory does not suffice for a variant, its row says so.
    """
    model = build(config, 0).to(device)
    optimizer = AdamAtan2(model.parameters(), 2.2e-4, (0.9, 0.95), 0.1, 0.9999)
    peak = peak_flops(device, dtype)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()} if len(ways) > 1 else {}
    compiled = False
    rows: list[Row] = []
    losses: dict[int, float] = {}
    for way in ways:
        say(f"{way} ...")
        if way.compiled and not compiled:
            compile_blocks(model, backend)
            compiled = True
        model.load_state_dict(start or model.state_dict())
        row: Row = {"blocks": "compiled" if compiled else "eager", "attention": way.attention, "packs": way.packs}
        try:
            packs = [pack_of(tokens, config.vocab_size, index) for index in range(way.packs)]
            batch = assemble(packs, slice(None), 0, dtype)
            moved = to_device(batch, device)
            see = partial(attend, moved.plan) if way.attention == "varlen" else flexible(moved.plan, device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            first = step(model, optimizer, moved, see, dtype)
            seconds = []
            for round_ in range(warm + rounds):
                began = time.perf_counter()
                step(model, optimizer, moved, see, dtype)  # returns its loss on the CPU, so the GPU has finished
                if round_ >= warm:
                    seconds.append(time.perf_counter() - began)
        except torch.cuda.OutOfMemoryError:
            rows.append({**row, "tokens/s": "out of memory"})
            continue
        finally:
            optimizer.zero_grad(set_to_none=True)
        assert abs(first - losses.setdefault(way.packs, first)) < 0.02, f"{way}: the loss {first} differs from {losses}"
        median = sorted(seconds)[len(seconds) // 2]
        rate = batch.inputs / median
        rows.append(
            {
                **row,
                "ms/step": 1e3 * median,
                "tokens/s": rate,
                "MFU, %": 100 * rate * flops_per_token(config) / peak,
                "memory, GB": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else "",
                "loss": first,
            }
        )
    return rows


def step(model: HrmText, optimizer: AdamAtan2, batch: Batch, see: Callable[..., Tensor], dtype: torch.dtype) -> float:
    """One training step; returns the loss before it."""
    optimizer.zero_grad(set_to_none=True)
    weights = {name: p.to(dtype) for name, p in model.named_parameters()}
    arguments = (batch.tokens_N, batch.positions_N, lambda slot, q, k, v: see(q, k, v), 5, batch.rows_M)
    logits_MV = torch.func.functional_call(model, weights, arguments)
    loss = F.cross_entropy(logits_MV.float(), batch.labels_M)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


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
    parser.add_argument("--only", choices=["training", "generation"], help="default: both")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "no GPU that torch can use: nothing measured. Run this on a machine with one H100 or H200.", file=sys.stderr
        )
        return 1
    device = torch.device("cuda", 0)
    config = CONFIGS[arguments.size](65_536, arguments.tokens + 1).model

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    print(f"{arguments.size} on {torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    if arguments.only != "training":
        rows = [check_generation(device)]
        print(f"\n## generation, float32, against the CPU\n\n{table(rows)}", flush=True)
        rows = measure_generation(config, device, say=say)
        title = f"generation, bf16, {ANSWER_TOKENS} tokens after {PROMPT_TOKENS}"
        print(f"\n## {title}\n\n{table(rows)}", flush=True)
        torch.cuda.empty_cache()
    if arguments.only != "generation":
        rows = measure(config, WAYS, device, arguments.tokens, say=say)
        print(f"\n## training, packs of {arguments.tokens:,} tokens\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

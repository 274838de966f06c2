"""Weights in four bits: size, agreement with float32, and speed on a CPU.

Agreement is of the demo's model (`tiny`, 500 steps, 1.6 M parameters) on rows held out. A small model loses more by
four bits than a large one. Speed is of 70 M random weights, more than fit into the caches, in CPU seconds of one
thread: the time for a step does not depend on the values. The embedding of `int4-linear` is in bf16.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from pipelines.curate import Corpus, curate
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import BenchmarkSpec, load
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.pack import pack_files
from pipelines.steps.products import VALIDATION_PACKS
from training import loop
from training.batches import Packs
from training.configs import shape, tiny, xl
from training.evaluation.evaluate import ModelSpec, evaluate
from training.export import Weights, read_weights, to_transformers
from training.inference.prompt import Prompt, instruction_prompt
from training.inference.runner import Runner
from training.int4 import BYTES_PER_WEIGHT, quantized
from training.model import HrmText, build

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "winnow-data" / "benchmarks"
ROWS, ITEMS, STEPS, PROMPT = 400, 300, 8, 32
KINDS: tuple[Weights, ...] = ("fp32", "int4-linear", "int4")


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """Three tables; `data` is not used."""
    torch.set_num_threads(1)
    return {"Sizes": sizes(), "Agreement": agreement(), "Speed": speed()}


def sizes() -> list[dict[str, object]]:
    """Of the weights of XL."""
    with torch.device("meta"):
        model = HrmText(xl(65536, 4097).model)
    weights = sum(parameter.numel() for parameter in model.parameters())
    embedding = model.embed_tokens.weight.numel()
    sized = {
        "bf16": 2.0 * weights,
        "int4-linear": BYTES_PER_WEIGHT * (weights - embedding) + 2 * embedding,
        "int4": BYTES_PER_WEIGHT * weights,
    }
    return [{"weights": name, "parameters": weights, "GiB": size / 2**30} for name, size in sized.items()]


def agreement() -> list[dict[str, object]]:
    """Of the demo's model in four bits with itself in float32."""
    made = _corpus()
    assert made.packs is not None and made.tokenizer is not None
    shards = [shard.path for shard in pack_files(made.packs)]
    packs = Packs(shards)
    folder = FOLDER / "int4" / "tiny"
    config = tiny(packs.info.vocab_size, packs.info.context)
    loop.train(shards, made.tokenizer.file("tokenizer").path, config, str(folder))
    requests = list(itertools.islice(_rows(made), ROWS))
    items = benchmark_items(BenchmarkSpec(name="generated", rows=ITEMS))
    rows: list[dict[str, object]] = []
    reference: list[torch.Tensor] = []
    for kind in KINDS:
        out = FOLDER / "int4" / kind
        storage.remove(str(out))
        to_transformers(str(folder), str(out), weights=kind)
        runner = Runner(read_weights(str(out)), compiled=False)
        answers = (runner.logits(requests[at : at + 50]) for at in range(0, len(requests), 50))
        found = [one.log_softmax(-1) for batch in answers for one in batch]
        reference = reference or found
        targets = [torch.tensor(ids) for _, ids in requests]
        pairs = list(zip(reference, found, strict=True))
        chosen = [-one.gather(1, ids[:, None])[:, 0] for one, ids in zip(found, targets, strict=True)]
        score = evaluate(ModelSpec(str(out)), "generated", items).all
        rows.append(
            {
                "weights": kind,
                "file, KiB": (out / "model.safetensors").stat().st_size / 1024,
                "same first choice, %": 100 * _mean(a.argmax(-1) == b.argmax(-1) for a, b in pairs),
                "KL, nats": f"{_mean((a.exp() * (a - b)).sum(-1) for a, b in pairs):.4f}",
                "loss": f"{_mean(chosen):.4f}",
                "right, %": 100 * score.correct / score.n,
            }
        )
    return rows


def _mean(values: Iterable[torch.Tensor]) -> float:
    return float(torch.cat([one.float() for one in values]).mean())


def _corpus() -> Corpus:
    return curate(Run(str(FOLDER), LocalEngine()), load(str(ROOT / "pipelines" / "recipes" / "demo.yaml")))


def _rows(made: Corpus) -> Iterator[tuple[Prompt, list[int]]]:
    """Rows held out: prompt and response with its end."""
    assert made.packs is not None
    for file in made.packs.files(VALIDATION_PACKS):
        for pack in storage.map_arrow(file.path).to_pylist():
            at = 0
            for head, tail in zip(pack["instruction_lengths"], pack["response_lengths"], strict=True):
                tokens = pack["tokens"][at : at + head + tail]
                yield instruction_prompt(tokens[:head]), tokens[head:]
                at += head + tail


def speed() -> list[dict[str, object]]:
    """CPU seconds of one thread: a prompt of PROMPT tokens for each sequence, and a step of all."""
    base = build(shape(1024, 8, 2, 8192, 257), 0)
    runners = {
        "fp32, compiled": Runner(copy.deepcopy(base)),
        "bf16, torch": Runner(copy.deepcopy(base), precision="bf16", compiled=False),
        "int4, compiled": Runner(quantized(base)),
    }
    rows: list[dict[str, object]] = []
    for count in (1, 8):
        prompts = [instruction_prompt(list(range(3, 3 + PROMPT)))] * count
        for name, runner in runners.items():
            times = [_time(runner, prompts) for _ in range(3)]
            reading, stepping = (statistics.median(column) for column in zip(*times, strict=True))
            row = {"weights": name, "sequences": count, "prompts, s": f"{reading:.2f}", "step, s": f"{stepping:.3f}"}
            rows.append(row)
    return rows


def _time(runner: Runner, prompts: list[Prompt]) -> tuple[float, float]:
    cache = runner.new_cache(len(prompts), PROMPT + STEPS)
    start = time.process_time()
    runner.prefill(cache, range(len(prompts)), prompts)
    middle = time.process_time()
    for _ in range(STEPS):
        runner.step(cache, range(len(prompts)), [5] * len(prompts))
    return middle - start, (time.process_time() - middle) / STEPS

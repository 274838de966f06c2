"""How fast does `winnow serve` answer, asked by 1, 4 and 16 clients at once over loopback?

The model has the shape of configuration `tiny` with random weights; each answer has exactly `TOKENS` tokens. `one after
another` is `Runner` without a server, one prompt at a time; `one batch` is all prompts given to `Runner` together. Each
line asks the same `REQUESTS` prompts. All lines are measured `ROUNDS` times in turn, and the fastest round is shown.
Latency is from the request to the last byte of its stream.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import openai
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from training.configs import CONFIGS
from training.export import config_json
from training.inference.generate import TextGenerator, load_text_generator
from training.model import build

ROLES = ("pad", "boq", "eoq", "eoa", "direct", "cot", "noisy", "synth")
REQUESTS, TOKENS, CONTEXT = 64, 64, 257
STREAMS = (1, 4, 16)
ROUNDS = 3
PROMPTS = [f"What is {number} + {number * 7 % 90}, and why is it so?" for number in range(REQUESTS)]


def bench(_: Path | None) -> dict[str, list[dict[str, object]]]:
    """Rows of what was measured, by heading."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = _model(Path(temporary) / "tiny")
        generator = load_text_generator(str(folder), device="cpu")
        _direct(generator, 1, PROMPTS[:2])  # loads the kernels
        command = [sys.executable, "-m", "flows.cli.main", "serve", folder, "--port", "0", "--json", "--device", "cpu"]
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            assert process.stdout is not None
            started = json.loads(process.stdout.readline())
            try:
                client = openai.OpenAI(base_url=started["url"], api_key="none", max_retries=0)
                _ask(client, started["model"], PROMPTS[0])
                name = started["model"]
                ways: list[Callable[[], dict[str, object]]] = [
                    partial(_direct, generator, 1, PROMPTS),
                    partial(_direct, generator, REQUESTS, PROMPTS),
                    *(partial(_served, client, name, streams) for streams in STREAMS),
                ]
                rounds = [[way() for way in ways] for _ in range(ROUNDS)]
            finally:
                process.send_signal(signal.SIGTERM)
    heading = f"{REQUESTS} answers of {TOKENS} tokens, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    best = [max(tries, key=lambda row: float(str(row["tokens/s"]))) for tries in zip(*rounds, strict=True)]
    return {heading: best}


def _model(folder: Path) -> Path:
    """A transformers folder with random weights whose answers never end."""
    folder.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = [f"<|{role}|>" for role in ROLES]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(PROMPTS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {role: tokenizer.token_to_id(name) for role, name in zip(ROLES, names, strict=True)}
    config = CONFIGS["tiny"](tokenizer.get_vocab_size(), CONTEXT).model
    model = build(config, seed=0)
    with torch.no_grad():
        model.lm_head.weight[special["eoa"]] = 0.0  # its logit is never the largest
    weights = model.state_dict().items()
    state = {name if name.startswith("lm_head") else f"model.{name}": value for name, value in weights}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config_json(config, special)))
    (folder / "winnow.json").write_text(json.dumps({"special": special, "context": CONTEXT}))
    return folder


def _direct(generator: TextGenerator, batch: int, questions: list[str]) -> dict[str, object]:
    prompts = [generator.prompt("direct", question) for question in questions]
    started = time.perf_counter()
    made = generator.generate(prompts, TOKENS, batch)
    seconds = time.perf_counter() - started
    assert {len(ids) for ids in made} == {TOKENS}
    name = "Runner, one after another" if batch == 1 else "Runner, one batch"
    latency = 1000 * seconds / len(questions) if batch == 1 else None
    return {"how": name, "tokens/s": len(questions) * TOKENS / seconds, "latency p50, ms": latency or ""}


def _ask(client: openai.OpenAI, model: str, prompt: str) -> tuple[float, float]:
    """Seconds to the first piece of text, and to the end."""
    started = time.perf_counter()
    first = None
    for chunk in client.completions.create(model=model, prompt=prompt, max_tokens=TOKENS, stream=True):
        if first is None and chunk.choices[0].text:
            first = time.perf_counter() - started
    return first or 0.0, time.perf_counter() - started


def _served(client: openai.OpenAI, model: str, streams: int) -> dict[str, object]:
    started = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        times = list(pool.map(lambda prompt: _ask(client, model, prompt), PROMPTS))
    seconds = time.perf_counter() - started
    firsts, whole = ([1000 * each[part] for each in times] for part in (0, 1))
    return {
        "how": f"winnow serve, {streams} at once",
        "tokens/s": REQUESTS * TOKENS / seconds,
        "latency p50, ms": statistics.median(whole),
        "latency p95, ms": statistics.quantiles(whole, n=20)[-1],
        "first token p50, ms": statistics.median(firsts),
    }

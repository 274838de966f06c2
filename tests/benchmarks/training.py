"""HRM-Text in Winnow and in transformers, in one run on one thread: a training step, and generation.

20 M parameters (hidden 384, 3 heads, 4 + 4 blocks, vocabulary 6,144). The training step has one sequence of 512 tokens,
200 of them the instruction. Generation makes 96 tokens from prompts of 64, about the lengths of GSM8K. Medians of CPU
time; compare the ratio `vs transformers`. In float32 the tokens must be those of transformers. In bf16 rounding
differs, which matters for a model with random weights; the share of equal tokens is printed.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from training import loop
from training.batches import Pack, assemble
from training.configs import DTYPES, Precision
from training.inference.prompt import Prompt, instruction_prompt
from training.inference.runner import Runner
from training.model import HrmText, ModelConfig, build

CONFIG = ModelConfig(vocab_size=6144, hidden=384, heads=3, feed_forward=1024, blocks=4, max_positions=1024)
PREFIX, RESPONSE = 200, 313
ROUNDS = 3
PROMPT, ANSWER, TOGETHER = 64, 96, 8


def twin(model: HrmText) -> torch.nn.Module:
    """The same model in transformers."""
    from transformers import HrmTextConfig, HrmTextForCausalLM

    config = HrmTextConfig(
        vocab_size=CONFIG.vocab_size, hidden_size=CONFIG.hidden, num_attention_heads=CONFIG.heads, head_dim=128,
        intermediate_size=CONFIG.feed_forward, num_hidden_layers=CONFIG.blocks, L_bp_cycles=[0, 3],
        embedding_scale=math.sqrt(CONFIG.hidden), max_position_embeddings=CONFIG.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": CONFIG.rope_theta},
    )  # fmt: skip
    theirs = HrmTextForCausalLM(config)
    state = {}
    for name, tensor in model.state_dict().items():
        name, tensor = name if name.startswith("lm_head") else f"model.{name}", tensor.float()
        if "gqkv_proj" in name:
            parts = zip(("gate", "q", "k", "v"), tensor.chunk(4), strict=True)
            state |= {name.replace("attn.gqkv_proj", f"self_attn.{part}_proj"): piece for part, piece in parts}
        elif "gate_up_proj" in name:
            parts = zip(("gate", "up"), tensor.chunk(2), strict=True)
            state |= {name.replace("gate_up_proj", f"{part}_proj"): piece for part, piece in parts}
        else:
            state[name.replace(".attn.o_proj", ".self_attn.o_proj")] = tensor
    theirs.load_state_dict(state)
    return theirs


def medians(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU seconds of each work. They take turns, so that noise affects all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            began = time.process_time()
            work()
            seconds[name].append(time.process_time() - began)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def bench(data: Path | None) -> list[dict[str, object]]:
    """The rows of the report. `data` is not used."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [*step(), *answers()]
    finally:
        torch.set_num_threads(threads)


def step() -> list[dict[str, object]]:
    """Forward and backward pass of one sequence, five calls differentiated."""
    ours = build(CONFIG, 0)
    theirs = twin(ours)
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocab_size, PREFIX + RESPONSE)
    pack = Pack(tokens, np.array([PREFIX]), np.array([RESPONSE]), ["a"])
    ids = torch.from_numpy(tokens)[None, :-1]
    types = (torch.arange(ids.shape[1]) < PREFIX).long()[None]
    labels = torch.full_like(ids, -100)
    labels[0, PREFIX - 1 :] = torch.from_numpy(tokens)[PREFIX:]

    def transformers(model: torch.nn.Module) -> torch.Tensor:
        model.zero_grad(set_to_none=True)
        logits = model(input_ids=ids, token_type_ids=types, use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        loss.backward()
        return loss.detach()

    def winnow(precision: Precision) -> torch.Tensor:
        dtype = DTYPES[precision]
        ours.zero_grad(set_to_none=True)
        loss_M, _ = loop.losses(ours, assemble([pack], slice(None), 0, dtype), 5, dtype)
        loss = loss_M.sum() / len(loss_M)
        loss.backward()
        return loss.detach()

    assert torch.allclose(transformers(theirs), winnow("fp32"), rtol=1e-5), "not the same model"
    half = copy.deepcopy(theirs).to(torch.bfloat16)
    ways = {
        "transformers fp32": lambda: transformers(theirs),
        "transformers bf16": lambda: transformers(half),
        "winnow fp32": lambda: winnow("fp32"),
        "winnow bf16": lambda: winnow("bf16"),
    }
    for way in ways.values():
        way()
    taken = medians(ways)
    return rows("forward + backward, 512 tokens", taken, ids.shape[1])


def answers() -> list[dict[str, object]]:
    """Greedy decoding with a cache: one prompt, and several together."""
    ours = build(CONFIG, 0).eval().requires_grad_(False)
    theirs = twin(ours).eval()
    runner, half = Runner(ours), Runner(copy.deepcopy(ours), precision="bf16")
    theirs_half = copy.deepcopy(theirs).to(torch.bfloat16)

    def winnow(runner: Runner, prompts: list[Prompt]) -> list[list[int]]:
        # No token is the end, so that all answers have the same length.
        return runner.generate(prompts, CONFIG.vocab_size, ANSWER, CONFIG.max_positions, len(prompts))

    report: list[dict[str, object]] = []
    for together in (1, TOGETHER):
        prompts = np.random.default_rng(1).integers(3, CONFIG.vocab_size, (together, PROMPT)).tolist()
        ids, asked = torch.tensor(prompts), [instruction_prompt(prompt) for prompt in prompts]

        def transformers(model: torch.nn.Module, ids: torch.Tensor = ids) -> list[list[int]]:
            with torch.inference_mode():
                out = model.generate(  # type: ignore[operator]
                    ids, attention_mask=torch.ones_like(ids), token_type_ids=torch.ones_like(ids),
                    max_new_tokens=ANSWER, min_new_tokens=ANSWER, do_sample=False, pad_token_id=0,
                )  # fmt: skip
            return out[:, PROMPT:].tolist()  # type: ignore[no-any-return]

        ways: dict[str, Callable[[], list[list[int]]]] = {
            "transformers fp32": partial(transformers, theirs),
            "transformers bf16": partial(transformers, theirs_half),
            "winnow fp32": partial(winnow, runner, asked),
            "winnow bf16": partial(winnow, half, asked),
        }
        tokens = {name: np.array(way()) for name, way in ways.items()}
        assert (tokens["transformers fp32"] == tokens["winnow fp32"]).all(), "not the same tokens"
        taken = medians(ways)
        name = f"{ANSWER} tokens after {PROMPT}, {together} at a time"
        compared = rows(name, taken, together * ANSWER)
        for row in compared:
            kind = str(row["implementation"])[-4:]
            same = tokens[f"transformers {kind}"] == tokens[f"winnow {kind}"]
            row["tokens as transformers"] = f"{same.mean():.0%}"
        report += compared
    return report


def rows(what: str, taken: dict[str, float], tokens: int) -> list[dict[str, object]]:
    """A row per implementation, compared with the first."""
    first = next(iter(taken.values()))
    return [
        {
            "what": what,
            "implementation": name,
            "CPU s": seconds,
            "tokens/s": tokens / seconds,
            "vs transformers": first / seconds,
        }
        for name, seconds in taken.items()
    ]

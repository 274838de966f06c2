"""Which tokens each objective sees and predicts, and prompts of a causal model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.attention import plan_attention, reference
from training.batches import Packs, batch_of_step
from training.configs import Objective
from training.inference.prompt import instruction_prompt
from training.inference.runner import Runner
from training.model import ModelConfig, build


@pytest.mark.parametrize("objective", ["prefix_lm", "causal", "causal_all"])
def test_an_objective_determines_which_tokens_are_seen_and_predicted(shards, sums, objective: Objective) -> None:
    batch = batch_of_step(Packs(shards), 2, 3, objective=objective)
    rows = [sums[int(name.split("/")[-1])] for name in batch.ids]
    assert batch.plan.prefix_lengths == tuple(len(i) if objective == "prefix_lm" else 1 for i, _ in rows)
    assert batch.tokens_N.tolist() == [t for i, o in rows for t in (i + o)[:-1]]
    asked = [1 if objective == "causal_all" else len(i) for i, _ in rows]
    spread = torch.full_like(batch.tokens_N, -100)
    spread[batch.rows_M] = batch.labels_M
    expected = [[-100] * (n - 1) + (i + o)[n:] for n, (i, o) in zip(asked, rows, strict=True)]
    assert spread.tolist() == [label for row in expected for label in row]
    assert batch.labelled == len(batch.labels_M) == sum(label != -100 for row in expected for label in row)


def test_a_causal_model_reads_its_prompt_left_to_right() -> None:
    model = build(ModelConfig(vocab_size=64, hidden=32, heads=2, feed_forward=64, blocks=2, max_positions=40), 4)
    model = model.eval().requires_grad_(False)
    prompts = [torch.randint(3, 64, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (1, 9, 14, 5)]
    answers = {}
    for causal in (False, True):
        asked = [instruction_prompt(ids, causal) for ids in prompts]
        runner = Runner(model, compiled=False)
        answers[causal] = runner.generate(asked, end=64, max_new_tokens=6, context=41, batch=3)  # no token ends it
        for ids, made in zip(prompts, answers[causal], strict=True):
            plan = plan_attention([1 if causal else len(ids)], [len(ids) + 5 - (1 if causal else len(ids))])

            def see(slot: int, q: Tensor, k: Tensor, v: Tensor, plan=plan) -> Tensor:
                return reference(plan, q, k, v)

            logits = model(torch.tensor(ids + made[:-1]), torch.arange(len(ids) + 5), see)
            assert logits[len(ids) - 1 :].argmax(-1).tolist() == made
    assert answers[True] != answers[False]

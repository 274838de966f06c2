"""Estimated costs equal the published figures and the measured counts of the model."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipelines.errors import WinnowError
from training import attention
from training.attention import attend, plan_attention
from training.configs import CONFIGS
from training.cost import PUBLISHED_TOKENS, cost, cost_lines, flops_per_token, mean_flops_per_token, memory, parameters
from training.model import Architecture, Block, HrmText, ModelConfig, build, new_block
from training.routing import Experts, SelectiveHeads

SMALL = ModelConfig(vocab_size=96, hidden=64, heads=2, feed_forward=160, blocks=2, max_positions=64)
VARIANTS = [{}, {"selective": SelectiveHeads(active=1)}, {"experts": Experts(count=5, active=2, width=96)}]


def test_the_published_run_is_reproduced() -> None:
    """XL on 16 H100: 1e21 operations, 46 hours (arXiv 2605.20613), 1,472 dollars at 2 an hour."""
    made = cost(CONFIGS["xl"](65_536, 4097), PUBLISHED_TOKENS, gpus=16, price=2.0)
    assert made.flops == pytest.approx(1.05e21, rel=0.001)
    assert made.hours == pytest.approx(46, rel=0.005)
    assert made.dollars == pytest.approx(1472, rel=0.005)
    assert made.parameters == 1_182_793_728
    assert made.memory_bytes < 80e9  # the published run used 80 GB cards, without activation checkpointing


def test_memory_is_that_of_the_packs_that_a_training_computes_together() -> None:
    xl = CONFIGS["xl"](65_536, 4097)
    few, many = (cost(xl, PUBLISHED_TOKENS, gpus, 2.0) for gpus in (4, 48))
    assert many.fits and many.micro_packs == 1
    assert few.fits and few.micro_packs < xl.batch_packs / 4  # as many as fit, not the whole share
    alone = xl.model_copy(update={"micro_packs": 1})
    whole, recomputed = (
        cost(alone.model_copy(update={"recompute": value}), PUBLISHED_TOKENS, 1, 2.0) for value in (False, True)
    )
    assert recomputed.memory_bytes < whole.memory_bytes == sum(memory(alone, 1, 1, True))
    config = xl.model_copy(update={"micro_packs": 12})
    made = cost(config, PUBLISHED_TOKENS, 4, 2.0)
    assert not made.fits and made.micro_packs == 12
    (*_, last) = cost_lines(config, made, 4, 2.0, 0.4)
    assert last == "more than the 80 GB of an H100; use micro_packs=1 or recompute=true or more GPUs"


def test_a_batch_is_not_planned_on_more_gpus_than_it_has_packs() -> None:
    xl = CONFIGS["xl"](65_536, 4097)
    with pytest.raises(WinnowError, match="use at most 48 workers"):
        cost(xl, PUBLISHED_TOKENS, 500, 2.0)


def test_operations_per_token_are_the_published_ones() -> None:
    xl, large = (CONFIGS[name](65_536, 4097) for name in ("xl", "l"))
    assert flops_per_token(xl.model) == pytest.approx(18.27e9, rel=0.001)
    assert mean_flops_per_token(xl) == pytest.approx(17.49e9, rel=0.001)
    assert mean_flops_per_token(large) == pytest.approx(9.57e9, rel=0.001)


@pytest.mark.parametrize("architecture", ["hrm", "transformer", "universal", "rins", "trm", "trm_half"])
def test_counts_are_those_of_the_model(architecture: Architecture) -> None:
    config = SMALL.model_copy(update={"architecture": architecture})
    with torch.device("meta"):
        assert parameters(config) == sum(p.numel() for p in HrmText(config).parameters())
    model, tokens = build(config, 0), 16
    with FlopCounterMode(display=False) as counter:
        model(torch.arange(tokens), torch.arange(tokens), lambda slot, q, k, v: v).sum().backward()
    # The embedding's gradient is not a matrix product, and the first product may skip its input's gradient.
    assert counter.get_total_flops() == pytest.approx(flops_per_token(config) * tokens, rel=0.06)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_estimated_activations_are_those_that_the_backward_pass_keeps(
    variant: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MAX_STORED_SCORES", 0)  # GPU kernels do not store scores
    config = CONFIGS["b"](256, 257)
    config = config.model_copy(
        update={
            "model": SMALL.model_copy(update={"blocks": 6, "max_positions": 256, **variant}),
            "batch_packs": 1,
        }
    )
    model = build(config.model, 0).to(torch.bfloat16)
    plan, kept = plan_attention([100], [156], torch.bfloat16), {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(torch.arange(256) % 96, torch.arange(256), lambda slot, q, k, v: attend(plan, q, k, v))
    made = memory(config, 1, 1, gpu=False)
    assert logits.requires_grad
    assert sum(kept.values()) == pytest.approx(made.activations, rel=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_blocks_matrices_are_its_parameters(variant: dict[str, object]) -> None:
    config = ModelConfig(vocab_size=64, hidden=48, heads=3, feed_forward=80, blocks=1, **variant)
    listed = {f"{matrix.name}.weight": (matrix.rows, matrix.columns) for matrix in Block.matrices(config)}
    assert listed == {
        name: tuple(parameter.flatten(0, -2).shape) for name, parameter in new_block(config).named_parameters()
    }
    assert all(matrix.rows % len(matrix.parts) == 0 for matrix in Block.matrices(config))

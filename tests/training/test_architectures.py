"""The baseline architectures: their passes and gradients equal definitions written out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training.attention import attend, plan_attention
from training.elementwise import rms_norm
from training.model import Architecture, HrmText, ModelConfig, Norm, build, rotation, schedule, slots

SMALL = ModelConfig(vocab_size=64, hidden=32, heads=2, feed_forward=48, blocks=2, max_positions=32)
PLAN = plan_attention([4, 3], [5, 2])
TOKENS = torch.randint(0, 64, (14,), generator=torch.Generator().manual_seed(0))
POSITIONS = torch.cat((torch.arange(9), torch.arange(5)))

Pass = Callable[[Tensor], Tensor]


def see(slot: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(PLAN, q, k, v)


def universal(H: Pass, L: Pass | None, x: Tensor, z: Tensor) -> Tensor:
    z = H(H(z + x) + x).detach()
    return H(H(z + x) + x)


def rins(H: Pass, L: Pass, x: Tensor, z: Tensor) -> Tensor:
    z = L(L(L(z + x) + x) + x).detach()
    return H(L(L(L(L(z + x) + x) + x) + x))


def trm(H: Pass, L: Pass | None, x: Tensor, z: Tensor) -> Tensor:
    z = H(z + x).detach()
    x = H(x + z).detach()
    z = H(z + x)
    return H(x + z)


def trm_half(H: Pass, L: Pass | None, x: Tensor, z: Tensor) -> Tensor:
    z = H(H(H(z + x) + x) + x).detach()
    x = H(x + z)
    z = H(H(H(z + x) + x) + x)
    return H(x + z)


WRITTEN_OUT = {
    "transformer": lambda H, L, x, z: H(x),
    "universal": universal,
    "rins": rins,
    "trm": trm,
    "trm_half": trm_half,
}


def written_out(model: HrmText, architecture: str) -> Tensor:
    """Logits by the definition above; all calls have the same attention here."""
    turn = rotation(POSITIONS, 16, SMALL.rope_theta)
    H, L = (
        (lambda u, module=module: module(u, turn, see, 0)) if module is not None else None
        for module in (getattr(model, f"{name}_module", None) for name in "HL")
    )
    x = model.embed_tokens(TOKENS) * math.sqrt(SMALL.hidden)
    z = WRITTEN_OUT[architecture](H, L, x, model.z_L_init.float().expand_as(x))
    return model.lm_head(z)


@pytest.mark.parametrize("architecture", WRITTEN_OUT)
def test_passes_and_gradients_are_those_written_out(architecture: Architecture) -> None:
    model = build(SMALL.model_copy(update={"architecture": architecture}), 0)
    results = []
    for logits in (model(TOKENS, POSITIONS, see), written_out(model, architecture)):
        model.zero_grad()
        (logits.square().sum() / 2).backward()
        results.append([logits.detach(), *(p.grad for p in model.parameters())])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


def test_all_have_the_same_parameters_except_the_half_model() -> None:
    counts = {}
    for name in (*WRITTEN_OUT, "hrm"):
        model = build(SMALL.model_copy(update={"architecture": name}), 0)
        counts[name] = sum(p.numel() for p in model.H_module.parameters())
        counts[name] += sum(p.numel() for p in model.L_module.parameters()) if hasattr(model, "L_module") else 0
    assert len({count for name, count in counts.items() if name != "trm_half"}) == 1
    assert counts["trm_half"] * 2 == counts["hrm"]


def test_all_except_the_transformer_compute_as_many_blocks_as_hrm() -> None:
    blocks = {name: slots(SMALL.model_copy(update={"architecture": name})) for name in (*WRITTEN_OUT, "hrm")}
    assert blocks.pop("transformer") == 4
    assert set(blocks.values()) == {16}


@pytest.mark.parametrize(
    ("bp_steps", "learning"), [(2, "L5 H1"), (3, "H0 L5 H1"), (4, "H0 L4 L5 H1"), (5, "H0 L3 L4 L5 H1")]
)
def test_hrm_differentiates_the_published_calls(bp_steps: int, learning: str) -> None:
    names = ["L0", "L1", "L2", "H0", "L3", "L4", "L5", "H1"]
    calls = schedule(SMALL, bp_steps)
    assert [call.module + call.into for call in calls] == [name[0] * 2 for name in names]
    assert [name for name, call in zip(names, calls, strict=True) if call.learns] == learning.split()


@pytest.mark.parametrize("norm", ["magic", "pre", "post"])
def test_each_kind_of_norm_is_at_its_place(norm: Norm) -> None:
    config = SMALL.model_copy(update={"architecture": "transformer", "norm": norm, "blocks": 1})
    model = build(config, 3)
    turn = rotation(POSITIONS, 16, config.rope_theta)
    u = model.embed_tokens(TOKENS) * math.sqrt(config.hidden)
    for slot, block in enumerate(model.H_module.layers):
        if norm == "post":
            u = rms_norm(u + block.attn(u, turn, see, slot))
            u = rms_norm(u + block.mlp(u))
        else:
            u = u + block.attn(rms_norm(u), turn, see, slot)
            u = u + block.mlp(rms_norm(u))
    expected = model.lm_head(u if norm == "post" else rms_norm(u))
    torch.testing.assert_close(model(TOKENS, POSITIONS, see), expected)


def test_prenorm_states_grow_and_magic_and_post_norm_states_do_not() -> None:
    """After eight calls the state of PreNorm has grown. MagicNorm and PostNorm keep unit variance."""
    sizes = {}
    for norm in ("magic", "pre", "post"):
        model = build(SMALL.model_copy(update={"norm": norm}), 1)
        seen = []
        model.H_module.register_forward_hook(lambda module, given, out, seen=seen: seen.append(out.square().mean()))
        model(TOKENS, POSITIONS, see)
        sizes[norm] = seen[-1].sqrt().item()
    assert sizes["magic"] == pytest.approx(1, abs=0.01) and sizes["post"] == pytest.approx(1, abs=0.01)
    assert sizes["pre"] > 2

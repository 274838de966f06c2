"""The model is HRM-Text: sizes, weights, and equality with transformers' implementation."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import HrmTextConfig, HrmTextForCausalLM

from training.attention import attend, plan_attention, reference
from training.configs import CONFIGS
from training.model import HrmText, ModelConfig, build, slots

SMALL = ModelConfig(vocab_size=512, hidden=64, heads=4, feed_forward=256, blocks=2, max_positions=64)
SEQUENCES = [(5, 7), (11, 1), (3, 16), (9, 4)]
"""Lengths of prefix and response; a response of r tokens has r - 1 input rows after the prefix."""

PUBLISHED = {
    "b": 300_941_312,
    "l": 694_681_600,
    "xl": 1_182_793_728,
    "xxl": 3_273_654_272,
    "xxl_wide": 3_082_813_440,
}


def hf_names(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Names of the published file, which are those here, to names in transformers' memory."""
    name = name if name.startswith("lm_head") else f"model.{name}"
    if "gqkv_proj" in name:
        for part, piece in zip(["gate", "q", "k", "v"], tensor.chunk(4), strict=True):
            yield name.replace("attn.gqkv_proj", f"self_attn.{part}_proj"), piece
    elif "gate_up_proj" in name:
        for part, piece in zip(["gate", "up"], tensor.chunk(2), strict=True):
            yield name.replace("gate_up_proj", f"{part}_proj"), piece
    else:
        yield name.replace(".attn.o_proj", ".self_attn.o_proj"), tensor


def hf_twin(model: HrmText, bp: list[int]) -> HrmTextForCausalLM:
    config = HrmTextConfig(
        vocab_size=model.config.vocab_size, hidden_size=model.config.hidden, num_attention_heads=model.config.heads,
        head_dim=model.config.hidden // model.config.heads, intermediate_size=model.config.feed_forward,
        num_hidden_layers=model.config.blocks, L_bp_cycles=bp, embedding_scale=math.sqrt(model.config.hidden),
        max_position_embeddings=model.config.max_positions, attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": model.config.rope_theta},
    )  # fmt: skip
    twin = HrmTextForCausalLM(config)
    state = {k: v for name, tensor in model.state_dict().items() for k, v in hf_names(name, tensor.float())}
    twin.load_state_dict(state)
    return twin


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


class Packed:
    """The four sequences: random tokens, packed for Winnow and one by one for transformers."""

    def __init__(self, prefix_one: bool = False) -> None:
        generator = torch.Generator().manual_seed(3)
        self.sequences = [torch.randint(0, 512, (p + r,), generator=generator) for p, r in SEQUENCES]
        self.tokens = torch.cat([s[:-1] for s in self.sequences])
        self.positions = torch.cat([torch.arange(len(s) - 1) for s in self.sequences])
        self.prefixes = [1 if prefix_one else p for p, _ in SEQUENCES]
        self.plan = plan_attention(
            self.prefixes, [len(s) - 1 - p for s, p in zip(self.sequences, self.prefixes, strict=True)]
        )
        ends = torch.tensor([0] + [len(s) - 1 for s in self.sequences]).cumsum(0)[:-1].tolist()
        pairs = list(zip(ends, SEQUENCES, strict=True))
        self.rows = torch.cat([start + torch.arange(p - 1, p + r - 1) for start, (p, r) in pairs])
        self.labels = torch.cat([s[p:] for s, (p, _) in zip(self.sequences, SEQUENCES, strict=True)])

    def attend(self, slot: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(self.plan, q, k, v)

    def loss(self, model: HrmText, bp_steps: int) -> Tensor:
        logits = model(self.tokens, self.positions, self.attend, bp_steps, self.rows)
        return F.cross_entropy(logits, self.labels)

    def hf_logits(self, twin: HrmTextForCausalLM) -> list[Tensor]:
        logits = []
        for s, p in zip(self.sequences, self.prefixes, strict=True):
            types = (torch.arange(len(s) - 1) < p).long()[None]
            logits.append(twin(input_ids=s[None, :-1], token_type_ids=types, use_cache=False).logits[0])
        return logits

    def hf_loss(self, twin: HrmTextForCausalLM) -> Tensor:
        rows = [x[p - 1 :] for x, (p, _) in zip(self.hf_logits(twin), SEQUENCES, strict=True)]
        return F.cross_entropy(torch.cat(rows), self.labels)


@pytest.fixture(scope="module")
def model() -> HrmText:
    return build(SMALL, seed=7)


@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_have_the_published_parameter_counts(size: str) -> None:
    with torch.device("meta"):
        model = HrmText(CONFIGS[size](65_536, 4097).model)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[size]


def test_weights_depend_only_on_seed_and_name(model: HrmText) -> None:
    torch.manual_seed(99)
    again, other = build(SMALL, seed=7).state_dict(), build(SMALL, seed=8).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again[name])
        assert not torch.equal(tensor, other[name])
    assert not torch.equal(again["embed_tokens.weight"], again["lm_head.weight"])


def test_weights_are_truncated_lecun_normal() -> None:
    state = build(ModelConfig(vocab_size=4096, hidden=256, heads=4, feed_forward=768, blocks=1), seed=0).state_dict()
    for name, tensor in state.items():
        fan_in = 256 if name == "embed_tokens.weight" else tensor.shape[-1]
        unit = tensor.float() * (1.0 if name == "z_L_init" else math.sqrt(fan_in))
        assert abs(unit.std().item() - 1) < (0.2 if name == "z_L_init" else 0.01), name
        assert unit.abs().max() < 3.06
    assert state["z_L_init"].dtype == torch.bfloat16


@pytest.mark.parametrize("causal", [False, True], ids=["prefix-lm", "causal"])
def test_logits_equal_transformers(model: HrmText, causal: bool) -> None:
    packed = Packed(prefix_one=causal)
    with torch.no_grad():
        ours = model(packed.tokens, packed.positions, packed.attend)
        theirs = torch.cat(packed.hf_logits(hf_twin(model, [0, 3])))
    assert relative(ours, theirs) < 1e-5


@pytest.mark.parametrize("bp_steps", [3, 4, 5])
def test_loss_and_gradients_equal_transformers(model: HrmText, bp_steps: int) -> None:
    packed, twin = Packed(), hf_twin(model, [0, bp_steps - 2])
    model.zero_grad()
    ours, theirs = packed.loss(model, bp_steps), packed.hf_loss(twin)
    ours.backward()
    theirs.backward()
    assert relative(ours, theirs) < 1e-5
    hf_grads = {name: p.grad for name, p in twin.named_parameters()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        for hf_name, gradient in hf_names(name, parameter.grad):
            assert relative(gradient, hf_grads[hf_name]) < 1e-5, name


def test_two_bp_steps_leave_the_embedding_without_gradient(model: HrmText) -> None:
    model.zero_grad()
    Packed().loss(model, 2).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == ["embed_tokens.weight"]


def test_bp_steps_below_two_are_refused(model: HrmText) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Packed().loss(model, 1)


def test_packing_changes_nothing(model: HrmText) -> None:
    packed = Packed()
    with torch.no_grad():
        together = model(packed.tokens, packed.positions, packed.attend)
        apart = []
        for s, p in zip(packed.sequences, packed.prefixes, strict=True):
            alone = plan_attention([p], [len(s) - 1 - p])
            see = functools.partial(lambda plan, slot, q, k, v: reference(plan, q, k, v), alone)
            apart.append(model(s[:-1], torch.arange(len(s) - 1), see))
    assert relative(together, torch.cat(apart)) < 1e-5


def test_every_attention_call_has_its_own_slot(model: HrmText) -> None:
    packed, seen = Packed(), []

    def watch(slot: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append(slot)
        return packed.attend(slot, q, k, v)

    model(packed.tokens, packed.positions, watch)
    assert seen == list(range(slots(SMALL)))

"""HRM-Text: two small transformers, H and L, that update each other's state over a few cycles.

    x  = E[tokens] * sqrt(D)            zH = x,  zL = a fixed random vector, the same for every token
    for each high cycle:                (2)
        for each low cycle: zL = L(zL + zH)          (3)
        zH = H(zH + zL)
    logits = W_head zH

The input enters once, as the first zH. States are added, never gated or projected. No state is carried between batches.
Eight module calls make four passes over the core weights; only the last `bp_steps` calls are differentiated.
The baseline architectures are other schedules of calls to the same kind of module: see `schedule`.

MagicNorm keeps the recurrence stable: PreNorm residual blocks inside a module, and one more norm at its exit. No norm
has a learned scale, so the weight matrices are the only trained parameters. The eight exit norms bound the forward pass
as PostNorm does, and each differentiated call keeps the identity path of PreNorm.

Source: sapientinc/HRM-Text (arXiv 2605.20613). Parameter names are those of the published HRM-Text-1B file.

Shape suffixes: N tokens of a packed batch, M rows to predict from, V vocabulary, D hidden, H heads, K head width
(D = H K), F feed-forward width. `call` counts module calls (0..7), `slot` attention calls (call * blocks + block).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from training.attention import Queries, Selected
from training.elementwise import rms_norm, rotate
from training.int4 import Int4Embedding, Int4Linear
from training.routing import Choice, Experts, Pairs, Router, Routing, SelectiveHeads, by_part, dense_weights

TRUNCATED_STD = 1.014762601732121
"""Factor that restores standard deviation 1 after fmod(N(0, 1), 3)."""

Attend = Callable[[int, Queries, Tensor, Tensor], Tensor]
"""(slot, q_NHK, k_NHK, v_NHK) -> a_NHK, or a_PK for queries of chosen heads. The caller supplies the mask and the
cache; see training/attention.py and training/inference/cache.py."""

Head = Callable[[Tensor, Tensor], Any]
"""(z_MD, weights of the head VD) -> what the model returns instead of the logits."""

Routings = list[tuple[Routing, ...]]
"""What the routers of a block did, for each slot."""

Architecture = Literal["hrm", "transformer", "universal", "rins", "trm", "trm_half"]
"""HRM and its baselines. Each has `2 * blocks` blocks of parameters, except trm_half, which has half as many."""

Norm = Literal["magic", "pre", "post"]
"""magic: PreNorm blocks and a norm at each module's exit. pre: PreNorm blocks and one norm before the head, as in one
deep transformer. post: a norm after every residual sum."""


class ModelConfig(BaseModel):
    """The shape of a model. `blocks` counts the blocks of ONE of HRM's two modules, so the model has `2 * blocks`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int
    hidden: int
    heads: int
    feed_forward: int
    blocks: int
    high_cycles: int = 2
    low_cycles: int = 3
    rope_theta: float = 10_000.0
    max_positions: int = 4096
    architecture: Architecture = "hrm"
    norm: Norm = "magic"
    # Variants. They are left out of a checkpoint of a model without them, as of those before them.
    selective: SelectiveHeads = Field(default=SelectiveHeads(), exclude_if=lambda value: not value.active)
    experts: Experts = Field(default=Experts(), exclude_if=lambda value: not value.count)

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> ModelConfig:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden {self.hidden} must split into {self.heads} heads of even width")
        active, shared = self.selective.active, self.selective.shared
        if active and not shared < active <= self.heads:
            raise ValueError(
                f"selective: a token uses {active} heads, {shared} of them shared; it must use more than are shared, "
                f"and at most the model's {self.heads}"
            )
        experts = self.experts
        if experts.count and not (0 < experts.active <= experts.count and experts.width):
            raise ValueError(
                f"experts: a token uses {experts.active} of {experts.count}, each of width {experts.width}; it must "
                "use at least one and at most all, and they need a width"
            )
        return self

    @property
    def variant(self) -> str | None:
        """What the model has that HRM-Text has not, in words; None for HRM-Text itself."""
        names = {"selective heads": self.selective.active, "experts": self.experts.count}
        return " and ".join(name for name, size in names.items() if size) or None


class Matrix(NamedTuple):
    """A weight matrix of a block. It multiplies every token once per module call."""

    name: str  # the linear layer's path within the block
    rows: int
    columns: int
    parts: tuple[str, ...]  # equal ranges of rows, in order; transformers stores each as `<part>_proj`
    used: float = 1.0  # share of its parameters that a token is multiplied with, where skipped parts are not computed
    trained: float = 1.0  # the same for training


class Routed(NamedTuple):
    """A kind of router in each block. path: within the block. parts: to choose from. active: that a token uses."""

    path: str
    parts: int
    active: int


def routers(config: ModelConfig) -> dict[str, Routed]:
    """The routers of a block by the name of what they choose, in the order in which a block reports them."""
    kinds = {}
    if config.selective.active:
        shared = config.selective.shared
        kinds["heads"] = Routed("attn.router", config.heads - shared, config.selective.active - shared)
    if config.experts.count:
        kinds["experts"] = Routed("mlp.router", config.experts.count, config.experts.active)
    return kinds


class Call(NamedTuple):
    """One module call: state[into] = module(sum of the states `of`). States: H starts as the input, L as `z_L_init`."""

    module: Literal["H", "L"]
    into: Literal["H", "L"]
    of: str  # "H", "L" or "HL"
    learns: bool = False  # whether the call is differentiated


@lru_cache
def schedule(config: ModelConfig, bp_steps: int = 5) -> tuple[Call, ...]:
    """The module calls of one forward pass, in order. The state that the last call writes goes to the head.

    A gradient flows through the last few calls into each state. HRM differentiates `bp_steps` = K calls: the last
    min(high_cycles, K - 1) calls of H and the remaining ones of L, e.g. K = 5 gives 2 and 3. The other architectures
    have fixed numbers. With 2 x 3 cycles all but the transformer need the same operations for a forward pass. The
    baselines are those of sapientinc/HRM-Text:

    transformer  all blocks, once
    universal    all blocks, 4 times, the input added each time          (Universal Transformer, arXiv 1807.03819)
    rins         half the blocks 7 times, likewise, then the other half  (Recursive Inference Scaling, arXiv 2502.07503)
    trm          HRM with one module of all blocks for both, 2 x 1 cycles (Tiny Recursive Model, arXiv 2510.04871)
    trm_half     HRM with one module of half the blocks for both

    Raises:
        ValueError: if bp_steps is below 2. At least one call of L and one of H must be differentiated.
    """
    if bp_steps < 2:
        raise ValueError(f"bp_steps {bp_steps}: at least 2 calls must be differentiated, one of L and one of H")
    high_cycles, low_cycles = config.high_cycles, config.low_cycles
    half_passes = high_cycles * (low_cycles + 1)
    low, high = Call("L", "L", "HL"), Call("H", "H", "HL")
    shared = low._replace(module="H")
    last: dict[str, int]
    match config.architecture:
        case "hrm":
            calls = ([low] * low_cycles + [high]) * high_cycles
            last = {"H": min(high_cycles, bp_steps - 1), "L": bp_steps - min(high_cycles, bp_steps - 1)}
        case "transformer":
            calls, last = [Call("H", "H", "H")], {"H": 1}
        case "universal":
            calls, last = [shared] * (half_passes // 2), {"L": 2}
        case "rins":
            calls, last = [low] * (half_passes - 1) + [Call("H", "H", "L")], {"L": 4, "H": 1}
        case "trm":
            calls, last = [shared, high] * high_cycles, {"L": 1, "H": 1}
        case "trm_half":
            calls, last = ([shared] * low_cycles + [high]) * high_cycles, {"L": 3, "H": 2}
    ordered = []
    for call in reversed(calls):
        ordered.append(call._replace(learns=last[call.into] > 0))
        last[call.into] -= 1
    return tuple(reversed(ordered))


def module_blocks(config: ModelConfig) -> int:
    """Number of blocks in each module."""
    return config.blocks * (2 if config.architecture in ("transformer", "universal", "trm") else 1)


def slots(config: ModelConfig) -> int:
    """Attention calls of one forward pass: module calls times blocks. Each needs its own keys and values in a cache."""
    return len(schedule(config)) * module_blocks(config)


def rotation(positions_N: Tensor, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of the RoPE angles, each float32 [N, 1, K/2], for heads of `width` K."""
    frequency = theta ** -(torch.arange(0, width, 2, dtype=torch.float32, device=positions_N.device) / width)
    angle = positions_N.float()[:, None, None] * frequency
    return angle.cos(), angle.sin()


class Attention(nn.Module):
    """Multi-head attention. A sigmoid of the input gates every output element."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.gqkv_proj = nn.Linear(config.hidden, 4 * config.hidden, bias=False)
        self.o_proj = nn.Linear(config.hidden, config.hidden, bias=False)

    def forward(self, u_ND: Tensor, angles: tuple[Tensor, Tensor], attend: Attend, slot: int) -> Tensor:
        gate_ND, qk_N2D, v_ND = self.gqkv_proj(u_ND).split((u_ND.shape[1], 2 * u_ND.shape[1], u_ND.shape[1]), -1)
        q_NHK, k_NHK = rotate(qk_N2D.unflatten(-1, (2 * self.heads, -1)), *angles).chunk(2, 1)
        a_NHK = attend(slot, q_NHK, k_NHK, v_ND.unflatten(-1, (self.heads, -1)))
        out_ND: Tensor = self.o_proj(torch.sigmoid(gate_ND) * a_NHK.flatten(1))
        return out_ND


class SelectiveAttention(nn.Module):
    """Attention of which a token uses some heads: the shared ones and those that a router chooses.

    A head that a token does not use has no gate, query and output there. Keys and values are computed of all heads,
    because a later token may use any of them. In training, and on a GPU, all heads are computed and those not used are
    multiplied with 0. Else the products and the attention of each head have only the tokens that use it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.shared = config.heads, config.selective.shared
        self.gqkv_proj = nn.Linear(config.hidden, 4 * config.hidden, bias=False)
        self.o_proj = nn.Linear(config.hidden, config.hidden, bias=False)
        self.router = Router(config.hidden, config.heads - self.shared, config.selective.active - self.shared)

    def forward(self, u_ND: Tensor, angles: tuple[Tensor, Tensor], attend: Attend, slot: int) -> tuple[Tensor, Routing]:
        choice, routing = self.router(u_ND)
        if self.training or u_ND.is_cuda:
            weight_NR = dense_weights(choice, self.heads - self.shared).to(u_ND.dtype)
            weight_NH = F.pad(weight_NR, (self.shared, 0), value=1.0)
            return self._masked(u_ND, weight_NH, angles, attend, slot), routing
        return self._gathered(u_ND, by_part(choice), routing.counts.tolist(), angles, attend, slot), routing

    def _masked(
        self, u_ND: Tensor, weight_NH: Tensor, angles: tuple[Tensor, Tensor], attend: Attend, slot: int
    ) -> Tensor:
        gate_ND, qk_N2D, v_ND = self.gqkv_proj(u_ND).split((u_ND.shape[1], 2 * u_ND.shape[1], u_ND.shape[1]), -1)
        q_NHK, k_NHK = rotate(qk_N2D.unflatten(-1, (2 * self.heads, -1)), *angles).chunk(2, 1)
        a_NHK = attend(slot, q_NHK, k_NHK, v_ND.unflatten(-1, (self.heads, -1))) * weight_NH[..., None]
        out_ND: Tensor = self.o_proj(torch.sigmoid(gate_ND) * a_NHK.flatten(1))
        return out_ND

    def _gathered(
        self,
        u_ND: Tensor,
        pairs: Pairs,
        counts: list[int],
        angles: tuple[Tensor, Tensor],
        attend: Attend,
        slot: int,
    ) -> Tensor:
        N, D = u_ND.shape
        K = D // self.heads
        first = self.shared * K
        gate_DD, q_DD, kv_2DD = torch.split(self.gqkv_proj.weight, [D, D, 2 * D])
        o_DD = self.o_proj.weight
        k_NHK, v_NHK = F.linear(u_ND, kv_2DD).view(N, 2 * self.heads, K).chunk(2, 1)
        k_NHK = rotate(k_NHK, *angles)
        q_NSK = rotate(F.linear(u_ND, q_DD[:first]).view(N, self.shared, K), *angles)
        # The rows of the weights that belong to the heads to choose from, and the tokens of each.
        ranges = [slice(start, start + K) for start in range(first, D, K)]
        u_PD = torch.split(u_ND.index_select(0, pairs.token_P), counts)
        q_PK = torch.cat([F.linear(u, q_DD[rows]) for u, rows in zip(u_PD, ranges, strict=True)])
        gate_PK = torch.cat([F.linear(u, gate_DD[rows]) for u, rows in zip(u_PD, ranges, strict=True)])
        cos_PK, sin_PK = (angle.index_select(0, pairs.token_P)[:, 0] for angle in angles)
        queries = Selected(q_NSK, rotate(q_PK, cos_PK, sin_PK), pairs.token_P, counts)
        a_NSK, a_PK = torch.split(attend(slot, queries, k_NHK, v_NHK), [N * self.shared, len(q_PK)])
        out_ND = F.linear(torch.sigmoid(F.linear(u_ND, gate_DD[:first])) * a_NSK.reshape(N, first), o_DD[:, :first])
        a_PK = torch.sigmoid(gate_PK) * a_PK * pairs.weight_P[:, None].to(a_PK.dtype)
        parts = zip(torch.split(a_PK, counts), torch.split(pairs.token_P, counts), ranges, strict=True)
        for a, tokens, columns in parts:
            out_ND = out_ND.index_add(0, tokens, F.linear(a, o_DD[:, columns]))
        return out_ND


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(config.hidden, 2 * config.feed_forward, bias=False)
        self.down_proj = nn.Linear(config.feed_forward, config.hidden, bias=False)

    def forward(self, u_ND: Tensor) -> Tensor:
        gate_NF, up_NF = self.gate_up_proj(u_ND).chunk(2, -1)
        out_ND: Tensor = self.down_proj(F.silu(gate_NF) * up_NF)
        return out_ND


class ExpertMatrices(nn.Module):
    """A matrix for each expert: weight [E, rows, columns]."""

    def __init__(self, experts: int, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, rows, columns))

    def forward(self, x_PD: Tensor, counts_E: Tensor) -> Tensor:
        """The product of each token with the matrix of its expert, [P, rows]. The tokens are sorted by expert."""
        if x_PD.is_cuda and x_PD.dtype == torch.bfloat16:
            return grouped_product(x_PD, self.weight, counts_E)
        parts = zip(torch.split(x_PD, counts_E.tolist()), self.weight, strict=True)
        return torch.cat([F.linear(x, weight) for x, weight in parts if len(x)])


def grouped_product(x_PD: Tensor, weight_EFD: Tensor, counts_E: Tensor) -> Tensor:
    """The products of ranges of rows with matrices [E, F, D], in one kernel and without waiting for the CPU."""
    ends_E = counts_E.cumsum(0).to(torch.int32)
    return F.grouped_mm(x_PD, weight_EFD.transpose(-1, -2), offs=ends_E)


class MixedFeedForward(FeedForward):
    """The shared expert, which every token uses, and experts of which a router chooses some. All are SwiGLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        experts = config.experts
        self.router = Router(config.hidden, experts.count, experts.active, experts.rate)
        self.experts_gate_up_proj = ExpertMatrices(experts.count, 2 * experts.width, config.hidden)
        self.experts_down_proj = ExpertMatrices(experts.count, config.hidden, experts.width)

    def forward(self, u_ND: Tensor) -> tuple[Tensor, Routing]:  # type: ignore[override]
        choice, routing = self.router(u_ND)
        out_ND: Tensor = super().forward(u_ND) + self._chosen(u_ND, choice, routing.counts)
        return out_ND, routing

    def _chosen(self, u_ND: Tensor, choice: Choice, counts_E: Tensor) -> Tensor:
        pairs = by_part(choice)
        N, A = choice.part_NA.shape
        # Copies in the order of tokens, then sorted, and the reverse: no sum depends on the order of a GPU's threads.
        u_PD = u_ND[:, None].expand(N, A, -1).flatten(0, 1).index_select(0, pairs.order_P)
        gate_PF, up_PF = self.experts_gate_up_proj(u_PD, counts_E).chunk(2, -1)
        out_PD: Tensor = self.experts_down_proj(F.silu(gate_PF) * up_PF, counts_E) * pairs.weight_P[:, None].to(
            u_ND.dtype
        )
        return out_PD.index_select(0, pairs.order_P.argsort()).view(N, A, -1).sum(1)


class Block(nn.Module):
    """A residual block: PreNorm, or PostNorm for `norm: post`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.post = config.norm == "post"
        self.attn: Attention | SelectiveAttention = Attention(config)
        self.mlp = FeedForward(config)

    @staticmethod
    def matrices(config: ModelConfig) -> tuple[Matrix, ...]:
        """The block's weight matrices, in the order in which a forward pass uses them.

        The one list of a block's parameters: costs (training/cost.py), export (training/export.py) and the compiled
        decoder (training/inference/cpu_pack.py) read it.
        """
        D, F = config.hidden, config.feed_forward
        kinds = routers(config)
        routed = {kind: Matrix(router.path, router.parts, D, ("router",)) for kind, router in kinds.items()}
        heads = config.selective.active / config.heads if "heads" in kinds else 1.0
        matrices = [
            *([routed["heads"]] if "heads" in kinds else []),
            Matrix("attn.gqkv_proj", 4 * D, D, ("gate", "q", "k", "v"), used=(2 + 2 * heads) / 4),
            Matrix("attn.o_proj", D, D, ("o",), used=heads),
            Matrix("mlp.gate_up_proj", 2 * F, D, ("gate", "up")),
            Matrix("mlp.down_proj", D, F, ("down",)),
        ]
        if "experts" in kinds:
            E, W = config.experts.count, config.experts.width
            share = config.experts.active / E
            matrices += [
                routed["experts"],
                Matrix("mlp.experts_gate_up_proj", E * 2 * W, D, ("gate_up",) * E, used=share, trained=share),
                Matrix("mlp.experts_down_proj", E * D, W, ("down",) * E, used=share, trained=share),
            ]
        return tuple(matrices)

    def forward(self, u_ND: Tensor, angles: tuple[Tensor, Tensor], attend: Attend, slot: int) -> Tensor:
        if self.post:
            u_ND = rms_norm(u_ND + self.attn(u_ND, angles, attend, slot))
            return rms_norm(u_ND + self.mlp(u_ND))
        u_ND = u_ND + self.attn(rms_norm(u_ND), angles, attend, slot)
        return u_ND + self.mlp(rms_norm(u_ND))  # type: ignore[no-any-return]


class RoutedBlock(Block):
    """A block of a variant. It also returns what its routers did, in the order of `routers`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.selective.active:
            self.attn = SelectiveAttention(config)
        if config.experts.count:
            self.mlp = MixedFeedForward(config)

    def forward(  # type: ignore[override]
        self, u_ND: Tensor, angles: tuple[Tensor, Tensor], attend: Attend, slot: int
    ) -> tuple[Tensor, tuple[Routing, ...]]:
        if self.post:
            a_ND, heads = _with_routing(self.attn(u_ND, angles, attend, slot))
            u_ND = rms_norm(u_ND + a_ND)
            f_ND, experts = _with_routing(self.mlp(u_ND))
            return rms_norm(u_ND + f_ND), heads + experts
        a_ND, heads = _with_routing(self.attn(rms_norm(u_ND), angles, attend, slot))
        u_ND = u_ND + a_ND
        f_ND, experts = _with_routing(self.mlp(rms_norm(u_ND)))
        return u_ND + f_ND, heads + experts


def _with_routing(out: Tensor | tuple[Tensor, Routing]) -> tuple[Tensor, tuple[Routing, ...]]:
    return (out, ()) if isinstance(out, Tensor) else (out[0], (out[1],))


def new_block(config: ModelConfig) -> Block:
    """A block of such a model."""
    return RoutedBlock(config) if config.variant else Block(config)


class Module(nn.Module):
    """Blocks, then the exit norm of MagicNorm. H and L are two instances."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.magic, self.routed = config.norm == "magic", config.variant is not None
        self.layers = nn.ModuleList(new_block(config) for _ in range(module_blocks(config)))

    def forward(
        self,
        u_ND: Tensor,
        angles: tuple[Tensor, Tensor],
        attend: Attend,
        call: int,
        routings: Routings | None = None,
    ) -> Tensor:
        for index, block in enumerate(self.layers):
            u_ND = block(u_ND, angles, attend, call * len(self.layers) + index)
            if self.routed:
                u_ND, of_block = u_ND
                if routings is not None:
                    routings.append(of_block)
        return rms_norm(u_ND) if self.magic else u_ND


class HrmText(nn.Module):
    """The complete model. `build` makes one with initial weights.

    It computes in the dtype of its matrices. To train in bf16 over float32 master weights, see `parallel.local_shards`
    and `parallel.apply_fsdp`. The embedding may stay in float32, because a batch reads few rows of it.
    """

    z_L_init: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens: nn.Embedding | Int4Embedding = nn.Embedding(config.vocab_size, config.hidden)
        for name in sorted({call.module for call in schedule(config)}):
            self.add_module(f"{name}_module", Module(config))
        self.lm_head: nn.Linear | Int4Linear = nn.Linear(config.hidden, config.vocab_size, bias=False)
        # A buffer, because it is never trained. bf16 as in the published checkpoints.
        self.register_buffer("z_L_init", torch.zeros(config.hidden, dtype=torch.bfloat16))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the model computes in."""
        head = self.lm_head
        return head.like.dtype if isinstance(head, Int4Linear) else head.weight.dtype

    def forward(
        self,
        tokens_N: Tensor,
        positions_N: Tensor,
        attend: Attend,
        bp_steps: int = 5,
        rows_M: Tensor | None = None,
        head: Head | None = None,
        routings: Routings | None = None,
    ) -> Any:
        """Logits [M, V] for the tokens after rows `rows_M` of the packed `tokens_N` (all N rows if None).

        head: computes something else from the rows and the head's weights (training/losses.py). routings: gets what the
        routers of a variant did, one entry for each slot.

        Only the last calls are differentiated (see `schedule`). With bp_steps 2 the first H call is not differentiated
        either, so the embedding gets no gradient.
        """
        config = self.config
        angles = rotation(positions_N, config.hidden // config.heads, config.rope_theta)
        z = (self.embed_tokens(tokens_N) * math.sqrt(config.hidden)).to(self.dtype)
        states = {"H": z, "L": self.z_L_init.to(z.dtype).expand_as(z)}
        gradients_enabled = torch.is_grad_enabled()
        for index, call in enumerate(schedule(config, bp_steps)):
            module = self.get_submodule(f"{call.module}_module")
            with torch.set_grad_enabled(gradients_enabled and call.learns):
                u = states["H"] + states["L"] if call.of == "HL" else states[call.of]
                z = states[call.into] = module(u, angles, attend, index, routings)
        z_MD = z if rows_M is None else z[rows_M]
        if config.norm == "pre":
            z_MD = rms_norm(z_MD)
        return self.lm_head(z_MD) if head is None else head(z_MD, self.lm_head.weight)


@torch.no_grad()
def update_routers(model: HrmText, counts: Tensor, applied: Tensor) -> None:
    """Give each router the choices of a step: [slots, R], of all kinds of routers and over all workers.

    applied: a boolean scalar on the device; if it is false nothing is changed.
    """
    kinds = routers(model.config).values()
    calls = schedule(model.config)
    by_call = counts.view(len(calls), module_blocks(model.config), -1).long()
    for name in {call.module for call in calls}:
        own = [index for index, call in enumerate(calls) if call.module == name]
        layers = model.get_submodule(f"{name}_module.layers")
        assert isinstance(layers, nn.ModuleList)
        for index, block in enumerate(layers):
            by_kind = torch.split(by_call[own, index].sum(0), [kind.parts for kind in kinds])
            for kind, counts_R in zip(kinds, by_kind, strict=True):
                router = block.get_submodule(kind.path)
                assert isinstance(router, Router)
                router.update(counts_R, applied)


def build(config: ModelConfig, seed: int, device: str = "cpu") -> HrmText:
    """A float32 model with LeCun-normal weights that depend only on `seed`.

    Each tensor has its own generator, seeded with a hash of the tensor's name. The weights are therefore the same for
    any number of processes and any order of creation (upstream's depend on the number of GPUs).
    """
    with torch.device("meta"):
        model = HrmText(config)
    model.to_empty(device=device)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():  # a router's count
                tensor.zero_()
                continue
            fan_in = config.hidden if name in ("embed_tokens.weight", "z_L_init") else tensor.shape[-1]
            std = 1.0 if name == "z_L_init" else 1 / math.sqrt(fan_in)
            digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
            normal = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(normal.fmod_(3).mul_(TRUNCATED_STD * std))  # values beyond 3 sigma wrap to near 0
    return model

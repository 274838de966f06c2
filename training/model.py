"""HRM-Text: two small transformers, H and L, that refine each other's state over a few cycles.

    x  = E[tokens] * sqrt(D)            zH = x,  zL = a fixed random vector, the same for every token
    for each high cycle:                (2)
        for each low cycle: zL = L(zL + zH)          (3)
        zH = H(zH + zL)
    logits = W_head zH

The input enters once, as the first zH; states are added, never gated or projected; nothing is carried between batches.
Eight module calls make four passes over the core's weights, but only the last `bp_steps` of them are differentiated.
The models it is compared with are other schedules of calls to the same kind of module: see `schedule`.

MagicNorm is what keeps this stable: inside a module, PreNorm residual blocks; at its exit, one more norm. No norm has a
scale, so the matrices are all there is to train. Eight exit norms bound the forward pass as PostNorm would, while the
few differentiated calls each keep the clean identity path of PreNorm.

Facts: sapientinc/HRM-Text (arXiv 2605.20613); the names of the parameters are those of the published HRM-Text-1B file.

Shape suffixes: N tokens of a packed batch, M rows to predict from, V vocabulary, D hidden, H heads, K head width
(D = H K), F feed-forward width. `call` counts module calls (0..7), `slot` attention calls (call * blocks + block).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from training.elementwise import rms_norm, rotate

TRUNCATED_STD = 1.014762601732121
"""What fmod(N(0, 1), 3) must be multiplied with to have standard deviation 1 again."""

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(slot, q_NHK, k_NHK, v_NHK) -> a_NHK. The model does not know who may look at whom; see training/attention.py."""


Architecture = Literal["hrm", "transformer", "universal", "rins", "trm", "trm_half"]
"""HRM and what it is compared with; every one of them has `2 * blocks` blocks of parameters, but trm_half has half."""

Norm = Literal["magic", "pre", "post"]
"""magic: PreNorm blocks and a norm at each module's exit. pre: PreNorm blocks, and one norm before the head, as if all
calls were one deep transformer. post: a norm after every residual sum."""


class ModelConfig(BaseModel):
    """The shape of a model. `blocks` counts the blocks of ONE of the two modules of HRM: `2 * blocks` in all."""

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

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> ModelConfig:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden {self.hidden} must split into {self.heads} heads of even width")
        return self


class Call(NamedTuple):
    """One module call: state[into] = module(sum of the states `of`). States: H starts as the input, L as `z_L_init`."""

    module: Literal["H", "L"]
    into: Literal["H", "L"]
    of: str  # "H", "L" or "HL"
    learns: bool = False  # whether it is differentiated


@lru_cache
def schedule(config: ModelConfig, bp_steps: int = 5) -> tuple[Call, ...]:
    """The module calls of one forward pass, in order; the state that the last one writes goes to the head.

    A gradient flows through the last few calls into each state. HRM differentiates `bp_steps` K calls: of H the last
    min(high_cycles, K - 1) and of L the rest, e.g. 5 -> 2 and 3; the others have numbers of their own. With 2 x 3
    cycles all but the transformer spend the same forward pass (the baselines of sapientinc/HRM-Text):

    transformer  all blocks, once
    universal    all blocks, 4 times, the input added each time          (Universal Transformer, arXiv 1807.03819)
    rins         half the blocks 7 times, likewise, then the other half  (Recursive Inference Scaling, arXiv 2502.07503)
    trm          HRM with one module of all blocks for both, 2 x 1 cycles (Tiny Recursive Model, arXiv 2510.04871)
    trm_half     HRM with one module of half the blocks for both

    Raises ValueError for bp_steps below 2: at least one call of each of L and H must be differentiated.
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
    """Blocks of each module of the architecture."""
    return config.blocks * (2 if config.architecture in ("transformer", "universal", "trm") else 1)


def slots(config: ModelConfig) -> int:
    """Attention invocations of one forward pass: 8 calls times the blocks of a module. Each needs its own KV cache."""
    return len(schedule(config)) * module_blocks(config)


def rotation(positions_N: Tensor, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of RoPE's angles, [N, 1, K/2] in float32, for heads of `width` K."""
    frequency = theta ** -(torch.arange(0, width, 2, dtype=torch.float32, device=positions_N.device) / width)
    angle = positions_N.float()[:, None, None] * frequency
    return angle.cos(), angle.sin()


class Attention(nn.Module):
    """Multi-head attention whose every output element is gated by a sigmoid of the input."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.gqkv_proj = nn.Linear(config.hidden, 4 * config.hidden, bias=False)  # rows: gate | q | k | v
        self.o_proj = nn.Linear(config.hidden, config.hidden, bias=False)

    def forward(self, u_ND: Tensor, turn: tuple[Tensor, Tensor], attend: Attend, slot: int) -> Tensor:
        gate_ND, qk_N2D, v_ND = self.gqkv_proj(u_ND).split((u_ND.shape[1], 2 * u_ND.shape[1], u_ND.shape[1]), -1)
        q_NHK, k_NHK = rotate(qk_N2D.unflatten(-1, (2 * self.heads, -1)), *turn).chunk(2, 1)
        a_NHK = attend(slot, q_NHK, k_NHK, v_ND.unflatten(-1, (self.heads, -1)))
        out_ND: Tensor = self.o_proj(torch.sigmoid(gate_ND) * a_NHK.flatten(1))
        return out_ND


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(config.hidden, 2 * config.feed_forward, bias=False)  # rows: gate | up
        self.down_proj = nn.Linear(config.feed_forward, config.hidden, bias=False)

    def forward(self, u_ND: Tensor) -> Tensor:
        gate_NF, up_NF = self.gate_up_proj(u_ND).chunk(2, -1)
        out_ND: Tensor = self.down_proj(F.silu(gate_NF) * up_NF)
        return out_ND


class Block(nn.Module):
    """A residual block, PreNorm but for `norm: post`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.post = config.norm == "post"
        self.attn = Attention(config)
        self.mlp = FeedForward(config)

    def forward(self, u_ND: Tensor, turn: tuple[Tensor, Tensor], attend: Attend, slot: int) -> Tensor:
        if self.post:
            u_ND = rms_norm(u_ND + self.attn(u_ND, turn, attend, slot))
            return rms_norm(u_ND + self.mlp(u_ND))
        u_ND = u_ND + self.attn(rms_norm(u_ND), turn, attend, slot)
        return u_ND + self.mlp(rms_norm(u_ND))  # type: ignore[no-any-return]


class Module(nn.Module):
    """Blocks, then the exit norm of MagicNorm: H and L are two of these."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.magic = config.norm == "magic"
        self.layers = nn.ModuleList(Block(config) for _ in range(module_blocks(config)))

    def forward(self, u_ND: Tensor, turn: tuple[Tensor, Tensor], attend: Attend, call: int) -> Tensor:
        for index, block in enumerate(self.layers):
            u_ND = block(u_ND, turn, attend, call * len(self.layers) + index)
        return rms_norm(u_ND) if self.magic else u_ND


class HrmText(nn.Module):
    """The whole model; make one with `build`, which gives it its weights.

    It computes in the dtype of its matrices: to run in bf16 over float32 master weights, call it through
    `torch.func.functional_call` with cast ones (as training/loop.py does), or let FSDP cast them. The embedding may
    stay in float32: of a large table few rows are read.
    """

    z_L_init: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden)
        for name in sorted({call.module for call in schedule(config)}):
            self.add_module(f"{name}_module", Module(config))
        self.lm_head = nn.Linear(config.hidden, config.vocab_size, bias=False)
        # A buffer: it never trains. bf16 as in the published checkpoints.
        self.register_buffer("z_L_init", torch.zeros(config.hidden, dtype=torch.bfloat16))

    def forward(
        self, tokens_N: Tensor, positions_N: Tensor, attend: Attend, bp_steps: int = 5, rows_M: Tensor | None = None
    ) -> Tensor:
        """Logits [M, V] for the tokens that follow `rows_M` of the packed `tokens_N` (all N rows when None).

        Differentiates the last calls only (see `schedule`). With bp_steps 2 the first H call is cut off too, so the
        embedding gets no gradient at all.
        """
        config = self.config
        turn = rotation(positions_N, config.hidden // config.heads, config.rope_theta)
        z = (self.embed_tokens(tokens_N) * math.sqrt(config.hidden)).to(self.lm_head.weight.dtype)
        states = {"H": z, "L": self.z_L_init.to(z.dtype).expand_as(z)}
        learning = torch.is_grad_enabled()
        for index, call in enumerate(schedule(config, bp_steps)):
            module = self.get_submodule(f"{call.module}_module")
            with torch.set_grad_enabled(learning and call.learns):
                u = states["H"] + states["L"] if call.of == "HL" else states[call.of]
                z = states[call.into] = module(u, turn, attend, index)
        z_MD = z if rows_M is None else z[rows_M]
        if config.norm == "pre":
            z_MD = rms_norm(z_MD)
        logits_MV: Tensor = self.lm_head(z_MD)
        return logits_MV


def build(config: ModelConfig, seed: int, device: str = "cpu") -> HrmText:
    """A float32 model with LeCun-normal weights that depend on `seed` alone.

    Every tensor has a generator of its own, seeded with a hash of its name: the same weights come out on any number of
    processes and in any order of creation (upstream's depend on the number of GPUs).
    """
    with torch.device("meta"):
        model = HrmText(config)
    model.to_empty(device=device)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            fan_in = config.hidden if name in ("embed_tokens.weight", "z_L_init") else tensor.shape[-1]
            std = 1.0 if name == "z_L_init" else 1 / math.sqrt(fan_in)
            digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
            normal = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(normal.fmod_(3).mul_(TRUNCATED_STD * std))  # beyond 3 sigma wraps to near 0
    return model

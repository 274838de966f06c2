"""HRM-Text: two small transformers, H and L, that refine each other's state over a few cycles.

    x  = E[tokens] * sqrt(D)            zH = x,  zL = a fixed random vector, the same for every token
    for each high cycle:                (2)
        for each low cycle: zL = L(zL + zH)          (3)
        zH = H(zH + zL)
    logits = W_head zH

The input enters once, as the first zH; states are added, never gated or projected; nothing is carried between batches.
Eight module calls make four passes over the core's weights, but only the last `bp_steps` of them are differentiated.

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

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from training.elementwise import rms_norm, rotate

TRUNCATED_STD = 1.014762601732121
"""What fmod(N(0, 1), 3) must be multiplied with to have standard deviation 1 again."""

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(slot, q_NHK, k_NHK, v_NHK) -> a_NHK. The model does not know who may look at whom; see training/attention.py."""


class ModelConfig(BaseModel):
    """The shape of a model. `blocks` counts the blocks of ONE module, so a model has `2 * blocks`."""

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

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> ModelConfig:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden {self.hidden} must split into {self.heads} heads of even width")
        return self


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
    """A PreNorm residual block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.mlp = FeedForward(config)

    def forward(self, u_ND: Tensor, turn: tuple[Tensor, Tensor], attend: Attend, slot: int) -> Tensor:
        u_ND = u_ND + self.attn(rms_norm(u_ND), turn, attend, slot)
        return u_ND + self.mlp(rms_norm(u_ND))  # type: ignore[no-any-return]


class Module(nn.Module):
    """Blocks, then the exit norm: H and L are two of these."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.blocks))

    def forward(self, u_ND: Tensor, turn: tuple[Tensor, Tensor], attend: Attend, call: int) -> Tensor:
        for index, block in enumerate(self.layers):
            u_ND = block(u_ND, turn, attend, call * len(self.layers) + index)
        return rms_norm(u_ND)


class HrmText(nn.Module):
    """The whole model; make one with `build`, which gives it its weights.

    It computes in the dtype of its weights: to run in bf16 over float32 master weights, call it through
    `torch.func.functional_call` with cast ones (as training/loop.py does), or let FSDP cast them.
    """

    z_L_init: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden)
        self.H_module = Module(config)
        self.L_module = Module(config)
        self.lm_head = nn.Linear(config.hidden, config.vocab_size, bias=False)
        # A buffer: it never trains. bf16 as in the published checkpoints.
        self.register_buffer("z_L_init", torch.zeros(config.hidden, dtype=torch.bfloat16))

    def forward(
        self, tokens_N: Tensor, positions_N: Tensor, attend: Attend, bp_steps: int = 5, rows_M: Tensor | None = None
    ) -> Tensor:
        """Logits [M, V] for the tokens that follow `rows_M` of the packed `tokens_N` (all N rows when None).

        Differentiates the last calls only, `bp_steps` K of them: min(high_cycles, K - 1) calls of H and the rest of L.
        With K = 2 the first H call is cut off too, so the embedding gets no gradient at all.
        """
        config = self.config
        high_bp, low_bp = differentiated(bp_steps, config.high_cycles)
        turn = rotation(positions_N, config.hidden // config.heads, config.rope_theta)
        z_H = self.embed_tokens(tokens_N) * math.sqrt(config.hidden)
        z_L = self.z_L_init.to(z_H.dtype).expand_as(z_H)
        learning = torch.is_grad_enabled()
        call = 0
        for high in range(config.high_cycles):
            for low in range(high * config.low_cycles, (high + 1) * config.low_cycles):
                with torch.set_grad_enabled(learning and low >= config.high_cycles * config.low_cycles - low_bp):
                    z_L = self.L_module(z_L + z_H, turn, attend, call)
                call += 1
            with torch.set_grad_enabled(learning and high >= config.high_cycles - high_bp):
                z_H = self.H_module(z_H + z_L, turn, attend, call)
            call += 1
        logits_MV: Tensor = self.lm_head(z_H if rows_M is None else z_H[rows_M])
        return logits_MV


def differentiated(bp_steps: int, high_cycles: int) -> tuple[int, int]:
    """How many of the last H calls and of the last L calls get a gradient, e.g. 5 -> (2, 3). Needs bp_steps >= 2."""
    if bp_steps < 2:
        raise ValueError(f"bp_steps {bp_steps}: at least 2 calls must be differentiated, one of L and one of H")
    high = min(high_cycles, bp_steps - 1)
    return high, bp_steps - high


def slots(config: ModelConfig) -> int:
    """Attention invocations of one forward pass: 8 calls times the blocks of a module. Each needs its own KV cache."""
    return config.high_cycles * (config.low_cycles + 1) * config.blocks


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

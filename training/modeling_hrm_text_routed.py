"""HRM-Text with routers, for transformers: heads of attention, or experts, that a router chooses for each token.

`winnow export --format transformers` copies this file beside the weights of such a model, and
`AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)` loads it. It needs torch and transformers alone.

A router scores its parts with sigmoid(W u) in float32. A token uses the `active` parts with the highest scores, each
weighted with twice its score. All heads are computed here, and those that a token does not use are multiplied with 0;
of the experts only the chosen ones are computed.

Shapes: B sequences, S tokens, D hidden, H heads, K width of a head, R parts to choose from, E experts.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.models.hrm_text.configuration_hrm_text import HrmTextConfig
from transformers.models.hrm_text.modeling_hrm_text import (
    ALL_ATTENTION_FUNCTIONS,
    HrmTextAttention,
    HrmTextForCausalLM,
    HrmTextMLP,
    apply_rotary_pos_emb,
    eager_attention_forward,
)


class HrmTextRoutedConfig(HrmTextConfig):
    """An HrmTextConfig with routers.

    active_heads: heads that a token uses, the shared ones included; 0 for all, without a router. shared_heads: heads
    that every token uses, the first ones. experts: experts to choose from; 0 for none. active_experts: experts that a
    token uses. expert_size: width of each. balance_rate: what a step of an expert's balance adds to its score.
    """

    model_type = "hrm_text_routed"

    active_heads: int = 0
    shared_heads: int = 0
    experts: int = 0
    active_experts: int = 0
    expert_size: int = 0
    balance_rate: float = 0.0


class Router(nn.Module):
    """Chooses `active` of the parts for each token. tally: int64 [R], the balance of each part."""

    tally: Tensor

    def __init__(self, hidden: int, parts: int, active: int, rate: float = 0.0) -> None:
        super().__init__()
        self.active, self.rate = active, rate
        self.weight = nn.Parameter(torch.empty(parts, hidden))
        self.register_buffer("tally", torch.zeros(parts, dtype=torch.int64))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The weight of each part, float32 [..., R]; 0 of those that a token does not use."""
        scores = torch.sigmoid(F.linear(hidden_states.float(), self.weight.float()))
        chosen = (scores + self.rate * self.tally).topk(self.active, dim=-1).indices
        return torch.zeros_like(scores).scatter(-1, chosen, 2 * scores.gather(-1, chosen))


class SelectiveAttention(HrmTextAttention):
    """Attention in which each head of a token is weighted by a router."""

    def __init__(self, config: HrmTextRoutedConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.shared = config.shared_heads
        heads = config.num_attention_heads
        self.router = Router(config.hidden_size, heads - self.shared, config.active_heads - self.shared)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        cycle_offset: int = 0,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As of HrmTextAttention: the output [B, S, D], and the weights of attention."""

        def project(layer: nn.Linear) -> Tensor:
            return layer(hidden_states).unflatten(-1, (-1, self.head_dim))  # [B, S, H, K]

        query, key = (project(layer).transpose(1, 2) for layer in (self.q_proj, self.k_proj))
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        value = project(self.v_proj).transpose(1, 2)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx + cycle_offset)
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attention(
            self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs
        )  # [B, S, H, K]
        used = F.pad(self.router(hidden_states).to(output.dtype), (self.shared, 0), value=1.0)
        output = torch.sigmoid(project(self.gate_proj)) * output * used[..., None]
        return self.o_proj(output.flatten(-2)), weights


class ExpertMatrices(nn.Module):
    """A matrix for each expert: weight [E, rows, columns]."""

    def __init__(self, experts: int, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, rows, columns))


class MixedMLP(HrmTextMLP):
    """The feed-forward layer, which every token uses, and experts of which a router chooses some."""

    def __init__(self, config: HrmTextRoutedConfig) -> None:
        super().__init__(config)
        D, W = config.hidden_size, config.expert_size
        self.router = Router(D, config.experts, config.active_experts, config.balance_rate)
        self.experts_gate_up_proj = ExpertMatrices(config.experts, 2 * W, D)
        self.experts_down_proj = ExpertMatrices(config.experts, D, W)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The output [B, S, D]."""
        flat = hidden_states.flatten(0, -2)
        weights = self.router(flat)
        mixed = torch.zeros_like(flat)
        for expert in range(weights.shape[-1]):
            tokens = weights[:, expert].nonzero()[:, 0]
            if len(tokens):
                gate, up = F.linear(flat[tokens], self.experts_gate_up_proj.weight[expert]).chunk(2, -1)
                made = F.linear(self.act_fn(gate) * up, self.experts_down_proj.weight[expert])
                mixed = mixed.index_add(0, tokens, made * weights[tokens, expert, None].to(made.dtype))
        return super().forward(hidden_states) + mixed.view_as(hidden_states)


class HrmTextRoutedForCausalLM(HrmTextForCausalLM):
    """HrmTextForCausalLM with routers."""

    config_class = HrmTextRoutedConfig

    def __init__(self, config: HrmTextRoutedConfig) -> None:
        super().__init__(config)
        for stack in (self.model.L_module, self.model.H_module):
            for index, layer in enumerate(stack.layers):
                if config.active_heads:
                    layer.self_attn = SelectiveAttention(config, index)
                if config.experts:
                    layer.mlp = MixedMLP(config)

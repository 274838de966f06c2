"""The key/value cache: the keys and values that a batch of sequences has computed so far.

Each of the model's module calls sees other states, so each attention call of a forward pass (slot) has its own keys and
values. A cache has a fixed number of rows. A row holds one sequence; when that ends, the next prompt overwrites it.

Shape suffixes: B rows, T cached positions, N packed prompt tokens, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.attention import Queries, Selected, each_head
from training.inference.cpu_pack import empty_floats
from training.model import Attend, ModelConfig, slots


class Cache:
    """keys, values: [slots, B, H, T, K]. lengths: positions that each row has filled."""

    def __init__(
        self,
        config: ModelConfig,
        rows: int,
        positions: int,
        device: torch.device,
        dtype: torch.dtype,
        compiled: bool = False,
    ) -> None:
        """compiled: for the compiled CPU decoder, which needs contiguous float32 and reads only what it has written."""
        shape = (slots(config), rows, config.heads, positions, config.hidden // config.heads)
        if compiled:
            self.keys, self.values = empty_floats(*shape), empty_floats(*shape)
        else:  # zeros, because torch's attention multiplies masked positions by 0 and must not meet a NaN there
            self.keys, self.values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        self.lengths = [0] * rows

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.lengths)

    def prefill_attention(
        self,
        rows: Sequence[int],
        lengths: Sequence[int],
        attend: Callable[[Queries, Tensor, Tensor], Tensor],
    ) -> Attend:
        """Attention for new prompts of these lengths, packed one after another, each at the start of its row.

        attend: attention among the packed tokens. The tokens' keys and values are stored.
        """
        device = self.keys.device
        length_B = torch.tensor(lengths)
        row_N = torch.repeat_interleave(torch.tensor(rows), length_B).to(device)
        position_N = torch.cat([torch.arange(length) for length in lengths]).to(device)
        for row, length in zip(rows, lengths, strict=True):
            self.lengths[row] = length

        def attend_and_store(slot: int, q_NHK: Queries, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
            self.keys[slot, row_N, :, position_N] = k_NHK.to(self.keys.dtype)
            self.values[slot, row_N, :, position_N] = v_NHK.to(self.values.dtype)
            return attend(q_NHK, k_NHK, v_NHK)

        return attend_and_store

    def step_attention(self, rows: Sequence[int]) -> tuple[Tensor, Attend]:
        """Positions [B] and attention for one more token in each of `rows`.

        The step computes all B rows, so that no cache needs to be copied. The idle ones write to their position 0.
        """
        device = self.keys.device
        positions = [0] * self.rows
        for row in rows:
            positions[row] = self.lengths[row]
            self.lengths[row] += 1
        longest = max(positions) + 1
        position_B, row_B = torch.tensor(positions), torch.arange(self.rows)
        mask: Tensor | None = None
        if min(positions) + 1 < longest:
            hidden_BT = torch.arange(longest) > position_B[:, None]
            mask = torch.zeros(hidden_BT.shape, dtype=self.keys.dtype).masked_fill_(hidden_BT, -torch.inf)
            mask = mask[:, None, None].to(device)
        position_B, row_B = position_B.to(device), row_B.to(device)

        def attend_to_row(slot: int, q_BHK: Queries, k_BHK: Tensor, v_BHK: Tensor) -> Tensor:
            keys, values = self.keys[slot], self.values[slot]
            keys[row_B, :, position_B] = k_BHK
            values[row_B, :, position_B] = v_BHK

            def attend_heads(q_BHK: Tensor) -> Tensor:  # the first heads
                seen = slice(q_BHK.shape[1]), slice(longest)
                k, v = (stored[(slice(None), *seen)] for stored in (keys, values))
                return F.scaled_dot_product_attention(q_BHK[:, :, None], k, v, mask)[:, :, 0]

            def attend_head(head: int, q_nK: Tensor, row_n: Tensor) -> Tensor:
                k, v = (stored[row_n, head, :longest][:, None] for stored in (keys, values))
                seen = None if mask is None else mask[row_n]
                return F.scaled_dot_product_attention(q_nK[:, None, None], k, v, seen)[:, 0, 0]

            return each_head(q_BHK, attend_heads, attend_head) if isinstance(q_BHK, Selected) else attend_heads(q_BHK)

        return position_B, attend_to_row

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows except these, which become rows 0, 1, ..."""
        index = torch.tensor(rows, device=self.keys.device)
        self.keys, self.values = self.keys[:, index], self.values[:, index]
        self.lengths = [self.lengths[row] for row in rows]

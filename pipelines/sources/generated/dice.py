"""Reproducible random choices: a counter-based stream of numbers for every row of every source.

The stream of a row is seeded by source, purpose, seed and row number. A row can be computed without the rows before it,
and does not depend on batches, workers or Python's hash seed. SplitMix64 (Steele, Lea, Flood 2014) on Python integers:
numpy guarantees the streams of its bit generators, but not the values that are drawn from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1


class Dice:
    """A stream of random choices. Equal names give equal streams."""

    __slots__ = ("_state",)

    def __init__(self, *name: str | int) -> None:
        text = "\x1f".join(str(part) for part in name)
        self._state = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")

    def below(self, n: int) -> int:
        """An integer in [0, n)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((z ^ (z >> 31)) * n) >> 64

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """True with a probability of `percent` per cent."""
        return self.below(100) < percent

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        return choices[self.below(len(choices))]

    def sample(self, choices: Sequence[T], n: int) -> list[T]:
        """`n` different choices, in random order."""
        rest = list(choices)
        return [rest.pop(self.below(len(rest))) for _ in range(n)]

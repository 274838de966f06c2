"""Which items are examples in a prompt, and in which order?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from training.evaluation.task import Item

MOST_SHOTS = 64
"""More examples than any benchmark has. A training split has thousands of items, of which the first are looked at."""


def first_items(item: Item, candidates: Sequence[Item]) -> Sequence[Item]:
    """The first items of the shot files. An item is never its own example."""
    return [candidate for candidate in candidates[: MOST_SHOTS + 1] if candidate["id"] != item["id"]]


class Groups:
    """Candidates by a key. They are grouped once for all items that are asked with the same candidates."""

    def __init__(self, key: Callable[[Item], str]) -> None:
        self._key = key
        self._candidates: Sequence[Item] | None = None
        self._groups: dict[str, list[Item]] = {}

    def get(self, candidates: Sequence[Item], key: str) -> Sequence[Item]:
        """The candidates that have this key, in order."""
        if candidates is not self._candidates:
            groups: dict[str, list[Item]] = {}
            for candidate in candidates:
                groups.setdefault(self._key(candidate), []).append(candidate)
            self._candidates, self._groups = candidates, groups
        return self._groups.get(key, ())

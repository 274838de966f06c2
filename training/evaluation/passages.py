"""Questions about the same passage are not independent: errors are computed over passages."""

from __future__ import annotations

import xxhash

from training.evaluation.task import Item


def passage_digest(item: Item) -> str:
    """A digest of the item's passage; the id of an item without one."""
    passage: str = item["passage"]
    return xxhash.xxh3_128_hexdigest(passage.encode()) if passage else item["id"]

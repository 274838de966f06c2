"""Inputs that are almost right: bytes and JSON values with random changes. The same seed gives the same inputs."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

MOST_CHANGES = 6
"""Changes of one input, at most. Most inputs get one or two: more of them still parse."""

MOST_BYTES = 1 << 20
"""An input does not grow beyond this."""

SPECIAL = (
    *(b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b'"', b"'", b"\\", b"{", b"}", b"[", b"]"),
    *(
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xe2\x80\xae",
        b"\xf4\x90\x80\x80",
        b"-1",
        b"1e999",
        b"NaN",
        b"null",
        b"\t",
        b",",
    ),
    *(b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0\0\0\0\x80", b"<think>", b"</think>"),
)
"""Bytes that readers treat in a way of their own: marks, quotes, invalid UTF-8, limits of numbers."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *("", " ", "a", "é", "\0", "\n", "\u202e", "\ud800", "../../x", "a" * 5_000, "[bold]", "{}", "1", "null"),
    *([], {}, [[]], [None], {"": None}, {"a": 1}, ["a", "a"], [0] * 300),
)
"""Values in the place of others."""


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """The bytes with some changes. others: inputs of which pieces are taken."""
    changed = bytearray(data)
    for _ in range(_changes(rng)):
        at = rng.randrange(len(changed) + 1)
        end = min(len(changed), at + rng.choice((1, 2, 4, 8, 64, 1024, len(changed))))
        match rng.randrange(8):
            case 0 if changed:
                changed[at - 1] ^= 1 << rng.randrange(8)
            case 1 if changed:
                changed[at - 1] = rng.randrange(256)
            case 2:
                del changed[at:end]
            case 3:
                del changed[at:]
            case 4:
                changed[at:at] = rng.choice(SPECIAL) * rng.choice((1, 1, 1, 2, 100))
            case 5:
                changed[at:end] = rng.choice(SPECIAL)
            case 6:
                changed[at:at] = changed[at:end] * rng.choice((1, 1, 2, 50))
            case _:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                changed[at:end] = other[start : start + rng.choice((4, 64, 4096))]
        del changed[MOST_BYTES:]
    return bytes(changed)


def mutated_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with some of its parts replaced, removed, repeated or swapped."""
    changed = copy.deepcopy(value)
    for _ in range(_changes(rng)):
        changed = _change(changed, rng)
    return changed


def _change(value: Any, rng: random.Random) -> Any:
    if not isinstance(value, dict | list) or not value or rng.random() < 0.08:
        return copy.deepcopy(rng.choice(VALUES))
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    if rng.random() < 0.6:  # deeper
        value[key] = _change(value[key], rng)
        return value
    match rng.randrange(5):
        case 0:
            del value[key]
        case 1 if isinstance(value, dict):
            value[rng.choice(("", "x", str(key) + "s", "kind", "name"))] = value[key]
        case 1:
            value.insert(rng.randrange(len(value) + 1), copy.deepcopy(value[key]))
        case 2:
            value[key] = [value[key]]
        case 3:
            other = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
            value[key], value[other] = value[other], value[key]
        case _:
            value[key] = copy.deepcopy(rng.choice(VALUES))
    return value


def _changes(rng: random.Random) -> int:
    return min(1 + int(rng.expovariate(1.0)), MOST_CHANGES)

"""Integer hash functions shared by kernels. All arithmetic is modulo 2**64.

- FNV-1a, 64 bits (Fowler, Noll, Vo; IETF draft-eastlake-fnv): one xor and one multiplication per byte.
- `fmix64`, the finalizer of MurmurHash3 x64 (Appleby, public domain): every input bit affects every output bit.
"""

from __future__ import annotations

import numpy as np

from dedup.kernel import borrowing_kernel

FNV_BASIS = np.uint64(0xCBF29CE484222325)
"""The FNV-1a hash of no bytes, from which every hash starts."""

MURMUR_1, MURMUR_2 = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53
"""The two multipliers of `fmix64`."""

_FNV_PRIME = np.uint64(0x100000001B3)
_MURMUR_1, _MURMUR_2, _33 = np.uint64(MURMUR_1), np.uint64(MURMUR_2), np.uint64(33)


@borrowing_kernel
def fnv1a(state, value):  # type: ignore[no-untyped-def]
    """The FNV-1a state uint64 after one more byte (or a wider number, taken as one step)."""
    return (state ^ np.uint64(value)) * _FNV_PRIME


@borrowing_kernel
def fmix64(state):  # type: ignore[no-untyped-def]
    """Mix a uint64 so that all of its bits depend on all of the input's. A bijection; 0 stays 0."""
    state = (state ^ state >> _33) * _MURMUR_1
    state = (state ^ state >> _33) * _MURMUR_2
    return state ^ state >> _33


def fnv1a_bytes(data: bytes) -> int:
    """The 64-bit FNV-1a hash of `data`, in plain Python. Equal to `fnv1a` applied byte by byte from `FNV_BASIS`."""
    state = int(FNV_BASIS)
    for byte in data:
        state = ((state ^ byte) * int(_FNV_PRIME)) & 0xFFFFFFFFFFFFFFFF
    return state

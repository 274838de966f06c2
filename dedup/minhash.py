"""Shingles -> MinHash signatures and the band keys under which like rows meet.

Signatures are bit-identical with `datasketch.MinHash(num_perm, seed, hashfunc, scheme="affine32")` (datasketch 2.0)
over the same shingles with `shingles.shingle_hash` as hashfunc: the hash is mixed once by MurmurHash3's 32-bit
finaliser, then permuted by `a * h + b mod 2**32` with odd `a`, and the least value of each permutation is kept. So
`LeanMinHash` and `MinHashLSH` read them.

A row without shingles (fewer tokens than the n-gram) has `valid` False and datasketch's empty signature. It gets no
band key anywhere: one key for all such rows would make "Yes." and "Paris" duplicates; exact digests settle them
instead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.kernel import kernel
from dedup.shingles import Shingles

EMPTY = 0xFFFFFFFF  # datasketch's value of a permutation that has seen nothing
STRIDE = 8  # shingles taken through the permutations together, so that a signature is loaded and stored once for eight

_FMIX1, _FMIX2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_KEY1, _KEY2 = np.uint64(0x9FB21C651E98DF25), np.uint64(0xD6E8FEB86659FD93)


class Signatures(NamedTuple):
    """values: uint32 [rows, num_perm]; valid: bool [rows], False where the row had no shingle."""

    values: npt.NDArray[np.uint32]
    valid: npt.NDArray[np.bool_]


def permutations(num_perm: int, seed: int = 1) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Multipliers (odd) and addends, uint32 [num_perm] each, as datasketch draws them for scheme affine32."""
    draw = np.random.RandomState(seed)  # the legacy generator is what datasketch uses
    odd = draw.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return odd, draw.randint(0, 1 << 32, num_perm, dtype=np.uint32)


def signatures(shingles: Shingles, num_perm: int, seed: int = 1) -> Signatures:
    """The signature of every row of `shingles`, with datasketch's permutations for `seed`."""
    a, b = permutations(num_perm, seed)
    values = np.empty((len(shingles.offsets) - 1, num_perm), np.uint32)
    _sign(shingles.hash, shingles.offsets, a, b, values)
    return Signatures(values, np.diff(shingles.offsets) > 0)


def band_keys(values: npt.NDArray[np.uint32], bands: int, rows_per_band: int) -> npt.NDArray[np.uint64]:
    """One 64-bit key per band, uint64 [rows, bands], of signatures uint32 [rows, num_perm].

    Band i reads permutations [i * rows_per_band : (i + 1) * rows_per_band] and its number, so keys of different bands
    can lie in one heap. Two rows meet in a band when its values are equal, or, in 2**-64, by chance: verification
    decides. Raises ValueError where the signature is too short.
    """
    if bands * rows_per_band > values.shape[1]:
        raise ValueError(
            f"{bands} bands of {rows_per_band} need {bands * rows_per_band} permutations, not {values.shape[1]}"
        )
    keys = np.empty((len(values), bands), np.uint64)
    _key(values, rows_per_band, keys)
    return keys


@kernel
def _mix(h):  # type: ignore[no-untyped-def]
    h = np.uint32(h ^ h >> np.uint32(16))
    h = np.uint32(h * _FMIX1)
    h = np.uint32(h ^ h >> np.uint32(13))
    h = np.uint32(h * _FMIX2)
    return np.uint32(h ^ h >> np.uint32(16))


@kernel
def _least(a, b, h, least):  # type: ignore[no-untyped-def]
    value = np.uint32(a * h + b)
    return value if value < least else least


@kernel
def _sign(hashes, offsets, a, b, values):  # type: ignore[no-untyped-def]
    """Permutations innermost, so that the compiler makes vectors of them; eight shingles per pass over the
    signature."""
    width = len(a)
    best = np.empty(width, np.uint32)
    for row in range(len(offsets) - 1):
        for k in range(width):
            best[k] = np.uint32(EMPTY)
        i, end = offsets[row], offsets[row + 1]
        while i + STRIDE <= end:
            h0, h1, h2, h3 = _mix(hashes[i]), _mix(hashes[i + 1]), _mix(hashes[i + 2]), _mix(hashes[i + 3])
            h4, h5, h6, h7 = _mix(hashes[i + 4]), _mix(hashes[i + 5]), _mix(hashes[i + 6]), _mix(hashes[i + 7])
            for k in range(width):
                x, y, least = a[k], b[k], best[k]
                least = _least(x, y, h1, _least(x, y, h0, least))
                least = _least(x, y, h3, _least(x, y, h2, least))
                least = _least(x, y, h5, _least(x, y, h4, least))
                best[k] = _least(x, y, h7, _least(x, y, h6, least))
            i += STRIDE
        while i < end:
            h0 = _mix(hashes[i])
            for k in range(width):
                best[k] = _least(a[k], b[k], h0, best[k])
            i += 1
        for k in range(width):
            values[row, k] = best[k]


@kernel
def _key(values, rows_per_band, keys):  # type: ignore[no-untyped-def]
    for row in range(keys.shape[0]):
        for band in range(keys.shape[1]):
            key = np.uint64(band + 1) * _KEY2
            for k in range(band * rows_per_band, (band + 1) * rows_per_band):
                key = (key ^ np.uint64(values[row, k])) * _KEY1
                key ^= key >> np.uint64(32)
            key = (key ^ key >> np.uint64(29)) * _KEY2
            keys[row, band] = key ^ key >> np.uint64(32)

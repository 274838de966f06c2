"""MinHash signatures of shingle sets, and the band keys under which similar rows meet.

Signatures are bit-identical with `datasketch.MinHash(num_perm, seed, hashfunc, scheme="affine32")` (datasketch 2.0)
over the same shingles with `shingles.shingle_hash` as hashfunc. Each hash is mixed once by MurmurHash3's 32-bit
finalizer and then permuted by `a * h + b mod 2**32` with odd `a`. The signature is the minimum of each permutation.
`LeanMinHash` and `MinHashLSH` can therefore read our signatures.

A row without shingles (fewer tokens than the n-gram) has `valid` False and datasketch's empty signature. Callers must
not give it band keys: all such rows would share them, and "Yes." and "Paris" would become candidates. Short rows are
compared by exact digests only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.kernel import kernel
from dedup.shingles import Shingles

EMPTY_VALUE = 0xFFFFFFFF
"""The signature value of an empty set, as in datasketch: the greatest that a permutation can have."""
SHINGLES_PER_PASS = 8
"""Shingles per pass over a signature, which is loaded and stored once for all of them. `_sign` is unrolled by it."""

_FMIX32_1, _FMIX32_2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_KEY_1, _KEY_2 = np.uint64(0x9FB21C651E98DF25), np.uint64(0xD6E8FEB86659FD93)


class Signatures(NamedTuple):
    """values: uint32 [rows, num_perm]; valid: bool [rows], False for a row without shingles."""

    values: npt.NDArray[np.uint32]
    valid: npt.NDArray[np.bool_]


def permutations(num_perm: int, seed: int = 1) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Multipliers (odd) and addends, uint32 [num_perm] each, as datasketch draws them for scheme affine32."""
    draw = np.random.RandomState(seed)  # datasketch uses the legacy generator
    multipliers = draw.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return multipliers, draw.randint(0, 1 << 32, num_perm, dtype=np.uint32)


def signatures(shingles: Shingles, num_perm: int, seed: int = 1) -> Signatures:
    """The signature of every row of `shingles`, with datasketch's permutations for `seed`."""
    a, b = permutations(num_perm, seed)
    values = np.empty((len(shingles.offsets) - 1, num_perm), np.uint32)
    _sign(shingles.hash, shingles.offsets, a, b, values)
    return Signatures(values, np.diff(shingles.offsets) > 0)


def band_keys(values: npt.NDArray[np.uint32], bands: int, rows_per_band: int) -> npt.NDArray[np.uint64]:
    """One 64-bit key per band, uint64 [rows, bands], of signatures uint32 [rows, num_perm].

    The key of band i hashes the permutations [i * rows_per_band : (i + 1) * rows_per_band] and i itself, so keys of
    all bands can be stored together. Two rows share a key if the values of a band are equal, or by chance with a
    probability of 2**-64; candidates are verified afterwards.

    Raises:
        ValueError: if the signatures have fewer than bands * rows_per_band values.
    """
    if bands * rows_per_band > values.shape[1]:
        raise ValueError(
            f"{bands} bands of {rows_per_band} need {bands * rows_per_band} permutations, not {values.shape[1]}"
        )
    keys = np.empty((len(values), bands), np.uint64)
    _band_keys(values, rows_per_band, keys)
    return keys


@kernel
def _mix(h):  # type: ignore[no-untyped-def]
    """The 32-bit finalizer of MurmurHash3."""
    h = np.uint32(h ^ h >> np.uint32(16))
    h = np.uint32(h * _FMIX32_1)
    h = np.uint32(h ^ h >> np.uint32(13))
    h = np.uint32(h * _FMIX32_2)
    return np.uint32(h ^ h >> np.uint32(16))


@kernel
def _smaller(a, b, h, least):  # type: ignore[no-untyped-def]
    """The minimum of a permutation after one more hash."""
    value = np.uint32(a * h + b)
    return value if value < least else least


@kernel
def _sign(hashes, offsets, a, b, values):  # type: ignore[no-untyped-def]
    """The minimum of each permutation over the shingles of each row, into values uint32 [rows, num_perm]."""
    width = len(a)
    best = np.empty(width, np.uint32)
    for row in range(len(offsets) - 1):
        for k in range(width):
            best[k] = np.uint32(EMPTY_VALUE)
        i, end = offsets[row], offsets[row + 1]
        # The loop over permutations is innermost, so that the compiler vectorizes it.
        while i + SHINGLES_PER_PASS <= end:
            h0, h1, h2, h3 = _mix(hashes[i]), _mix(hashes[i + 1]), _mix(hashes[i + 2]), _mix(hashes[i + 3])
            h4, h5, h6, h7 = _mix(hashes[i + 4]), _mix(hashes[i + 5]), _mix(hashes[i + 6]), _mix(hashes[i + 7])
            for k in range(width):
                x, y, least = a[k], b[k], best[k]
                least = _smaller(x, y, h1, _smaller(x, y, h0, least))
                least = _smaller(x, y, h3, _smaller(x, y, h2, least))
                least = _smaller(x, y, h5, _smaller(x, y, h4, least))
                best[k] = _smaller(x, y, h7, _smaller(x, y, h6, least))
            i += SHINGLES_PER_PASS
        # The remaining shingles, one at a time.
        while i < end:
            h0 = _mix(hashes[i])
            for k in range(width):
                best[k] = _smaller(a[k], b[k], h0, best[k])
            i += 1
        for k in range(width):
            values[row, k] = best[k]


@kernel
def _band_keys(values, rows_per_band, keys):  # type: ignore[no-untyped-def]
    """The key of each row and band, into keys uint64 [rows, bands]: its number, then its values, then a final mix."""
    for row in range(keys.shape[0]):
        for band in range(keys.shape[1]):
            key = np.uint64(band + 1) * _KEY_2
            for k in range(band * rows_per_band, (band + 1) * rows_per_band):
                key = (key ^ np.uint64(values[row, k])) * _KEY_1
                key ^= key >> np.uint64(32)
            key = (key ^ key >> np.uint64(29)) * _KEY_2
            keys[row, band] = key ^ key >> np.uint64(32)

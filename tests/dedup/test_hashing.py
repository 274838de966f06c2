"""Hash functions against their published values."""

from __future__ import annotations

import numpy as np
import pytest

from dedup.hashing import FNV_BASIS, fmix64, fnv1a, fnv1a_bytes


# From the test vectors of the IETF draft, appendix C.
@pytest.mark.parametrize(
    ("data", "expected"), [(b"", 0xCBF29CE484222325), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)]
)
def test_fnv1a_has_its_published_values(data: bytes, expected: int) -> None:
    state = FNV_BASIS
    for byte in data:
        state = np.uint64(fnv1a(state, np.uint8(byte)))
    assert int(state) == fnv1a_bytes(data) == expected


def test_fmix64_is_the_finalizer_of_murmurhash3() -> None:
    rng = np.random.default_rng(0)
    for value in [0, 1, 2**64 - 1, *rng.integers(0, 2**64, 100, dtype=np.uint64).tolist()]:
        expected = value
        for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            expected = ((expected ^ expected >> 33) * multiplier) % 2**64
        assert int(fmix64(np.uint64(value))) == expected ^ expected >> 33

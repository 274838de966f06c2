"""Digests: the published function, unambiguous and well mixed; and which rows duplicate which."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.exact import digest128, exact_text, find_duplicates, halves

MASK = 0xFFFFFFFFFFFFFFFF


def murmur(data: bytes, a: int, b: int) -> tuple[int, int]:
    """MurmurHash3 x64 128 in plain Python, from the description of its author."""
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F

    def rotate(x: int, n: int) -> int:
        return (x << n | x >> (64 - n)) & MASK

    def mix(x: int) -> int:
        x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD & MASK
        x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 & MASK
        return x ^ x >> 33

    tail = len(data) // 16 * 16
    for at in range(0, tail, 16):
        k1, k2 = (int.from_bytes(data[i : i + 8], "little") for i in (at, at + 8))
        a ^= rotate(k1 * c1 & MASK, 31) * c2 & MASK
        a = ((rotate(a, 27) + b) * 5 + 0x52DCE729) & MASK
        b ^= rotate(k2 * c2 & MASK, 33) * c1 & MASK
        b = ((rotate(b, 31) + a) * 5 + 0x38495AB5) & MASK
    k1, k2 = int.from_bytes(data[tail : tail + 8], "little"), int.from_bytes(data[tail + 8 :], "little")
    b ^= rotate(k2 * c2 & MASK, 33) * c1 & MASK
    a ^= rotate(k1 * c1 & MASK, 31) * c2 & MASK
    a, b = a ^ len(data), b ^ len(data)
    a = (a + b) & MASK
    b = (b + a) & MASK
    a, b = mix(a), mix(b)
    a = (a + b) & MASK
    return a, (b + a) & MASK


def test_one_column_gives_the_published_vector() -> None:
    digests = digest128(pa.array(["", "The quick brown fox jumps over the lazy dog"]))
    assert [f"{high:016x}{low:016x}" for high, low in halves(digests).tolist()] == [
        "0" * 32,
        "e34bbc7bbc071b6c7a433ca9c49a9347",
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=50), st.binary(max_size=50)), max_size=6))
def test_columns_chain_the_published_function(rows: list[tuple[bytes, bytes]]) -> None:
    columns = [pa.array([row[i] for row in rows], pa.binary()) for i in range(2)]
    expected = [murmur(second, *murmur(first, 0, 0)) for first, second in rows]
    assert [tuple(row) for row in halves(digest128(*columns)).tolist()] == expected


def test_boundaries_between_columns_count() -> None:
    text = "abcdefghijklmnopqrstuvwxyz"
    splits = [(text[:i], text[i:]) for i in range(len(text) + 1)]
    digests = digest128(pa.array([a for a, _ in splits]), pa.array([b for _, b in splits]))
    assert len(set(digests.to_pylist())) == len(splits)
    swapped = digest128(pa.array([b for _, b in splits]), pa.array([a for a, _ in splits]))
    assert len({*digests.to_pylist(), *swapped.to_pylist()}) == 2 * len(splits) - 2  # two splits are in both


def test_near_equal_texts_do_not_collide_even_in_half_a_digest() -> None:
    near = [f"What is {a} + {b}?" for a, b in itertools.product(range(400), repeat=2)]
    near += (
        ["x" * n for n in range(300)]
        + ["\0" * n for n in range(1, 300)]
        + [f"{'y' * 40}{n}{'z' * 40}" for n in range(40_000)]
    )
    parts = halves(digest128(pa.array(near)))
    assert len(np.unique(parts[:, 0])) == len(np.unique(parts[:, 1])) == len(near)


def test_every_input_bit_flips_half_of_the_output() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 7, 8, 15, 16, 33):
        base = rng.integers(0, 256, (200, size), dtype=np.uint8)
        before = halves(digest128(pa.array([row.tobytes() for row in base], pa.binary())))
        flips = np.zeros((8 * size, 128))
        for bit in range(8 * size):
            changed = base.copy()
            changed[:, bit // 8] ^= np.uint8(1 << bit % 8)
            after = halves(digest128(pa.array([row.tobytes() for row in changed], pa.binary())))
            difference = np.ascontiguousarray(before ^ after).view(np.uint8)
            flips[bit] = np.unpackbits(difference.reshape(len(base), 16), axis=1, bitorder="little").mean(axis=0)
        # 200 fair coins stay within 0.5 +- 0.21 (six sigmas); of some 80,000 such means none is outside.
        assert abs(flips.mean() - 0.5) < 0.01
        assert np.abs(flips - 0.5).max() < 0.21


def test_slices_read_as_copies() -> None:
    text = pa.array([f"row {n}" for n in range(50)])
    assert digest128(text.slice(7, 20)).equals(digest128(pa.array(text.slice(7, 20).to_pylist())))
    assert np.array_equal(halves(digest128(text).slice(7, 20)), halves(digest128(text.slice(7, 20))))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=30))
def test_the_first_in_rank_of_equal_rows_is_kept(values: list[int]) -> None:
    rank = np.random.default_rng(len(values)).permutation(len(values)).astype(np.int64)
    duplicate_of = find_duplicates(digest128(pa.array([str(value) for value in values], pa.string())), rank)
    for row, value in enumerate(values):
        best = min((other for other in range(len(values)) if values[other] == value), key=lambda other: rank[other])
        assert duplicate_of[row] == (-1 if best == row else best)


def test_columns_must_agree() -> None:
    with pytest.raises(ValueError, match="one length"):
        digest128(pa.array(["a"]), pa.array(["a", "b"]))
    with pytest.raises(ValueError, match="at least one column"):
        digest128()


SPELLINGS = st.lists(
    st.sampled_from([*" \t\r\n\0.aé漢😀\x1c\x85\u00a0\u2028\u3000\u200b\u0301", "\r\n", "e\u0301"]), max_size=20
).map("".join)


@settings(deadline=None)
@given(st.lists(SPELLINGS, max_size=8), st.integers(0, 3), st.sampled_from([pa.string(), pa.large_string()]))
def test_the_exact_reading_is_nfc_with_line_feeds_and_without_outer_white_space(
    texts: list[str], skipped: int, kind: pa.DataType
) -> None:
    given_texts = pa.array(["x\r", *texts], kind).slice(min(skipped, len(texts)))
    feeds = pc.replace_substring(pc.replace_substring(pc.utf8_normalize(given_texts, "NFC"), "\r\n", "\n"), "\r", "\n")
    read = exact_text(given_texts)
    read.validate(full=True)
    assert read.equals(pc.utf8_trim_whitespace(feeds))
    assert exact_text(read).equals(read)

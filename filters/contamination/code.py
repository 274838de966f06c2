"""Programs in other names: solutions of code items, found by their tokens with the names of variables folded.

A solution that was copied with other variable names, without its prompt or without its comments shares few n-grams with
the item. So programs are read as tokens of Python: comments, triple-quoted strings and white space are left out, and a
name is equal to any other name as long as the correspondence is one to one over the whole solution (parameterised
matching, Baker 1993). Keywords, built-in functions, attributes, numbers, strings and operators must be equal.

Programs of a few tokens are idioms. A solution under MIN_TOKENS counts only in a function with the item's own name.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.growing import doubled
from dedup.kernel import buffers, kernel

SEED_TOKENS = 8
"""Tokens at the start of a solution by which it is looked for. Shorter solutions are not."""
MIN_TOKENS = 16
"""A solution of so many tokens identifies its item by itself. 206 MB of Python (13,332 files of its library and of
packages) hold no solution of HumanEval of 15 tokens or more, and two of the shorter ones ("while b: a, b = b, a % b").
"""
NAME_WINDOW_TOKENS = 80
"""Tokens before a shorter solution in which its function's name must stand: a signature with type hints."""
HINT = "return"
"""Rows without this word are not read as code. Every solution has it."""

_U64 = npt.NDArray[np.uint64]
_I64 = npt.NDArray[np.int64]
_I32 = npt.NDArray[np.int32]

_FNV_START, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_NAME = np.uint64(1)  # the hash of every name that is folded
_BASE = np.uint64(0x9E3779B97F4A7C15)
_BITS = 1 << 16


def _hash(token: str) -> int:
    """FNV-1a of a token, as the kernel computes it."""
    value = int(_FNV_START)
    for byte in token.encode():
        value = ((value ^ byte) * int(_FNV_PRIME)) & 0xFFFFFFFFFFFFFFFF
    return value


KEPT_NAMES = np.sort(
    np.array([_hash(name) for name in (*keyword.kwlist, *dir(builtins)) if not name.startswith("_")], np.uint64)
)
"""Hashes of keywords and built-in functions, which are not folded."""


class CodeTokens(NamedTuple):
    """The tokens of programs [rows], row after row: those of row r are [offsets[r] : offsets[r + 1]].

    hash: uint64 [total], equal for all names that are folded. name: uint64 [total], the hash of such a name, else 0.
    start, end: int32 [total], bytes of the text, relative to its row. offsets: int64 [rows + 1].
    """

    hash: _U64
    name: _U64
    start: _I32
    end: _I32
    offsets: _I64


class CodeIndex(NamedTuple):
    """Solutions [S] of code items.

    hash: uint64 [T], tokens; first: int32 [T], the token of its solution where a folded name stands first, -1 for
    others; offsets: int64 [S + 1]; item: int32 [S], ascending; called: uint64 [S], the hash of the function's name.
    """

    hash: _U64
    first: _I32
    offsets: _I64
    item: _I32
    called: _U64


class CodeHits(NamedTuple):
    """Solutions in texts [n], by row, then item. row, item: int32; field: uint8, 0 instruction, 1 response; start, end:
    int32, bytes in that field; tokens: int32, of the solution."""

    row: _I32
    item: _I32
    field: npt.NDArray[np.uint8]
    start: _I32
    end: _I32
    tokens: _I32


def code_tokens(text: pa.StringArray) -> CodeTokens:
    """Read texts [rows] as Python. Any text can be read; of what is not Python the tokens mean little."""
    data, offsets = buffers(text)
    size = int(offsets[-1] - offsets[0])
    hashes, names = np.empty(size, np.uint64), np.empty(size, np.uint64)
    starts, ends = np.empty(size, np.int32), np.empty(size, np.int32)
    token_offsets = _lex(data, offsets, KEPT_NAMES, hashes, names, starts, ends)
    total = token_offsets[-1]
    return CodeTokens(hashes[:total], names[:total], starts[:total], ends[:total], token_offsets)


@kernel
def _is_kept(names, key):  # type: ignore[no-untyped-def]
    place = np.searchsorted(names, key)
    return place < len(names) and names[place] == key


@kernel
def _letter(byte):  # type: ignore[no-untyped-def]
    return (byte >= 97 and byte <= 122) or (byte >= 65 and byte <= 90) or byte == 95 or byte >= 128


@kernel
def _string_end(data, i, high):  # type: ignore[no-untyped-def]
    """The end of the string that begins at i: after its closing quote, or i where the line ends before."""
    quote = data[i]
    if i + 2 < high and data[i + 1] == quote and data[i + 2] == quote:
        j = i + 3
        while j + 2 < high and not (data[j] == quote and data[j + 1] == quote and data[j + 2] == quote):
            j += 1
        return min(j + 3, high)
    j = i + 1
    while j < high and data[j] != quote and data[j] != 10:
        j += 2 if data[j] == 92 else 1
    return j + 1 if j < high and data[j] == quote else i


@kernel
def _lex(data, offsets, kept, hashes, names, starts, ends):  # type: ignore[no-untyped-def]
    token_offsets = np.empty(len(offsets), np.int64)
    count = 0
    for row in range(len(offsets) - 1):
        token_offsets[row] = count
        i, high = offsets[row], offsets[row + 1]
        after_point = False
        while i < high:
            byte = data[i]
            if byte <= 32 or byte == 96:  # white space, backticks
                i += 1
                continue
            if byte == 35:  # a comment
                while i < high and data[i] != 10:
                    i += 1
                continue
            begin, name, skipped = i, False, False
            key = _FNV_START
            if byte == 34 or byte == 39:
                end = _string_end(data, i, high)
                skipped = end - i >= 6 and data[i + 1] == byte and data[i + 2] == byte
                # The content alone: "a" and 'a' are the same string.
                low, stop = (i + 1, end - 1) if end > i else (i, i + 1)
                i = max(end, i + 1)
                for k in range(low, stop):
                    key = (key ^ np.uint64(data[k])) * _FNV_PRIME
                key ^= np.uint64(34)
            elif _letter(byte):
                while i < high and (_letter(data[i]) or (data[i] >= 48 and data[i] <= 57)):
                    key = (key ^ np.uint64(data[i])) * _FNV_PRIME
                    i += 1
                name = not after_point and not _is_kept(kept, key)
            elif byte >= 48 and byte <= 57:
                while i < high and (_letter(data[i]) or (data[i] >= 48 and data[i] <= 57) or data[i] == 46):
                    key = (key ^ np.uint64(data[i])) * _FNV_PRIME
                    i += 1
            else:
                key = (key ^ np.uint64(byte)) * _FNV_PRIME
                i += 1
            if skipped:
                continue
            after_point = byte == 46
            hashes[count], names[count] = (_NAME, key) if name else (key, np.uint64(0))
            starts[count], ends[count] = begin - offsets[row], i - offsets[row]
            count += 1
    token_offsets[len(offsets) - 1] = count
    return token_offsets


def build_code_index(benchmarks: Sequence[tuple[str, pa.Table]]) -> CodeIndex:
    """The solutions among the answers of named benchmarks, numbered over all of their items in order.

    An answer is one if it has SEED_TOKENS tokens and HINT, and the question defines a function (`def name(`).
    """
    question, answer = (
        pa.chunked_array([chunk for _, table in benchmarks for chunk in table[name].chunks], pa.string())
        for name in ("question", "answer")
    )
    names = pc.struct_field(pc.extract_regex(question, r"(?s).*def (?P<name>\w+)\s*\("), "name")
    chosen = pc.and_(pc.fill_null(pc.match_substring(answer, HINT), False), pc.is_valid(names))
    item = np.flatnonzero(chosen.to_numpy())
    tokens = code_tokens(pa.array(answer.take(pa.array(item)).to_pylist(), pa.string()))
    long = np.diff(tokens.offsets) >= SEED_TOKENS
    called = np.array([_hash(name) for name in names.take(pa.array(item)).to_pylist()], np.uint64)
    # Read again without the short ones, so that offsets fit.
    tokens = code_tokens(pa.array(answer.take(pa.array(item[long])).to_pylist(), pa.string()))
    first = _first_places(tokens.name, tokens.offsets)
    return CodeIndex(tokens.hash, first, tokens.offsets, item[long].astype(np.int32), called[long])


def _first_places(names: _U64, offsets: _I64) -> _I32:
    first = np.full(len(names), -1, np.int32)
    # A loop over the tokens of an evaluation set's solutions.
    for begin, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        places: dict[int, int] = {}
        for t, name in enumerate(names[begin:stop].tolist()):
            if name:
                first[begin + t] = places.setdefault(name, t)
    return first


def code_index_to_table(index: CodeIndex) -> pa.Table:
    """The index as an Arrow table of one row of lists."""
    return pa.table(
        {name: pa.LargeListArray.from_arrays(pa.array([0, len(v)], pa.int64()), pa.array(v)) for name, v in
         index._asdict().items()}
    )  # fmt: skip


def code_index_from_table(table: pa.Table) -> CodeIndex:
    """The index in a table of `code_index_to_table`, without a copy."""
    return CodeIndex(*(table[name].chunk(0).flatten().to_numpy(zero_copy_only=True) for name in CodeIndex._fields))


def find_code(index: CodeIndex, instruction: pa.StringArray, response: pa.StringArray) -> CodeHits:
    """The solutions that stand in texts [rows], each once for a row and item, where it begins first."""
    found: list[npt.NDArray[np.int64]] = []
    if len(index.item):
        keys = _seed_keys(index.hash, index.offsets[:-1])
        order = np.argsort(keys, kind="stable")
        for field, column in enumerate((instruction, response)):
            rows = np.flatnonzero(pc.match_substring(column, HINT).to_numpy(zero_copy_only=False))
            if not len(rows):
                continue
            tokens = code_tokens(column.take(pa.array(rows)))
            matches, count = _find(*tokens, keys[order], order, *index)
            matches = matches[:count]
            matches[:, 0] = rows[matches[:, 0]]
            found.append(np.insert(matches, 2, field, axis=1))
    columns = np.concatenate([np.empty((0, 6), np.int64), *found])
    columns = columns[np.lexsort((columns[:, 3], columns[:, 2], columns[:, 1], columns[:, 0]))]
    again = np.zeros(len(columns), np.bool_)
    again[1:] = (columns[1:, :2] == columns[:-1, :2]).all(axis=1)
    row, item, fields, start, end, tokens_of = columns[~again].astype(np.int32).T
    return CodeHits(row, item, fields.astype(np.uint8), start, end, tokens_of)


def _seed_keys(hashes: _U64, starts: _I64) -> _U64:
    keys = np.zeros(len(starts), np.uint64)
    for n in range(SEED_TOKENS):
        keys = keys * _BASE + hashes[starts + n]
    return keys


@kernel
def _matches(hashes, names, i, solution, first, begin, size):  # type: ignore[no-untyped-def]
    """Whether the tokens from i on are a solution's, with names that correspond one to one."""
    for t in range(size):
        if hashes[i + t] != solution[begin + t]:
            return False
        f = first[begin + t]
        if f >= 0 and f < t:
            if names[i + t] != names[i + f]:
                return False
        elif f == t:  # a new name of the solution must be a new one of the text
            for u in range(t):
                if first[begin + u] == u and names[i + u] == names[i + t]:
                    return False
    return True


@kernel
def _find(hashes, names, starts, ends, offsets, keys, order, solution, first, solution_offsets, item, called):  # type: ignore[no-untyped-def]
    """Matches int64 [n, 5]: row, item, start, end, tokens; and how many are used."""
    out, count = np.empty((64, 5), np.int64), 0
    bits = np.zeros(_BITS, np.bool_)
    for key in keys:
        bits[key >> np.uint64(48)] = True
    power = np.uint64(1)
    for _ in range(SEED_TOKENS):
        power *= _BASE
    for row in range(len(offsets) - 1):
        low, high = offsets[row], offsets[row + 1]
        value = np.uint64(0)
        for t in range(low, high):
            value = value * _BASE + hashes[t]
            if t >= low + SEED_TOKENS:
                value -= hashes[t - SEED_TOKENS] * power
            i = t - SEED_TOKENS + 1
            if i < low or not bits[value >> np.uint64(48)]:
                continue
            k = np.searchsorted(keys, value)
            while k < len(keys) and keys[k] == value:
                s = order[k]
                k += 1
                begin = solution_offsets[s]
                size = solution_offsets[s + 1] - begin
                if i + size > high or not _matches(hashes, names, i, solution, first, begin, size):
                    continue
                named = size >= MIN_TOKENS
                for u in range(max(low, i - NAME_WINDOW_TOKENS), i):
                    named |= names[u] == called[s]
                if not named:
                    continue
                if count == len(out):
                    out = doubled(out)
                out[count, 0], out[count, 1] = row, item[s]
                out[count, 2], out[count, 3], out[count, 4] = starts[i], ends[i + size - 1], size
                count += 1
    return out, count


def add_code(hits: pa.Table, code: pa.Table, trained: npt.NDArray[np.uint8]) -> pa.Table:
    """Classified hits and the solutions found in the same rows, ordered by row.

    hits: as `filters.contamination.rules.classify_hits` returns them. code: columns of `CodeHits`. trained: uint8 [I],
    1 for items of a split to learn from. A solution is a whole item, so it replaces a weaker hit of the same pair.
    """
    if not code.num_rows:
        return hits
    pairs = set(zip(code["row"].to_pylist(), code["item"].to_pylist(), strict=True))
    # A loop over hits of rows that hold a solution, which are few.
    own = pc.is_in(hits["row"], code["row"].combine_chunks()).to_numpy()
    keep = np.ones(hits.num_rows, np.bool_)
    for n in np.flatnonzero(own).tolist():
        keep[n] = (hits["row"][n].as_py(), hits["item"][n].as_py()) not in pairs
    classes = np.where(trained[code["item"].to_numpy()] > 0, "train_split", "test_leak")
    size = code.num_rows
    given: dict[str, Any] = {
        "row": code["row"], "item": code["item"], "score": pa.array(np.ones(size)), "field": code["field"],
        "start": code["start"], "end": code["end"], "class": pa.array(classes.tolist()), "longest": code["tokens"],
        "rules": pa.array([["ngram13"]] * size, pa.list_(pa.string())),
    }  # fmt: skip
    columns = []
    for column in hits.schema:
        if column.name in given:
            columns.append(given[column.name].cast(column.type))
        elif pa.types.is_list(column.type):
            columns.append(pa.array([[]] * size, column.type))
        else:
            columns.append(pa.array(np.zeros(size), pa.float64()).cast(column.type))
    both = pa.concat_tables([hits.filter(pa.array(keep)), pa.table(columns, schema=hits.schema)])
    return both.take(pa.array(np.argsort(both["row"].to_numpy(), kind="stable")))

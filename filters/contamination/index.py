"""The benchmark index: benchmark text in the form in which texts are compared with it.

Texts are compared as tokens of the markup-free reading (`dedup.readings`). Case, punctuation, markup and spelling
therefore hide nothing, and numbers are never normalised away. Every item has a seed by which it is found, whatever its
length (`filters.contamination.seeds`), and every token has a weight (`filters.contamination.weights`).

The index takes about 50 bytes for each benchmark token. Workers of a node map one file of it instead of copying it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.kernel import buffers
from dedup.tokens import SPACE, Tokens, normalise, tokenize
from filters.contamination.grams import prefix_hashes
from filters.contamination.layout import READING
from filters.contamination.seeds import SeedTable, build_seed_table
from filters.contamination.weights import decisive_tokens, in_figures, last_sentences, slots, token_weights

QUESTION, PASSAGE, CONTEXT = 0, 1, 2
"""Kinds of parts. CONTEXT is choices and answers, which are looked for only near a question."""

TRAIN_SPLITS = ("train", "dev")
"""Splits to learn from. `dev` counts as one where the benchmark also has a `test` (MMLU's few-shot examples)."""

EXCERPT_CHARS = 400
"""Characters of a question or passage that are kept for display."""

_U64 = npt.NDArray[np.uint64]
_I64 = npt.NDArray[np.int64]
_I32 = npt.NDArray[np.int32]
_U32 = npt.NDArray[np.uint32]
_U8 = npt.NDArray[np.uint8]
_F32 = npt.NDArray[np.float32]


class IndexArrays(NamedTuple):
    """The numbers of an index with T tokens, P parts (distinct texts), I items and S seed postings.

    The names are the columns of the index file (`index_to_table`): renaming one changes the format.

    Tokens. tokens: uint64 [T], hashes; weight: float32 [T], bits; number: uint8 [T], as `decisive_tokens`
    returns it; slot: uint8 [T], 1 for words that fill a slot of a template; start: int32 [T], the token's
    first byte in its part's text; part: int32 [T].

    Parts. part_start: int64 [P + 1], tokens; kind: uint8 [P]; ask: int32 [P], the part's token where its last sentence
    begins; own: int32 [P], tokens outside figures; text: uint8, text_start:
    int64 [P + 1], the normalised texts, to confirm matches byte by byte.

    Seeds (`SeedTable`). table: uint64 [2 * slots]; postings: uint32 [S]; bits, first: uint64; whole: int32.

    Items. owner_start: int64 [P + 1], owner: int32, the items of each question and passage; question, passage,
    answer: int32 [I], parts, -1 = none; choice_start: int64 [I + 1], choice: int32, parts; shared: int32 [I], how many
    items of the benchmark have the same question; bench: int32 [I]; trained: uint8 [I], 1 for items of a split to learn
    from.
    """

    tokens: _U64
    weight: _F32
    number: _U8
    slot: _U8
    start: _I32
    part: _I32
    part_start: _I64
    kind: _U8
    ask: _I32
    own: _I32
    text: _U8
    text_start: _I64
    table: _U64
    postings: _U32
    bits: _U64
    first: _U64
    whole: _I32
    owner_start: _I64
    owner: _I32
    question: _I32
    passage: _I32
    answer: _I32
    choice_start: _I64
    choice: _I32
    shared: _I32
    bench: _I32
    trained: _U8


class BenchmarkIndex(NamedTuple):
    """Benchmark text, ready to be compared with.

    names: the benchmarks; ids, splits: [I]; asked: questions and passages as written, by part, cut at EXCERPT_CHARS,
    for display; spelling: [I], a question's visible characters (`visible_characters`) where items without choices have
    the same tokens and differ only in punctuation ("[ ( { )"), else "".
    """

    arrays: IndexArrays
    names: pa.StringArray
    ids: pa.StringArray
    splits: pa.StringArray
    asked: pa.StringArray
    spelling: pa.StringArray

    @property
    def nbytes(self) -> int:
        """The size in memory, in bytes."""
        return sum(int(array.nbytes) for array in (*self.arrays, *self[1:]))

    @property
    def seeds(self) -> SeedTable:
        """The seed table."""
        return SeedTable(*(getattr(self.arrays, name) for name in SeedTable._fields))


class _Parts(NamedTuple):
    """The distinct texts of all items: normalised, in the original, their kinds [P]; the part of each question,
    passage and context text (answers, then choices)."""

    text: pa.StringArray
    originals: list[pa.StringArray]
    kind: _U8
    question: _I32
    passage: _I32
    context: _I32


def build_index(benchmarks: Sequence[tuple[str, pa.Table]]) -> BenchmarkIndex:
    """Build the index of named benchmarks, tables with columns id, split, question, answer, choices and passage.

    Equal tables give equal arrays. Takes about 1 s for a million benchmark tokens, and about 200 bytes of memory for
    each while building.
    """
    items = pa.concat_tables(
        [table.select(["id", "split", "question", "answer", "choices", "passage"]) for _, table in benchmarks]
    ).combine_chunks()
    lengths = [table.num_rows for _, table in benchmarks]
    bench = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    choices = as_array(items["choices"])
    choice_counts = pc.list_value_length(choices).to_numpy(zero_copy_only=False)
    choice_start = np.concatenate([[0], np.cumsum(choice_counts)]).astype(np.int64)
    parts = _parts(items, choices.flatten())
    kind = parts.kind
    answer, choice = parts.context[: items.num_rows], parts.context[items.num_rows :]

    data, text_start = buffers(parts.text)
    data, text_start = data[text_start[0] : text_start[-1]], text_start - text_start[0]
    original = pa.concat_arrays(parts.originals)
    read = tokenize(original, READING)
    assert len(read.offsets) == len(kind) + 1
    tokens, part_start = read.hash.copy(), read.offsets
    part = np.repeat(np.arange(len(kind), dtype=np.int32), np.diff(part_start))
    start, length = _token_places(data, text_start)
    assert len(start) == len(tokens), "a normalised text has the tokens of its original"
    first_byte = data[text_start[part] + start] if len(tokens) else np.empty(0, np.uint8)
    number = decisive_tokens(tokens, first_byte, length, *_neighbours(original, part, read))

    prefix = prefix_hashes(tokens)
    in_question = kind[part] == QUESTION if len(part) else np.empty(0, np.bool_)
    weight, frame = token_weights(tokens, part, part_start, in_question, prefix)
    # Sentences end at punctuation, which only the original text has.
    ask = last_sentences(*buffers(original), read.start, read.end, part_start, frame)
    figure = in_figures(*buffers(original), read.start, part_start)
    weight[figure], number[figure] = 0, 0
    own = np.diff(np.concatenate([[0], np.cumsum(~figure)])[part_start]).astype(np.int32)
    is_word = (length > 1) & (first_byte >= ord("a")) & (first_byte <= ord("z")) & ~figure
    slot = (slots(tokens, part, part_start, in_question, prefix) & is_word).astype(np.uint8)
    seeds = build_seed_table(part, part_start, kind != CONTEXT, prefix)
    owner_start, owner = _owners(len(kind), parts.question, parts.passage)
    pair = bench.astype(np.int64) * (len(kind) + 1) + parts.question
    _, inverse, counts = np.unique(pair, return_inverse=True, return_counts=True)
    arrays = IndexArrays(
        tokens, weight, number, slot, start, part, part_start, kind, ask, own, data.copy(), text_start, *seeds,
        owner_start, owner, parts.question, parts.passage, answer, choice_start, choice,
        counts[inverse].astype(np.int32), bench, _trained(bench, as_array(items["split"])),
    )  # fmt: skip
    for array in arrays:
        # Arrays mapped from a file are read-only; numba compiles one version of a kernel for both.
        array.setflags(write=False)
    asked = pa.concat_arrays(parts.originals[:CONTEXT])
    excerpt = pc.utf8_slice_codeunits(asked, 0, EXCERPT_CHARS)
    ellipsis = pc.if_else(pc.greater(pc.utf8_length(asked), EXCERPT_CHARS), " …", "")
    return BenchmarkIndex(
        arrays, pa.array([name for name, _ in benchmarks], pa.string()), as_array(items["id"]),
        as_array(items["split"]), pc.binary_join_element_wise(excerpt, ellipsis, ""),
        _spellings(np.where(np.diff(choice_start) == 0, parts.question, -1), as_array(items["question"])),
    )  # fmt: skip


def _token_places(data: _U8, text_start: _I64) -> tuple[_I32, _I32]:
    """Where each token begins in its normalised text, and its bytes: int32 [T] each.

    data: uint8, the texts, none empty; text_start: int64 [P + 1]. One space separates two tokens.
    """
    spaces = np.flatnonzero(data == SPACE)
    first = np.sort(np.concatenate([text_start[:-1], spaces + 1]))
    end = np.sort(np.concatenate([spaces, text_start[1:]]))
    text = np.searchsorted(text_start, first, "right") - 1
    return (first - text_start[text]).astype(np.int32), (end - first).astype(np.int32)


def _neighbours(original: pa.StringArray, part: _I32, read: Tokens) -> tuple[_U8, _U8]:
    """The bytes before and after each token in its original text, uint8 [T] each; 0 at the ends of a text."""
    data, offsets = buffers(original)
    at, end = offsets[part] + read.start, offsets[part] + read.end
    inside = end < offsets[part + 1]
    before = np.where(read.start > 0, data[np.maximum(at - 1, 0)], np.uint8(0))
    return before, np.where(inside, data[np.where(inside, end, 0)], np.uint8(0))


def _parts(items: pa.Table, choices: pa.StringArray) -> _Parts:
    # Several accepted answers are separated by bars; the first one is looked for.
    answers = pc.replace_substring_regex(as_array(items["answer"]), r"^([^|]+)\|.*$", r"\1")
    texts: list[pa.Array] = []
    originals: list[pa.Array] = []
    kinds: list[_U8] = []
    part_of: list[_I32] = []
    first_part = 0
    groups = ([as_array(items["question"])], [as_array(items["passage"])], [answers, choices])
    for kind, columns in enumerate(groups):
        column = pa.concat_arrays([c.cast(pa.string()) for c in columns])
        part, distinct, original = _distinct(column, first_part)
        part_of.append(part)
        texts.append(distinct)
        originals.append(original)
        kinds.append(np.full(len(distinct), kind, np.uint8))
        first_part += len(distinct)
    return _Parts(pa.concat_arrays(texts), originals, np.concatenate(kinds), *part_of)


def _distinct(column: pa.StringArray, first_part: int) -> tuple[_I32, pa.StringArray, pa.StringArray]:
    """Each text's part (-1 for a text without tokens), the distinct normalised texts, and an original of each."""
    encoded = normalise(column, READING).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    # Written in reverse, so that the first occurrence of each code is what remains.
    first = np.full(len(encoded.dictionary), -1, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    has_tokens = pc.binary_length(encoded.dictionary).to_numpy(zero_copy_only=False) > 0
    part_of_code = np.where(has_tokens, np.cumsum(has_tokens) - 1 + first_part, -1).astype(np.int32)
    return (
        part_of_code[codes] if len(codes) else np.empty(0, np.int32),
        encoded.dictionary.filter(pa.array(has_tokens)),
        column.take(pa.array(first[has_tokens])),
    )


def visible_characters(text: str) -> str:
    """A text without case and white space. Tells items apart whose tokens are the same."""
    return "".join(text.casefold().split())


def _spellings(question: _I32, texts: pa.StringArray) -> pa.StringArray:
    """`BenchmarkIndex.spelling`. question: int32 [I], parts, -1 for items whose choices tell them apart."""
    part, place, count = np.unique(question, return_inverse=True, return_counts=True)
    several = np.flatnonzero((count[place] > 1) & (part[place] >= 0))
    spelling = dict(
        zip(several.tolist(), map(visible_characters, texts.take(pa.array(several)).to_pylist()), strict=True)
    )
    by_question: dict[int, set[str]] = {}
    for item, characters in spelling.items():
        by_question.setdefault(int(question[item]), set()).add(characters)
    return pa.array(
        [spelling[n] if n in spelling and len(by_question[q]) > 1 else "" for n, q in enumerate(question.tolist())],
        pa.string(),
    )


def _trained(bench: _I32, splits: pa.StringArray) -> _U8:
    names = splits.to_numpy(zero_copy_only=False)
    trained = names == "train"
    for number in np.unique(bench):
        if "test" in names[bench == number]:
            trained |= (bench == number) & np.isin(names, TRAIN_SPLITS)
    return np.asarray(trained, np.uint8)


def _owners(parts: int, question: _I32, passage: _I32) -> tuple[_I64, _I32]:
    """The items of each question and passage: int64 [P + 1] and int32, in order."""
    item = np.concatenate([np.arange(len(question)), np.arange(len(passage))])
    part = np.concatenate([question, passage]).astype(np.int64)
    item, part = item[part >= 0], part[part >= 0]
    order = np.argsort(part, kind="stable")
    counts = np.bincount(part, minlength=parts)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), item[order].astype(np.int32)


def index_to_table(index: BenchmarkIndex) -> pa.Table:
    """The index as an Arrow table of one row of lists, whose file every worker can map into memory."""
    columns: dict[str, pa.Array] = {name: pa.array(value) for name, value in index.arrays._asdict().items()}
    columns |= {name: getattr(index, name) for name in BenchmarkIndex._fields[1:]}
    return pa.table(
        {
            name: pa.LargeListArray.from_arrays(pa.array([0, len(value)], pa.int64()), value)
            for name, value in columns.items()
        }
    )


def index_from_table(table: pa.Table) -> BenchmarkIndex:
    """The index in a table of `index_to_table`, without a copy."""

    def values(name: str) -> Any:
        return table[name].chunk(0).flatten()

    arrays = IndexArrays(*(values(name).to_numpy(zero_copy_only=True) for name in IndexArrays._fields))
    return BenchmarkIndex(arrays, *(values(name) for name in BenchmarkIndex._fields[1:]))

"""An n-gram language model: interpolated modified Kneser-Ney (Chen and Goodman 1998; Heafield et al. 2013).

Text is cut into tokens without loss: case, white space and marks stay. A token is a run of letters, a run of digits or
one other character, with the space before it, or a run of white space. Tokens seen once in training are unknown; an
unknown token is spelled by a bigram model of bytes. Every text has a probability, and bits per byte can be compared
across models.

A row is one sequence: <s> instruction <sep> response </s>. N-grams do not cross rows.

`Ngrams` is one hash table of all orders with open addressing. An entry is 16 bytes: the 64-bit hash of the n-gram, its
probability, and the backoff weight of the n-gram as a context. N-grams of order 3 and above that were seen once are
pruned. Their probability goes to the backoff weight, so the probabilities after any context add up to 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.hashing import FNV_BASIS, fmix64, fnv1a
from dedup.kernel import buffers, kernel

UNKNOWN, START, SEPARATOR, END = 0, 1, 2, 3
"""Ids of <unk>, <s>, <sep> and </s>. Others follow, in order of their hashes."""
SPECIAL = 4
MAX_TOKEN_BYTES = 32
"""Longer runs are cut, so that one token cannot be a whole page of base64."""
PRUNED_ORDER = 3
"""From this order on, n-grams seen once are pruned."""
MAX_LOAD = 0.7
"""Share of slots in use."""
COMPONENTS = 3
"""Of the probability given an instruction: n-grams, words of the instruction, pairs of words of the instruction."""

_PRIOR = np.array([8.0, 1.0, 1.0])
"""Tokens that each component is given beforehand where weights are fitted."""
_SPELLED = 0.95
"""Weight of the bigram model of bytes; the rest is uniform."""
_SPACE, _LETTER, _DIGIT, _BLANK, _OTHER = 0, 1, 2, 3, 4


def _classes() -> npt.NDArray[np.uint8]:
    table = np.full(256, _OTHER, np.uint8)
    for byte in range(256):
        character = chr(byte)
        if byte >= 0x80 or character.isalpha():
            table[byte] = _LETTER
        elif character.isdigit():
            table[byte] = _DIGIT
        elif character in "\t\n\r\v\f":
            table[byte] = _BLANK
    table[ord(" ")] = _SPACE
    return table


CLASSES = _classes()
_0, _32 = np.uint64(0), np.uint64(32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Ngrams(NamedTuple):
    """A model of order N with V tokens.

    vocabulary: uint64 [2 * slots], pairs of a token's hash and its id; id 0 marks a free slot.
    unigrams: float32 [V, 2], probability and backoff weight by id. That of <s> has the probability 0.
    table: uint64 [2 * slots], pairs of an n-gram's hash (order 2 and above) and its probability (low half, float32) and
    backoff weight (high half); hash 0 marks a free slot.
    spelling: float64 [257, 257], the probability of a byte after a byte; 256 stands for either end of a token.
    weights: float64 [2 * N, COMPONENTS], of the components by the number of tokens of context that the model knows, and
    whether the last one occurs in the instruction.
    """

    vocabulary: npt.NDArray[np.uint64]
    unigrams: npt.NDArray[np.float32]
    table: npt.NDArray[np.uint64]
    spelling: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]

    @property
    def order(self) -> int:
        """N."""
        return len(self.weights) // 2


class Likelihoods(NamedTuple):
    """Of responses [rows]: log2 of their probability with their end, given the instruction and alone, and sizes.

    given, alone: float64 [rows], bits, at most 0. tokens: int64 [rows], with the end. bytes: int64 [rows].
    """

    given: npt.NDArray[np.float64]
    alone: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]


def train(instructions: pa.StringArray, responses: pa.StringArray, order: int) -> Ngrams:
    """A model of rows, without weights of the instruction (`fit_weights`)."""
    hashes, since = _stream(*buffers(instructions), *buffers(responses), CLASSES)
    # The vocabulary: tokens seen twice.
    distinct, counts = np.unique(hashes[hashes >= SPECIAL], return_counts=True)
    known = distinct[counts > 1]
    vocabulary = _hash_table(known, np.arange(SPECIAL, SPECIAL + len(known), dtype=np.uint64), MAX_LOAD)
    ids = _look_up_ids(hashes, vocabulary)
    spelling = _spelling(*buffers(instructions), *buffers(responses), CLASSES, vocabulary)
    size = SPECIAL + len(known)

    probability = np.zeros(size)
    lower = np.zeros(0)  # the probabilities of the n-grams one token shorter
    table: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
    counted = _count(ids, since, order)
    for n, grams in enumerate(counted, 1):
        starts = ids[grams.end - (n - 1)] == START
        count: npt.NDArray[np.float64] = grams.times
        if n < order:
            # Lower orders count the different tokens before an n-gram. Nothing stands before <s>.
            suffix = grams.number[counted[n].end]
            count = np.where(starts, count, np.bincount(suffix, minlength=len(count)))
        if n == 1:
            count = np.where(starts, 0, count)  # <s> is never predicted
        kept = (grams.times > 1) | (n < PRUNED_ORDER)
        context = counted[n - 2].number[grams.end - 1] if n > 1 else np.zeros(len(count), np.int32)
        contexts = len(counted[n - 2].end) if n > 1 else 1
        total = np.bincount(context, weights=count, minlength=contexts)
        share = np.where(kept, (count - _discounts(count)[np.minimum(count, 3).astype(np.int64)]) / total[context], 0)
        backoff = np.where(total > 0, 1 - np.bincount(context, weights=share, minlength=contexts), 1)
        if n == 1:
            probability[:] = backoff[0] / (size - 1)
            probability[ids[grams.end]] += share
            probability[START] = 0
            lower = probability[ids[grams.end]]
        else:
            table[-1][2][:] = backoff
            lower = share + backoff[context] * lower[counted[n - 2].number[grams.end]]
        table.append((grams.hash, np.where(kept, lower, -1), np.ones(len(lower))))
    unigrams = np.ones((size, 2))
    unigrams[:, 0] = probability
    unigrams[ids[counted[0].end], 1] = table[0][2]
    hashes, *values = (np.concatenate(column) for column in zip(*table[1:], strict=True))
    kept = values[0] >= 0
    pairs = np.stack(values, axis=1)[kept].astype(np.float32).view(np.uint64).ravel()
    weights = np.zeros((2 * order, COMPONENTS))
    weights[:, 0] = 1
    ngrams = _hash_table(hashes[kept], pairs, MAX_LOAD)
    return Ngrams(vocabulary, unigrams.astype(np.float32), ngrams, spelling, weights)


class _Counted(NamedTuple):
    """The distinct n-grams of one order. hash: uint64 [G]. end: int64 [G], a position where it ends. times: float64
    [G]. number: int32 [positions], the n-gram that ends at each position, or -1."""

    hash: npt.NDArray[np.uint64]
    end: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    number: npt.NDArray[np.int32]


def _count(ids: npt.NDArray[np.int64], since: npt.NDArray[np.int32], order: int) -> list[_Counted]:
    """The n-grams of each order. ids, since: of each position, the token and its distance from <s>."""
    counted = []
    for grams in _hash_ngrams(ids, since, order):
        ends = np.flatnonzero(grams)
        hashes, first, inverse, count = np.unique(
            grams[ends], return_index=True, return_inverse=True, return_counts=True
        )
        number = np.full(len(ids), -1, np.int32)
        number[ends] = inverse
        counted.append(_Counted(hashes, ends[first], count.astype(np.float64), number))
    return counted


def _discounts(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What is subtracted from the counts 0, 1, 2 and above, float64 [4]. Chen and Goodman's estimate where there is
    one, else 0.5, 1 and 1.5, as in KenLM."""
    n1, n2, n3, n4 = (float((counts == k).sum()) for k in (1, 2, 3, 4))
    if min(n1, n2, n3) > 0:
        y = n1 / (n1 + 2 * n2)
        found = np.array([0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        if (found[1:] > 0).all() and (found[1:] < [1, 2, 3]).all():
            return found
    return np.array([0, 0.5, 1, 1.5])


def fit_weights(model: Ngrams, instructions: pa.StringArray, responses: pa.StringArray, rounds: int = 12) -> Ngrams:
    """The model with the weights that make responses most likely given their instructions, by expectation-maximisation.

    The rows must not be those that the model was trained on.
    """
    weights = np.tile(_PRIOR / _PRIOR.sum(), (2 * model.order, 1))
    for _ in range(rounds):
        model = model._replace(weights=weights)
        shares = np.tile(_PRIOR, (2 * model.order, 1))
        _measure(*buffers(instructions), *buffers(responses), CLASSES, *_arrays(model), shares)
        weights = shares / shares.sum(axis=1, keepdims=True)
    return model._replace(weights=weights)


def measure(model: Ngrams, instructions: pa.StringArray, responses: pa.StringArray) -> Likelihoods:
    """The likelihood of each response [rows]."""
    given, alone, tokens = _measure(
        *buffers(instructions), *buffers(responses), CLASSES, *_arrays(model), np.zeros((0, 0))
    )
    return Likelihoods(given, alone, tokens, np.diff(buffers(responses)[1]))


def _arrays(model: Ngrams) -> tuple[npt.NDArray[np.generic], ...]:
    return (
        model.vocabulary, model.unigrams, model.table, model.table.view(np.float32), model.spelling, model.weights,
    )  # fmt: skip


def write(models: Sequence[Ngrams], path: str) -> None:
    """Write models as an Arrow IPC file: one batch of one row for each, of the bytes of its arrays."""
    head = json.dumps([{name: [array.dtype.str, *array.shape] for name, array in m._asdict().items()} for m in models])
    schema = pa.schema([(name, pa.large_binary()) for name in Ngrams._fields], metadata={"ngrams": head})
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for model in models:
            columns = []
            for array in model:
                data = np.ascontiguousarray(array)
                ends = pa.py_buffer(np.array([0, data.nbytes], np.int64))
                columns.append(pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(data)]))
            writer.write_batch(pa.record_batch(columns, schema=schema))


def read(path: str) -> tuple[Ngrams, ...]:
    """The models in a file that `write` wrote, mapped into memory."""
    with pa.memory_map(path) as source:
        file = pa.ipc.open_file(source)
        batches = [file.get_batch(i) for i in range(file.num_record_batches)]
    models = []
    for batch, head in zip(batches, json.loads(file.schema.metadata[b"ngrams"]), strict=True):
        arrays = {}
        for name, (kind, *shape) in head.items():
            data = np.frombuffer(batch.column(name).buffers()[2], np.dtype(kind))
            arrays[name] = data[: int(np.prod(shape))].reshape(shape)
        models.append(Ngrams(**arrays))
    return tuple(models)


@kernel
def _token_end(data, at, end, classes):  # type: ignore[no-untyped-def]
    """Where the token that starts at `at` ends."""
    start = at
    kind = classes[data[at]]
    if kind == _SPACE and at + 1 < end and classes[data[at + 1]] != _SPACE and classes[data[at + 1]] != _BLANK:
        at += 1
        kind = classes[data[at]]
    first = data[at]
    at += 1
    if kind == _OTHER:
        return at
    end = min(end, start + MAX_TOKEN_BYTES)
    if kind in (_SPACE, _BLANK):
        while at < end and data[at] == first:
            at += 1
        return at
    while at < end and classes[data[at]] == kind:
        at += 1
    return at


@kernel
def _token_hash(data, at, end):  # type: ignore[no-untyped-def]
    state = FNV_BASIS
    for i in range(at, end):
        state = fnv1a(state, data[i])
    state = fmix64(state)
    return state if state >= np.uint64(SPECIAL) else np.uint64(SPECIAL)


@kernel
def _slot(key, slots):  # type: ignore[no-untyped-def]
    """The slot of a hash: its upper half, scaled to the number of slots (below 2**32)."""
    return np.int64((key >> _32) * np.uint64(slots) >> _32)


@kernel
def _hash_table(keys, values, load):  # type: ignore[no-untyped-def]
    """Pairs of key and value, uint64 [2 * slots], linear probing, at most `load` full; key 0 marks a free slot."""
    slots = np.int64(len(keys) / load) + 8
    table = np.zeros(2 * slots, np.uint64)
    for i in range(len(keys)):
        slot = _slot(keys[i], slots)
        while table[2 * slot] != _0:
            slot = slot + 1 if slot + 1 < slots else 0
        table[2 * slot], table[2 * slot + 1] = keys[i], values[i]
    return table


@kernel
def _find(table, key):  # type: ignore[no-untyped-def]
    """The index of a key's value in a table, or -1."""
    slots = len(table) // 2
    slot = _slot(key, slots)
    while True:
        found = table[2 * slot]
        if found == key:
            return 2 * slot + 1
        if found == _0:
            return -1
        slot = slot + 1 if slot + 1 < slots else 0


@kernel
def _token_id(vocabulary, key):  # type: ignore[no-untyped-def]
    if key < np.uint64(SPECIAL):
        return np.int64(key)
    found = _find(vocabulary, key)
    return np.int64(UNKNOWN) if found < 0 else np.int64(vocabulary[found])


@kernel
def _prepend(state, token):  # type: ignore[no-untyped-def]
    """The hash of an n-gram with one more token before it. The state of no token is 0."""
    state = fmix64(state * _GOLDEN + np.uint64(token) + np.uint64(1))
    return state if state != _0 else np.uint64(1)


@kernel
def _stream(instruction, instruction_offsets, response, response_offsets, classes):  # type: ignore[no-untyped-def]
    """All rows as one sequence: token hashes (special tokens by id), and the distance from <s>."""
    rows = len(instruction_offsets) - 1
    total = 3 * rows + instruction_offsets[rows] - instruction_offsets[0] + response_offsets[rows] - response_offsets[0]
    hashes, since = np.empty(total, np.uint64), np.empty(total, np.int32)
    n = 0
    for row in range(rows):
        first = n
        for part in range(2):
            data = instruction if part == 0 else response
            offsets = instruction_offsets if part == 0 else response_offsets
            hashes[n], since[n] = np.uint64(START if part == 0 else SEPARATOR), n - first
            n += 1
            at, end = offsets[row], offsets[row + 1]
            while at < end:
                stop = _token_end(data, at, end, classes)
                hashes[n], since[n] = _token_hash(data, at, stop), n - first
                n += 1
                at = stop
        hashes[n], since[n] = np.uint64(END), n - first
        n += 1
    return hashes[:n], since[:n]


@kernel
def _look_up_ids(hashes, vocabulary):  # type: ignore[no-untyped-def]
    ids = np.empty(len(hashes), np.int64)
    for i in range(len(hashes)):
        ids[i] = _token_id(vocabulary, hashes[i])
    return ids


@kernel
def _hash_ngrams(ids, since, order):  # type: ignore[no-untyped-def]
    """Hashes uint64 [order, total] of the n-grams that end at each position; 0 where they would begin before <s>."""
    grams = np.zeros((order, len(ids)), np.uint64)
    for i in range(len(ids)):
        state = _0
        for n in range(min(order, since[i] + 1)):
            state = _prepend(state, ids[i - n])
            grams[n, i] = state
    return grams


@kernel
def _spelling(instruction, instruction_offsets, response, response_offsets, classes, vocabulary):  # type: ignore[no-untyped-def]
    """Probabilities of bytes after bytes, float64 [257, 257], from the unknown tokens."""
    counts = np.zeros((257, 257))
    for part in range(2):
        data = instruction if part == 0 else response
        offsets = instruction_offsets if part == 0 else response_offsets
        for row in range(len(offsets) - 1):
            at, end = offsets[row], offsets[row + 1]
            while at < end:
                stop = _token_end(data, at, end, classes)
                if _token_id(vocabulary, _token_hash(data, at, stop)) == UNKNOWN:
                    before = 256
                    for i in range(at, stop):
                        counts[before, data[i]] += 1
                        before = data[i]
                    counts[before, 256] += 1
                at = stop
    for before in range(257):
        total = counts[before].sum()
        for byte in range(257):
            seen = counts[before, byte] / total if total else 1 / 257
            counts[before, byte] = _SPELLED * seen + (1 - _SPELLED) / 257
    return counts


@kernel
def _spell(data, at, end, spelling):  # type: ignore[no-untyped-def]
    """The probability of an unknown token's bytes."""
    probability, before = 1.0, np.int64(256)
    for i in range(at, end):
        probability *= spelling[before, data[i]]
        before = np.int64(data[i])
    return probability * spelling[before, 256]


@kernel
def _contexts(history, count, order, table, values, unigrams, backoff):  # type: ignore[no-untyped-def]
    """How many of the last tokens of history[:count] the model knows as one context. backoff[k]: of k + 1 tokens."""
    known = 0
    state = _0
    for n in range(min(order - 1, count)):
        token = history[count - 1 - n]
        state = _prepend(state, token)
        if n == 0:
            backoff[0] = unigrams[token, 1]
        else:
            found = _find(table, state)
            if found < 0:
                break
            backoff[n] = values[2 * found + 1]
        known = n + 1
    return known


@kernel
def _advance(history, count, known, order, table, values, unigrams, backoff):  # type: ignore[no-untyped-def]
    """The probability of token history[count] after history[:count], of which `known` are a context.

    Returns it and the length of the context for the next token, whose weights are written to `backoff`.
    """
    token = history[count]
    state = _prepend(_0, token)
    probability = np.float64(unigrams[token, 0])
    matched = 1
    new_0, new_1, new_2, new_3 = np.float32(unigrams[token, 1]), np.float32(1), np.float32(1), np.float32(1)
    for n in range(1, known + 1):
        state = _prepend(state, history[count - n])
        found = _find(table, state)
        if found < 0:
            break
        probability = np.float64(values[2 * found])
        weight = values[2 * found + 1]
        if n == 1:
            new_1 = weight
        elif n == 2:
            new_2 = weight
        elif n == 3:
            new_3 = weight
        matched = n + 1
    for n in range(matched - 1, known):
        probability *= backoff[n]
    backoff[0], backoff[1], backoff[2], backoff[3] = new_0, new_1, new_2, new_3
    return probability, min(matched, order - 1)


@kernel
def _add(keys, counts, key):  # type: ignore[no-untyped-def]
    """Count a key in a small hash table (a power of two of slots)."""
    slot = np.int64(key & np.uint64(len(keys) - 1))
    while keys[slot] != _0 and keys[slot] != key:
        slot = slot + 1 & len(keys) - 1
    keys[slot] = key
    counts[slot] += 1


@kernel
def _counted(keys, counts, key):  # type: ignore[no-untyped-def]
    slot = np.int64(key & np.uint64(len(keys) - 1))
    while keys[slot] != _0:
        if keys[slot] == key:
            return counts[slot]
        slot = slot + 1 & len(keys) - 1
    return 0


@kernel
def _measure(  # type: ignore[no-untyped-def]
    instruction, instruction_offsets, response, response_offsets, classes, vocabulary, unigrams, table, values,
    spelling, weights, shares,
):  # fmt: skip
    """log2 of the probabilities of each response given its instruction and alone, and its number of tokens.

    shares: float64 [2 * order, COMPONENTS], to which the share of each component is added for each token, or empty.
    """
    rows = len(instruction_offsets) - 1
    order = len(weights) // 2
    given, alone, tokens = np.zeros(rows), np.zeros(rows), np.zeros(rows, np.int64)
    longest_i, longest_r = 0, 0
    for row in range(rows):
        longest_i = max(longest_i, instruction_offsets[row + 1] - instruction_offsets[row])
        longest_r = max(longest_r, response_offsets[row + 1] - response_offsets[row])
    history = np.empty(longest_r + order + 4, np.int64)
    asked = np.empty(longest_i, np.uint64)
    most = 16
    while most < 3 * longest_i:
        most *= 2
    all_keys, all_counts = np.zeros(most, np.uint64), np.zeros(most, np.int32)
    backoff, other = np.ones(4, np.float32), np.ones(4, np.float32)
    for row in range(rows):
        # The instruction: its words and pairs of words are counted, its last tokens are kept.
        at, end = instruction_offsets[row], instruction_offsets[row + 1]
        size = 0
        while at < end:
            stop = _token_end(instruction, at, end, classes)
            asked[size] = _token_hash(instruction, at, stop)
            size += 1
            at = stop
        slots = 16
        while slots < 3 * size:
            slots *= 2
        keys, counts = all_keys[:slots], all_counts[:slots]
        keys[:] = _0
        counts[:] = 0
        for k in range(size):
            _add(keys, counts, asked[k])
            _add(keys, counts, _prepend(asked[k + 1] if k + 1 < size else np.uint64(END), asked[k]))
        kept = min(size + 1, order - 2)
        for k in range(kept):
            place = size - kept + k
            history[k] = _token_id(vocabulary, asked[place]) if place >= 0 else START
        history[kept] = SEPARATOR
        start = kept + 1
        known = _contexts(history, start, order, table, values, unigrams, backoff)
        other_known = _contexts(history[kept:], 1, order, table, values, unigrams, other)
        # The response, token by token, as the end of two sequences.
        at, end = response_offsets[row], response_offsets[row + 1]
        before = np.uint64(SEPARATOR)
        count = start
        product_given, product_alone, bits_given, bits_alone = 1.0, 1.0, 0.0, 0.0
        while True:
            stop, key = at, np.uint64(END)
            if at < end:
                stop = _token_end(response, at, end, classes)
                key = _token_hash(response, at, stop)
            history[count] = _token_id(vocabulary, key)
            spelled = 1.0
            if history[count] == UNKNOWN:
                spelled = _spell(response, at, stop, spelling)
            context = known
            probability, known = _advance(history, count, known, order, table, values, unigrams, backoff)
            if count - start < order:
                probability_alone, other_known = _advance(
                    history[kept:], count - kept, other_known, order, table, values, unigrams, other
                )
            else:
                probability_alone = probability
            probability *= spelled
            product_alone *= probability_alone * spelled
            mixed = probability
            if size:
                pairs = _counted(keys, counts, before)
                state = 2 * context + (pairs > 0)
                w_1, w_2 = weights[state, 1], weights[state, 2] if pairs else 0.0
                p_1, p_2 = 0.0, 0.0
                if key != np.uint64(END):
                    p_1 = _counted(keys, counts, key) / size
                if pairs and (p_1 > 0 or key == np.uint64(END)):
                    p_2 = _counted(keys, counts, _prepend(key, before)) / pairs
                w_0 = 1 - w_1 - w_2
                mixed = w_0 * probability + w_1 * p_1 + w_2 * p_2
                if len(shares):
                    shares[state, 0] += w_0 * probability / mixed
                    shares[state, 1] += w_1 * p_1 / mixed
                    shares[state, 2] += w_2 * p_2 / mixed
            product_given *= mixed
            if product_given < 1e-150 or product_alone < 1e-150:
                bits_given += np.log2(product_given)
                bits_alone += np.log2(product_alone)
                product_given, product_alone = 1.0, 1.0
            count += 1
            before = key
            if at == end:
                break
            at = stop
        given[row] = bits_given + np.log2(product_given)
        alone[row] = bits_alone + np.log2(product_alone)
        tokens[row] = count - start
    return given, alone, tokens

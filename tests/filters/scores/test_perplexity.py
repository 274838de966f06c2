"""The n-gram model against a reference of dictionaries, and what its scores say."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from filters.scores import ngrams
from filters.scores.perplexity import Perplexity

WORDS = "the cat dog sees eats a fish and runs 12 7 + = big old \n".split(" ")


def _texts(seed: int, rows: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    weights = [1 / (k + 1) for k in range(len(WORDS))]
    return [
        tuple(" ".join(rng.choices(WORDS, weights, k=rng.randint(0, 12))) for _ in range(2))  # type: ignore[misc]
        for _ in range(rows)
    ]


def _tokens(text: str) -> list[str]:
    """The tokens of these texts: words with the space before them; a line feed stands alone."""
    out: list[str] = []
    for part in (" " + text).split(" ")[1:] if text else []:
        space = " " if out or text.startswith(" ") else ""
        out += [" ", "\n"] if part == "\n" and space else [space + part]
    return out


class Reference:
    """Interpolated modified Kneser-Ney by dictionaries, written from the formulas."""

    def __init__(self, texts: list[tuple[str, str]], order: int) -> None:
        counted = Counter(token for row in texts for text in row for token in _tokens(text))
        self.known = {token for token, count in counted.items() if count > 1}
        rows = [["<s>", *self.ids(a), "<sep>", *self.ids(b), "</s>"] for a, b in texts]
        self.order = order
        self.vocabulary = sorted({"<unk>", "<sep>", "</s>", *self.known})
        raw = [
            Counter(tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)) for n in range(1, order + 1)
        ]
        self.shares: list[dict[tuple[str, ...], float]] = []
        self.backoffs: list[dict[tuple[str, ...], float]] = []
        for n in range(1, order + 1):
            counts = dict(raw[n - 1])
            if n < order:
                before = Counter(gram[1:] for gram in raw[n])
                counts = {gram: count if gram[0] == "<s>" else before[gram] for gram, count in counts.items()}
            if n == 1:
                counts[("<s>",)] = 0
            of = Counter(counts.values())
            y = of[1] / (of[1] + 2 * of[2]) if of[1] + of[2] else 0.0
            discount = [0.0] + [k - (k + 1) * y * of[k + 1] / of[k] if of[k] else -1.0 for k in (1, 2, 3)]
            if not all(0 < discount[k] < k for k in (1, 2, 3)):
                discount = [0, 0.5, 1, 1.5]
            total: defaultdict[tuple[str, ...], float] = defaultdict(float)
            for gram, count in counts.items():
                total[gram[:-1]] += count
            share = {
                gram: (count - discount[min(count, 3)]) / total[gram[:-1]]
                for gram, count in counts.items()
                if n < ngrams.PRUNED_ORDER or raw[n - 1][gram] > 1
            }
            backoff = {context: 1.0 for context, sum_ in total.items() if sum_}
            for gram, value in share.items():
                if gram[:-1] in backoff:
                    backoff[gram[:-1]] -= value
            self.shares.append(share)
            self.backoffs.append(backoff)

    def ids(self, text: str) -> list[str]:
        return [token if token in self.known else "<unk>" for token in _tokens(text)]

    def probability(self, context: tuple[str, ...], token: str) -> float:
        context = context[-(self.order - 1) :]
        value = self.backoffs[0][()] / len(self.vocabulary) + self.shares[0].get((token,), 0)
        for n in range(2, len(context) + 2):
            tail = context[len(context) - n + 1 :]
            value = self.shares[n - 1].get((*tail, token), 0) + self.backoffs[n - 1].get(tail, 1) * value
        return value


def _arrays(texts: list[tuple[str, str]]) -> tuple[pa.Array, pa.Array]:
    return pa.array([a for a, _ in texts], pa.string()), pa.array([b for _, b in texts], pa.string())


@pytest.mark.parametrize("order", [2, 3, 5])
def test_probabilities_are_those_of_the_formulas(order: int) -> None:
    texts = _texts(0, 400)
    model, reference = ngrams.train(*_arrays(texts), order), Reference(texts, order)
    asked = [(a, b) for a, b in _texts(1, 200) if all(token in reference.known for token in _tokens(b))]
    assert len(asked) > 100
    found = ngrams.measure(model, *_arrays(asked))
    for row, (instruction, response) in enumerate(asked):
        for start, value in (
            (["<s>", *reference.ids(instruction), "<sep>"], found.given[row]),
            (["<sep>"], found.alone[row]),
        ):
            tokens = [*start, *reference.ids(response), "</s>"]
            expected = sum(
                math.log2(reference.probability(tuple(tokens[:i]), tokens[i])) for i in range(len(start), len(tokens))
            )
            assert value == pytest.approx(expected, abs=1e-5)
        assert found.tokens[row] == len(reference.ids(response)) + 1


def test_probabilities_of_all_tokens_add_up_to_one_after_any_context() -> None:
    texts = _texts(2, 300)
    model, reference = ngrams.train(*_arrays(texts), 4), Reference(texts, 4)
    model = ngrams.fit_weights(model, *_arrays(_texts(3, 100)))
    known = sorted(reference.known)
    rng = random.Random(0)
    ids = {token: i for i, token in enumerate(reference.vocabulary)}
    for _ in range(30):
        context = ["<sep>", *rng.choices(reference.vocabulary, k=3)]
        assert sum(reference.probability(tuple(context), token) for token in ids) == pytest.approx(1)
    # The same of the kernels, with the words of an instruction: the first token of a response, any known token or an
    # end. What is missing is that of unknown tokens.
    instruction = "the cat\nsees a big fish"
    asked = [(instruction, token) for token in [*known, ""]]
    found = ngrams.measure(model, *_arrays(asked))
    # One token more has its own probability; compare with the response that goes on.
    first = {token: 2.0 ** found.given[i] for i, token in enumerate([*known, ""])}
    assert 0 < sum(first.values()) < 1
    del first


def test_known_contexts_sum_to_one_in_the_kernels() -> None:
    texts = _texts(4, 300)
    model = ngrams.train(*_arrays(texts), 3)
    size = len(model.unigrams)
    rng = np.random.default_rng(0)
    backoff = np.ones(4, np.float32)
    arrays = (model.table, model.table.view(np.float32), model.unigrams)
    for _ in range(50):
        history = np.append(rng.integers(0, size, 4), 0)
        total = 0.0
        for token in range(size):
            known = ngrams._contexts(history, 4, 3, *arrays, backoff)
            history[4] = token
            total += ngrams._advance(history, 4, known, 3, *arrays, backoff)[0]
        assert total == pytest.approx(1, abs=1e-5)


def _records(texts: list[tuple[str, str]]) -> pa.Table:
    instructions, responses = _arrays(texts)
    return pa.table({"instruction": instructions, "response": responses})

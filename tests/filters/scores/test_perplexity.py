"""The n-gram model against a reference of dictionaries, and what its scores say."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from filters.scores import ngrams
from filters.scores.perplexity import Perplexity

WORDS = ["the", "cat", "dog", "sees", "eats", "a", "fish", "and", "runs", "12", "7", "+", "=", "big", "old", "\n"]


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


def test_an_instruction_mixes_in_its_words_and_pairs_of_words() -> None:
    texts = _texts(2, 400)
    reference = Reference(texts, 3)
    model = ngrams.fit_weights(ngrams.train(*_arrays(texts), 3), *_arrays(_texts(3, 200)))
    assert np.allclose(model.weights.sum(axis=1), 1)
    asked = [(a, b) for a, b in _texts(5, 100) if a and set(_tokens(b)) <= reference.known]
    found = ngrams.measure(model, *_arrays(asked))
    for row, (instruction, response) in enumerate(asked):
        words = _tokens(instruction)
        counts, pairs = Counter(words), Counter(itertools.pairwise([*words, "</s>"]))

        def mixed(context: list[str], before: str, counts=counts, pairs=pairs) -> dict[str, float]:  # type: ignore[no-untyped-def]
            known = next(n for n in (2, 1, 0) if n == 0 or tuple(context[-n:]) in reference.backoffs[n])
            after = sum(count for (first, _), count in pairs.items() if first == before)
            weights = model.weights[2 * known + (after > 0)]
            return {
                token: (1 - weights[1] - weights[2] * (after > 0)) * reference.probability(tuple(context), token)
                + weights[1] * counts[token] / sum(counts.values())
                + (weights[2] * pairs[before, token] / after if after else 0)
                for token in reference.vocabulary
            }

        tokens = ["<s>", *reference.ids(instruction), "<sep>", *reference.ids(response), "</s>"]
        start = len(reference.ids(instruction)) + 2
        each = [mixed(tokens[:i], tokens[i - 1]) for i in range(start, len(tokens))]
        unknown = sum(count for token, count in counts.items() if token not in reference.known) / sum(counts.values())
        if not unknown:
            assert all(sum(row.values()) == pytest.approx(1) for row in each)
        expected = sum(math.log2(row[token]) for row, token in zip(each, tokens[start:], strict=True))
        assert found.given[row] == pytest.approx(expected, abs=1e-5)


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


@pytest.fixture(scope="module")
def perplexity() -> Perplexity:
    return Perplexity(name="perplexity", rows="good")  # type: ignore[arg-type]


def _sums(seed: int, rows: int) -> pa.Table:
    rng = random.Random(seed)
    names = [
        "Anna",
        "Ben",
        "Carl",
        "Dora",
        "Emil",
        "Fay",
        "Gus",
        "Hana",
        "Ivo",
        "Jo",
        "Kim",
        "Leo",
        "Mia",
        "Noa",
        "Otto",
    ]
    things = ["apples", "pears", "books", "pens", "coins", "stamps", "shells", "cards", "stones", "eggs"]
    texts = []
    for _ in range(rows):
        name, thing, a, b = rng.choice(names), rng.choice(things), rng.randint(2, 99), rng.randint(2, 99)
        texts.append(
            (
                f"{name} has {a} {thing} and finds {b} more. How many {thing} does {name} have?",
                f"{name} had {a} {thing}. With {b} more, {name} has {a} + {b} = {a + b} {thing}.",
            )
        )
    instructions, responses = _arrays(texts)
    return pa.table({"instruction": instructions, "response": responses})


@pytest.fixture(scope="module")
def model(perplexity: Perplexity, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("model") / "model")
    measured = perplexity.train(_sums(0, 2000), path)
    assert measured["bits_per_byte"] < measured["bits_per_byte_alone"] < measured["bits_per_byte_shuffled"]
    assert measured["ifd"] < 1 < measured["ifd_other"]
    return path


def test_a_model_has_the_same_bytes_each_time(perplexity: Perplexity, model: str, tmp_path: Path) -> None:
    perplexity.train(_sums(0, 2000), str(tmp_path / "again"))
    assert Path(model).read_bytes() == (tmp_path / "again").read_bytes()


def test_the_three_columns_order_rows_as_documented(perplexity: Perplexity, model: str) -> None:
    table = _sums(1, 50)
    good = perplexity.measure(table, model)
    assert good.schema.names == [field.name for field in perplexity.columns]
    texts = table["response"].to_pylist()
    strange = table.set_column(1, "response", pa.array([text[::-1] for text in texts]))
    other = table.set_column(1, "response", pa.array(texts[1:] + texts[:1]))
    low, wrong = perplexity.measure(strange, model), perplexity.measure(other, model)
    assert np.all(low["score_perplexity"].to_numpy() < good["score_perplexity"].to_numpy())
    assert np.all(good["score_perplexity_ifd"].to_numpy() < 1)
    assert np.mean(wrong["score_perplexity_ifd"].to_numpy() > 1) > 0.9


def test_a_measure_depends_on_its_row_alone_and_blank_rows_have_none(perplexity: Perplexity, model: str) -> None:
    rows = pa.table(
        {
            "instruction": ["", "Why?", "", "é" * 5000, "x", "\x00"],
            "response": ["", " \n", "Because.", "z" * 20_000, "日本語 🎉" * 10, "a\x00b"],
        }
    )
    whole = perplexity.measure(rows, model)
    assert [value is None for value in whole["score_perplexity"].to_pylist()] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    single = pa.concat_tables(perplexity.measure(rows.slice(row, 1), model) for row in range(rows.num_rows))
    assert single.equals(whole)
    assert all(math.isfinite(value) for column in whole.columns for value in column.to_pylist() if value is not None)
    assert perplexity.measure(rows.slice(0, 0), model).num_rows == 0


def test_rows_that_were_trained_on_are_measured_as_others_are(perplexity: Perplexity, model: str) -> None:
    seen, unseen = (perplexity.measure(_sums(seed, 2000), model) for seed in (0, 7))
    for name in seen.column_names:
        known, new = (np.median(table[name].to_numpy()) for table in (seen, unseen))
        assert known == pytest.approx(new, rel=0.02)


def test_few_rows_are_refused_with_what_to_do(perplexity: Perplexity, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="19 rows to train on; choose at least 100"):
        perplexity.train(_sums(0, 19), str(tmp_path / "model"))

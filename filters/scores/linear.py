"""A linear model of n-grams: fastText or logistic regression trains it, a compiled kernel evaluates it.

Source: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification".

A fastText classifier averages the vectors of a text's words and n-grams and multiplies the average by the vectors of
the labels. Its logit is therefore the mean of one number per feature, the product of both vectors. Only these numbers
are kept: a model of two labels has 4 bytes per feature instead of a vector, is read without fastText, and its logits do
not saturate, whereas fastText's probabilities end at 1e-5 and 1.00001. Features of no training text would have random
numbers; they are left out, so the mean is over the known features of a text, and over a few of weight zero, because the
mean of one word would be extreme. fastText's token for the end of a text is left out too: its share of the mean is one
over the length.

A logistic regression has one number per feature from the start. It is fitted to counts divided by their Euclidean norm.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.columns import as_array
from dedup.kernel import kernel
from filters.scores import features

Trainer = Literal["fasttext", "logistic"]
"""What fits the weights."""

LONGEST = 2
"""N-grams of one and two tokens are features."""

DIMENSIONS, EPOCHS, LEARNING_RATE, MIN_COUNT, SEED = 10, 10, 0.5, 2, 0
"""Of fastText."""

INVERSE_PENALTY = 10.0
"""Of the logistic regression (`C` of scikit-learn)."""


def check(trainer: Trainer) -> None:
    """Raises: ImportError: if the trainer's package is not installed; the message tells how to install it."""
    if trainer == "logistic" and importlib.util.find_spec("sklearn") is None:
        raise ImportError(
            "`trainer: logistic` needs scikit-learn; run `pip install 'winnow-corpus[quality]'`, "
            "or use `trainer: fasttext`"
        )


PRIOR = 8
"""Features of weight zero that the mean of a fastText model includes, so that a text of few words is not extreme."""


class Linear(NamedTuple):
    """A trained model.

    words: uint64 [words], the keys of its dictionary; None if it has none. weights: float32 [words + buckets, outputs],
    NaN for features that no training text has. about: JSON values, `trainer` among them.
    """

    words: npt.NDArray[np.uint64] | None
    weights: npt.NDArray[np.float32]
    about: dict[str, Any]


def train(
    texts: Sequence[pa.Array], labels: npt.NDArray[np.int64], count: int, trainer: Trainer, buckets: int
) -> Linear:
    """A model of `count` labels. The same input gives the same weights, in any process.

    texts: what `features.tokens` returns, [rows] per field. labels: int64 [rows], 0 to count - 1. With two labels the
    model has one output, the log-odds of label 1; else one per label. buckets: n-grams are hashed to so many.

    Raises: ImportError: for a logistic regression without scikit-learn.
    """
    return (_fasttext if trainer == "fasttext" else _logistic)(texts, labels, count, buckets)


def _fasttext(texts: Sequence[pa.Array], labels: npt.NDArray[np.int64], count: int, buckets: int) -> Linear:
    import fasttext  # here, because most commands do not train

    columns = [field.to_pylist() for field in texts]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.txt"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for label, *parts in zip(labels.tolist(), *columns, strict=True):
                file.write(f"__label__{label} {''.join(parts)}\n")
        trained = fasttext.train_supervised(
            str(path),
            dim=DIMENSIONS,
            epoch=EPOCHS,
            lr=LEARNING_RATE,
            minCount=MIN_COUNT,
            wordNgrams=LONGEST,
            bucket=buckets,
            thread=1,  # with more, the weights depend on the threads' timing
            seed=SEED,
            verbose=0,
        )
    vectors = np.asarray(trained.get_input_matrix(), np.float64)
    outputs = np.zeros((count, DIMENSIONS))
    outputs[[int(label.removeprefix("__label__")) for label in trained.get_labels()]] = trained.get_output_matrix()
    outputs = outputs[1:] - outputs[:1] if count == 2 else outputs - outputs.mean(axis=0)
    words = features.word_keys(trained.get_words())
    numbers, _ = features.number(texts, LONGEST, buckets, words)
    model = Linear(words, _seen((vectors @ outputs.T).astype(np.float32), numbers), {"trainer": "fasttext"})
    if count == 2:  # weight zero is made the middle between the labels, to which PRIOR draws
        known = model._replace(weights=np.where(np.isnan(model.weights), np.float32(np.nan), np.float32(1)))
        sums, shares = logits(model, texts)[:, 0], logits(known, texts)[:, 0]
        means = [[np.nanmean(values[labels == label]) for label in (0, 1)] for values in (sums, shares)]
        model.weights[:] -= sum(means[0]) / sum(means[1])
    return model


def _logistic(texts: Sequence[pa.Array], labels: npt.NDArray[np.int64], count: int, buckets: int) -> Linear:
    import scipy.sparse
    from sklearn.linear_model import LogisticRegression

    numbers, ends = features.number(texts, LONGEST, buckets)
    used = np.flatnonzero(np.bincount(numbers, minlength=buckets))
    columns = np.zeros(buckets, np.int32)
    columns[used] = np.arange(len(used))
    shape = (len(ends) - 1, len(used))
    counts = scipy.sparse.csr_matrix((np.ones(len(numbers)), columns[numbers], ends), shape=shape)
    counts.sum_duplicates()
    norms = np.sqrt(np.maximum(counts.multiply(counts).sum(axis=1), 1))
    fitted = LogisticRegression(C=INVERSE_PENALTY, solver="liblinear", class_weight="balanced", fit_intercept=False)
    inputs = counts.multiply(1 / norms).tocsr()
    outputs = [fitted.fit(inputs, labels == label).coef_[0] for label in (range(count) if count > 2 else (1,))]
    weights = np.full((buckets, len(outputs)), np.nan, np.float32)
    weights[used] = np.array(outputs).T
    return Linear(None, weights, {"trainer": "logistic"})


def _seen(weights: npt.NDArray[np.float32], numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    weights[np.bincount(numbers, minlength=len(weights)) == 0] = np.nan
    return weights


def logits(model: Linear, texts: Sequence[pa.Array]) -> npt.NDArray[np.float64]:
    """The outputs of the model, float64 [rows, outputs]; NaN for texts without a known feature."""
    buckets = len(model.weights) - (0 if model.words is None else len(model.words))
    numbers, ends = features.number(texts, LONGEST, buckets, model.words)
    result: npt.NDArray[np.float64] = _logits(numbers, ends, model.weights, model.about["trainer"] == "fasttext")
    return result


@kernel
def _logits(
    numbers: npt.NDArray[np.int32], ends: npt.NDArray[np.int64], weights: npt.NDArray[np.float32], mean: bool
) -> npt.NDArray[np.float64]:
    rows, outputs = len(ends) - 1, weights.shape[1]
    result = np.full((rows, outputs), np.nan)
    counts = np.zeros(0 if mean else len(weights), np.int32)  # of the features of one text
    for row in range(rows):
        known, squares = 0, 0
        for at in range(ends[row], ends[row + 1]):
            number = numbers[at]
            if np.isnan(weights[number, 0]):
                continue
            if known == 0:
                result[row] = 0
            known += 1
            for output in range(outputs):
                result[row, output] += weights[number, output]
            if not mean:
                squares += 2 * counts[number] + 1
                counts[number] += 1
        if known:
            result[row] /= known + PRIOR if mean else np.sqrt(squares)
        if not mean:
            for at in range(ends[row], ends[row + 1]):
                counts[numbers[at]] = 0
    return result


def write(model: Linear, path: str) -> None:
    """Write the model as an Arrow file of one row."""
    columns = {
        "words": pa.array([model.words], pa.list_(pa.uint64())),
        "weights": pa.array([model.weights.reshape(-1)], pa.list_(pa.float32())),
    }
    about = {"outputs": model.weights.shape[1], **model.about}
    table = pa.table(columns).replace_schema_metadata({"winnow": json.dumps(about, sort_keys=True)})
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read(path: str) -> Linear:
    """The model at `path`, memory-mapped. It is kept while the file has the same size and time of change."""
    status = Path(path).stat()
    return _read(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: str, _size: int, _changed: int) -> Linear:
    table = pa.ipc.open_file(pa.memory_map(path)).read_all()
    about = json.loads(table.schema.metadata[b"winnow"])
    words, weights = as_array(table["words"]), as_array(table["weights"])
    return Linear(
        words.values.to_numpy() if words.null_count == 0 else None,
        weights.values.to_numpy().reshape(-1, about.pop("outputs")),
        about,
    )

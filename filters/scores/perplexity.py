"""How well does an n-gram model of good rows predict a response, given its instruction and alone?"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from dedup.columns import as_array
from dedup.exact import digest128, halves
from filters.scores import ngrams
from filters.scores.score import PREFIX, Choices, Rows, TrainedScore
from filters.stage import blank_responses

FOLDS = 2
"""Models. Each is trained on the rows that the others measure, so that no row is measured by a model that saw it."""
SAMPLE = 10
"""One row of so many, of those that a model measures, fits its weights of the instruction. One other is measured."""
MIN_ROWS = 100


class Perplexity(TrainedScore):
    """Three measures of a response under an n-gram model (interpolated modified Kneser-Ney) of the rows chosen.

    - `score_<name>`: log2 probability of the response given the instruction, per byte: bits per byte with a minus. High
      (near 0) is predictable, like the rows trained on. Low is unlike them.
    - `score_<name>_alone`: the same of the response alone.
    - `score_<name>_ifd`: perplexity per token given the instruction / perplexity alone. Below 1 the instruction helps
      to predict the response. Above 1 the model finds the response no likelier behind the instruction than
      alone.

    Given means: the model sees the end of the instruction as context, and words and pairs of words that occur in the
    instruction are likelier. It does not understand a question: a response that repeats its words is likely.

    A row is measured by a model that was trained without it and its copies: there are two, each of half of the rows.
    The end of the response is predicted too. Blank responses are null.

    rows: the rows to train on. order: tokens of the longest n-grams, 2 to 5.
    """

    VERSION: ClassVar[int] = 2

    kind: Literal["perplexity"] = "perplexity"
    rows: Choices
    order: int = Field(default=5, ge=2, le=5)

    @property
    def columns(self) -> tuple[pa.Field, ...]:
        """float32 `score_<name>`, `score_<name>_alone`, `score_<name>_ifd`."""
        return tuple(pa.field(PREFIX + self.name + end, pa.float32()) for end in ("", "_alone", "_ifd"))

    @property
    def training(self) -> dict[str, tuple[Rows, ...]]:
        """One label, `good`."""
        return {"good": self.rows}

    def learned_from(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """None: a row is measured by the model that did not see it."""
        return np.zeros(rows.num_rows, np.bool_)

    def train(self, rows: pa.Table, path: str) -> dict[str, float]:
        """Train two models, each on the half of the rows that the other measures.

        Returns, of rows that the models were not trained on: bits per byte given the instruction and alone, with the
        words of each response shuffled (`bits_per_byte_shuffled`), the median `ifd`, and the same under the
        instruction of another row (`ifd_other`).

        Raises: ValueError: if there are fewer than 100 rows.
        """
        if rows.num_rows < MIN_ROWS:
            raise ValueError(f"score {self.name}: {rows.num_rows} rows to train on; choose at least {MIN_ROWS}")
        instructions, responses = _texts(rows)
        fold = _folds(instructions, responses)
        place = np.arange(rows.num_rows) // FOLDS % SAMPLE
        models: list[ngrams.Ngrams] = []
        found: list[tuple[ngrams.Likelihoods, ...]] = []
        for k in range(FOLDS):
            parts = (fold != k, (fold == k) & (place == 0), (fold == k) & (place == 1))
            trained, fitted, (asked, answers) = (
                (instructions.filter(pa.array(part)), responses.filter(pa.array(part))) for part in parts
            )
            model = ngrams.fit_weights(ngrams.train(*trained, self.order), *fitted)
            models.append(model)
            other = asked.take(pa.array(np.roll(np.arange(len(asked)), 1)))
            pairs = ((asked, answers), (asked, shuffle_words(answers)), (other, answers))
            found.append(tuple(ngrams.measure(model, *pair) for pair in pairs))
        ngrams.write(models, path)
        held_out, shuffled, swapped = (
            ngrams.Likelihoods(*map(np.concatenate, zip(*each, strict=True))) for each in zip(*found, strict=True)
        )
        size = max(int(held_out.bytes.sum()), 1)
        return {
            "rows_held_out": float(len(held_out.bytes)),
            "bits_per_byte": -float(held_out.given.sum()) / size,
            "bits_per_byte_alone": -float(held_out.alone.sum()) / size,
            "bits_per_byte_shuffled": -float(shuffled.given.sum()) / size,
            "ifd": float(np.median(ifd(held_out))),
            "ifd_other": float(np.median(ifd(swapped))),
            "ngrams": float(sum((model.table[::2] != 0).sum() + len(model.unigrams) for model in models)),
        }

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        """The three columns; null where the response is blank."""
        if model is None:
            raise ValueError(f"score {self.name}: no model")
        instructions, responses = _texts(records)
        state = Path(model).stat()
        fold = _folds(instructions, responses)
        values = np.zeros((3, records.num_rows))
        for k, each in enumerate(_read(model, state.st_mtime_ns, state.st_size)):
            mask = pa.array(fold == k)
            found = ngrams.measure(each, instructions.filter(mask), responses.filter(mask))
            size = np.maximum(found.bytes, 1)
            values[:, fold == k] = found.given / size, found.alone / size, ifd(found)
        blank = blank_responses(records)
        arrays = [pa.array(value.astype(np.float32), mask=blank) for value in values]
        return pa.table(arrays, schema=pa.schema(self.columns))


def _texts(records: pa.Table) -> tuple[pa.StringArray, pa.StringArray]:
    return as_array(records["instruction"]), as_array(records["response"])


def _folds(instructions: pa.StringArray, responses: pa.StringArray) -> npt.NDArray[np.int64]:
    """By which model each row is measured, int64 [rows]. Equal rows have the same."""
    return (halves(digest128(instructions, responses))[:, 0] % np.uint64(FOLDS)).astype(np.int64)


def ifd(likelihoods: ngrams.Likelihoods) -> npt.NDArray[np.float64]:
    """Perplexity per token of responses given their instructions / alone, float64 [rows]."""
    exponent = (likelihoods.alone - likelihoods.given) / np.maximum(likelihoods.tokens, 1)
    return np.exp2(exponent)


def shuffle_words(texts: pa.StringArray) -> pa.StringArray:
    """Texts of the same words in another order, the same on every call."""
    words = pc.split_pattern(texts, " ")
    rng = np.random.default_rng(0)
    mixed: list[Any] = [" ".join(rng.permutation(row)) for row in words.to_pylist()]
    return pa.array(mixed, pa.string())


@functools.lru_cache(maxsize=4)
def _read(path: str, changed: int, size: int) -> tuple[ngrams.Ngrams, ...]:
    """The models, mapped once per process; again if the file has changed."""
    return ngrams.read(path)

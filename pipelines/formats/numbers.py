"""How is a number written that people put into a column? A rating, a score, a count of stars."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array

MISSING = ("", "nan", "null", "none", "n/a", "na")
"""Words for a value that is not there."""

YES, NO = ("true", "yes", "right", "good", "correct"), ("false", "no", "wrong", "bad", "incorrect")

PERCENT = 100.0

_OUT_OF = re.compile(r"(\S+?)\s*(?:/|out of|of)\s*(\d+(?:\.\d+)?)(?:\s*(?:stars?|points?))?")
"""A number with the end of its scale: `4/5`, `4 out of 5`, `7.5 / 10 points`."""

_PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_READ = "numbers, 4/5, 80 %, yes and no (good and bad, right and wrong) are read"


def number_of(text: str) -> tuple[float, float]:
    """The number that a text says, and the end of its scale: `4/5` is 4 and 5, `80 %` 80 and 100, `3` 3 and infinity.

    A word of MISSING is NaN. Yes is 1 and no is 0, also in other words, on a scale that ends at 1.

    Raises:
        ValueError: if it says none, or one above the end of its scale.
    """
    word = text.strip().lower()
    if word in MISSING:
        return math.nan, math.inf
    if word in YES or word in NO:
        return float(word in YES), 1.0
    said, end = word, math.inf
    if word.endswith("%"):
        said, end = word[:-1].strip(), PERCENT
    elif match := _OUT_OF.fullmatch(word):
        said, end = match[1], float(match[2])
    try:
        number = float(re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", said))  # a decimal comma
    except ValueError:
        raise ValueError(f"{text!r} is no number; {_READ}") from None
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is no number; it must be finite")
    if number > end:
        raise above_end(repr(text), end)
    return number, end


def above_end(shown: str, end: float) -> ValueError:
    """The error of a number above the end of the scale of its column."""
    return ValueError(f"{shown} is above the end of the scale, {end:g}" + (" (yes and no are 1 and 0)" * (end == 1)))


def first_unread(texts: Sequence[str | None]) -> int | None:
    """The index of the first text that says no number; None if all do."""
    for index, text in enumerate(texts):
        try:
            number_of(text or "")
        except ValueError:
            return index
    return None


def one_scale(ends: Iterable[float]) -> float:
    """The end of the scale of all numbers of a column, of which each may be written with it.

    Raises:
        ValueError: if they are of several scales, such as `4/5` and `8/10`, or `40 %` and `0.4`.
    """
    known = set(ends)
    written = sorted(known - {math.inf})
    if len(written) > 1 or (PERCENT in written and math.inf in known):
        shown = " and ".join("%" if end == PERCENT else f"{end:g}" for end in written[:2])
        others = "" if len(written) > 1 else " and without it"
        raise ValueError(f"numbers of several scales ({shown}{others}); write all of them on one")
    return written[0] if written else math.inf


def numbers_of(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """The values of a column of texts or numbers, float64 [rows]; NaN where there is none.

    Raises:
        ValueError: as `number_of` and `one_scale`.
    """
    if pa.types.is_floating(column.type):
        return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy())
    text = pc.utf8_trim_whitespace(as_array(column))
    plain = pc.fill_null(pc.match_substring_regex(text, _PLAIN), False)
    numbers = pc.if_else(plain, text, None).cast(pa.float64())
    if pc.all(plain).as_py():
        return np.asarray(numbers.to_numpy())
    words = pc.unique(pc.if_else(plain, None, text)).drop_null()
    read = [number_of(word) for word in words.to_pylist()]
    bare = [math.inf] if len(numbers.drop_null()) else []
    end = one_scale([*bare, *(end for number, end in read if not math.isnan(number))])
    highest = pc.max(numbers).as_py()
    if highest is not None and highest > end:
        raise above_end(f"{highest:g}", end)
    of_words = pa.array([number for number, _ in read], pa.float64()).take(pc.index_in(text, value_set=words))
    return np.asarray(pc.fill_null(pc.coalesce(numbers, of_words), np.nan).to_numpy())

"""Does a comparison of two runs pass? Conditions such as `gsm8k_train.kept<0.99`, for `winnow diff --fail-if`."""

from __future__ import annotations

import fnmatch
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from pipelines.errors import WinnowError, nearest

TOTAL = "total"
"""The name of all sources together."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}

_CONDITION = re.compile(r"\s*([A-Za-z0-9_.\-*?\[\]]+)\.([a-z_]+)\s*(<=|>=|==|!=|<|>)\s*(\S+?)\s*")


class Measure(NamedTuple):
    """A number of a source in both runs. ratio: whether a condition compares right / left, else right itself."""

    left: float
    right: float
    ratio: bool

    @property
    def value(self) -> float:
        """What a condition compares. Nothing over nothing is 1, anything over nothing is infinite."""
        if not self.ratio:
            return self.right
        return self.right / self.left if self.left else 1.0 if not self.right else math.inf


class Condition(NamedTuple):
    """`<source>.<measure> <operator> <number>`, with a source that may be a pattern, or `total`."""

    text: str
    source: str
    measure: str
    holds: Callable[[float, float], bool]
    limit: float


class Violation(BaseModel):
    """A condition that holds. value: what was measured, None if infinite; left, right: the numbers of both runs."""

    model_config = ConfigDict(frozen=True)

    condition: str
    source: str
    measure: str
    value: float | None
    left: float
    right: float

    def __str__(self) -> str:
        numbers = f"{self.left:,.0f} before, {self.right:,.0f} after"
        value = "infinite" if self.value is None else f"{self.value:.4g}"
        return f"{self.source}.{self.measure} is {value} ({numbers}): --fail-if {self.condition}"


def parse(text: str, measures: Sequence[str]) -> Condition:
    """A condition from its text.

    Raises: WinnowError: naming what is wrong with it.
    """
    match = _CONDITION.fullmatch(text)
    form = f"SOURCE.MEASURE<NUMBER, such as 'gsm8k_train.kept<0.99'; measures: {', '.join(measures)}"
    if match is None:
        raise WinnowError(f"--fail-if {text!r}: not of the form {form}")
    source, measure, sign, number = match.groups()
    if measure not in measures:
        raise WinnowError(f"--fail-if {text!r}: measure {measure!r}: {nearest(measure, measures)}")
    try:
        limit = float(number)
    except ValueError:
        raise WinnowError(f"--fail-if {text!r}: {number!r} is no number; the form is {form}") from None
    if not math.isfinite(limit):
        raise WinnowError(f"--fail-if {text!r}: {number!r} is no finite number")
    return Condition(text.strip(), source, measure, _OPERATORS[sign], limit)


def violations(condition: Condition, sources: Mapping[str, Mapping[str, Measure]]) -> list[Violation]:
    """Where a condition holds. sources: source (and `total`) -> measure -> its numbers.

    Raises: WinnowError: if no source has such a name.
    """
    names = [name for name in sources if name != TOTAL and fnmatch.fnmatchcase(name, condition.source)]
    if condition.source == TOTAL:
        names = [TOTAL]
    if not names:
        known = nearest(condition.source, sources)
        raise WinnowError(f"--fail-if {condition.text!r}: no source {condition.source!r} in either run; {known}")
    found = []
    for name in names:
        measure = sources[name][condition.measure]
        if condition.holds(measure.value, condition.limit):
            value = measure.value if math.isfinite(measure.value) else None
            found.append(
                Violation(
                    condition=condition.text,
                    source=name,
                    measure=condition.measure,
                    value=value,
                    left=measure.left,
                    right=measure.right,
                )
            )
    return found

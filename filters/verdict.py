"""From measured columns to verdicts: the first check that fails gives the reason."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters.stage import VERDICT


class Check(NamedTuple):
    """One rule of a filter: records where `failed` is true are dropped for `reason`.

    failed: bool [rows]; value: float or int [rows], what was measured; threshold: the limit, in the value's unit.
    """

    reason: str
    failed: npt.NDArray[np.bool_]
    value: npt.NDArray[np.generic]
    threshold: float


_collected: ContextVar[list[Check] | None] = ContextVar("collected", default=None)


@contextlib.contextmanager
def collect_checks() -> Iterator[list[Check]]:
    """The checks of the filters that judge within the block, as they are made: they have the values of all records,
    where a verdict has those of the records that fail."""
    found: list[Check] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def first_failure(checks: Sequence[Check]) -> pa.StructArray:
    """VERDICT [rows]: for each record the first of `checks` that fails, or null.

    The order of the checks is part of a filter's meaning. A record has one reason, so that the counts by reason add up
    to the number of dropped rows.
    """
    assert checks, "a filter makes at least one check"
    if (found := _collected.get()) is not None:
        found += checks
    rows = len(checks[0].failed)
    which = np.full(rows, -1, np.int32)  # the check that failed, by its place in `checks`
    values = np.zeros(rows, np.float64)
    for place, check in enumerate(checks):
        assert len(check.failed) == rows and len(check.value) == rows, check.reason
        new = check.failed & (which < 0)
        which[new] = place
        values[new] = check.value[new].astype(np.float64)
    kept = which < 0
    names = pa.array([check.reason for check in checks], pa.string())
    limits = np.array([check.threshold for check in checks], np.float64)
    picked = np.where(kept, 0, which)
    children = [names.take(pa.array(picked)), pa.array(values), pa.array(limits[picked])]
    return pa.StructArray.from_arrays(children, fields=list(VERDICT), mask=pa.array(kept))

"""From measured columns to verdicts: the first check that fails gives the reason."""

from __future__ import annotations

from collections.abc import Sequence
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


def first_failure(checks: Sequence[Check]) -> pa.StructArray:
    """VERDICT [rows]: for each record the first of `checks` that fails, or null.

    The order of the checks is part of a filter's meaning. A record has one reason, so that the counts by reason add up
    to the number of dropped rows.
    """
    assert checks, "a filter makes at least one check"
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

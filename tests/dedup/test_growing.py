"""Arrays that grow inside kernels."""

from __future__ import annotations

import numpy as np
import pytest

from dedup.growing import doubled


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 2), (2, 3, 4)])
def test_doubling_keeps_the_entries_and_doubles_the_room(shape: tuple[int, ...]) -> None:
    for dtype in (np.int64, np.float64, np.uint32):
        array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        larger = doubled(array)
        assert larger.shape == (2 * shape[0], *shape[1:])
        assert larger.dtype == dtype
        assert np.array_equal(larger[: shape[0]], array)

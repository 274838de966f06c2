"""Arrays that grow inside kernels, where the number of results is not known in advance."""

from __future__ import annotations

import numpy as np

from dedup.kernel import kernel


@kernel
def doubled(array):  # type: ignore[no-untyped-def]
    """A copy of `array` [n, ...] with room for 2n entries; the second half is uninitialized.

    The array must be C-contiguous, not empty, and of any number of dimensions.
    """
    larger = np.empty((2 * array.shape[0], *array.shape[1:]), array.dtype)
    # One flat loop serves every number of dimensions. Assigning a slice would add a second of compile time per caller.
    source, target = array.reshape(-1), larger.reshape(-1)
    for i in range(len(source)):
        target[i] = source[i]
    return larger

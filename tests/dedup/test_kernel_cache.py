"""Compiled kernels are those of the sources, also of those that they call."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import TypingError

from dedup.kernel import borrowing_kernel

ROOT = Path(__file__).parents[2]
CALLER = """
from dedup.callee import LIMIT, inner
from dedup.kernel import kernel

@kernel
def outer(x):
    return inner(x) + LIMIT
"""
CALLEE = "from dedup.kernel import kernel\nLIMIT = {limit}\n\n@kernel\ndef inner(x):\n    return x * {factor}\n"


@pytest.mark.fault(
    "a kernel of another module changes, or a constant in it", "the kernels that use it are compiled anew"
)
def test_a_kernel_is_compiled_anew_when_what_it_calls_changes(tmp_path: Path) -> None:
    (tmp_path / "dedup").mkdir()
    for name in ("__init__.py", "kernel.py"):
        shutil.copy(ROOT / "dedup" / name, tmp_path / "dedup")
    (tmp_path / "dedup" / "caller.py").write_text(CALLER)

    def answer(limit: int, factor: int) -> str:
        (tmp_path / "dedup" / "callee.py").write_text(CALLEE.format(limit=limit, factor=factor))
        script = (
            "from dedup.caller import outer; from dedup.kernel import share_compiled; print(outer(5), share_compiled())"
        )
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-P", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()[0]

    assert answer(1, 2) == "11"
    assert answer(1, 2) == "11"
    assert answer(1, 3) == "16", "the called kernel changed"
    assert answer(7, 3) == "22", "the constant changed"


def test_a_kernel_that_counts_no_references_makes_no_array_but_takes_slices() -> None:
    def make(size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.empty(size, np.int64)

    def add(values):  # type: ignore[no-untyped-def]
        return values[1:].sum()

    with pytest.raises(TypingError, match="empty"):
        borrowing_kernel(make)(3)
    assert borrowing_kernel(add)(np.arange(4)) == 6

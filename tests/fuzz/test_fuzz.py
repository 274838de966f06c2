"""Damaged inputs give rows, or an error of Winnow's own: a short run of `make fuzz`, always with the same inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import TARGETS

CASES = {"ledger": 25}
"""Cases of targets that take long for each."""


@pytest.mark.fault("random changes of an input", "rows or an error of Winnow's own, in bounded time and memory")
@pytest.mark.parametrize("target", TARGETS)
def test_a_changed_input_gives_a_result_or_an_error_of_our_own(tmp_path: Path, target: str) -> None:
    cases, failures = fuzz(target, 0, tmp_path, cases=CASES.get(target, 150))
    assert cases == CASES.get(target, 150)
    assert not failures, "\n".join(f"case {one.case}: {one.what}" for one in failures)


def test_what_a_target_breaks_on_is_found_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzzer itself: no case ends within a microsecond."""
    monkeypatch.setenv("WINNOW_FUZZ_CASE_SECONDS", "1e-6")
    _, failures = fuzz("recipe", 0, tmp_path, cases=2)
    assert failures and all(one.file.exists() for one in failures)

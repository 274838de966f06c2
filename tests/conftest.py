"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.object_store import ObjectStore, object_store

# Processes that tests start import helpers from `tests`, which is not installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("WINNOW_SHARED_DATA") or Path(__file__).parents[1] / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set WINNOW_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectStore]:
    """An S3 API on loopback. This process and those that it starts reach it: the environment has address and keys."""
    with object_store() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def s3(s3_server: ObjectStore) -> str:
    """The URL of a new bucket on the S3 API of the tests."""
    return s3_server.bucket()

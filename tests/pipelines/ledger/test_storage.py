"""Paths on object stores."""

from __future__ import annotations

import sys

import pytest

from pipelines.errors import InputError
from pipelines.ledger import storage


@pytest.mark.parametrize(
    ("path", "package", "message"),
    [
        ("s3://bucket/a.parquet", "s3fs", r"s3://bucket/a\.parquet: needs s3fs; pip install 'winnow\[s3\]'"),
        ("gs://bucket/a.parquet", "gcsfs", r"gs://bucket/a\.parquet: needs gcsfs; pip install 'winnow\[gcs\]'"),
        ("abfs://bucket/a.parquet", "adlfs", r"abfs://bucket/a\.parquet: Install adlfs"),
    ],
)
def test_the_error_for_a_missing_package_says_how_to_install_it(
    path: str, package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # so that importing it fails
    for read in (storage.exists, storage.expand):
        with pytest.raises(InputError, match=message):
            read(path)

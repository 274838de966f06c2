"""A store that cannot be used is told at once, in one line, with what to do. One that recovers is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.errors import InputError
from pipelines.ledger import object_stores, storage
from tests.object_store import ObjectStore


@pytest.fixture
def patch(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """For changes of the environment that clients made within the test see."""
    object_stores._client.cache_clear()
    yield monkeypatch
    object_stores._client.cache_clear()


def test_a_root_that_takes_files_is_writable_and_keeps_nothing_of_the_check(s3: str) -> None:
    storage.check_writable(f"{s3}/root")
    storage.check_reachable(f"{s3}/root")
    assert storage.sizes(f"{s3}/root") == {}


def test_a_missing_bucket_is_named(s3: str) -> None:
    for check in (storage.check_writable, storage.check_reachable):
        with pytest.raises(InputError, match=r"^s3://none/root: there is no bucket s3://none .*--root$"):
            check("s3://none/root")


def test_missing_credentials_are_told_with_the_names_of_the_variables(
    s3: str, patch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.delenv(name)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"/root: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        storage.check_writable(f"{s3}/root")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDenied", r"/root: these credentials may not write and remove there \(AccessDenied\); use others"),
        ("InvalidAccessKeyId", r"/root: the credentials are refused \(InvalidAccessKeyId\); check AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", r"/root: the credentials are refused \(SignatureDoesNotMatch\)"),
    ],
)
def test_a_refused_write_is_told_with_its_cause(s3: str, s3_server: ObjectStore, code: str, message: str) -> None:
    s3_server.fail(60, 403, code, method="PUT")
    try:
        storage.check_reachable(f"{s3}/root")
        with pytest.raises(InputError, match=message):
            storage.check_writable(f"{s3}/root")
    finally:
        s3_server.fail(0)


def test_a_store_that_does_not_answer_is_told_with_its_address(s3: str, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"the store \(AWS_ENDPOINT_URL=http://127.0.0.1:9\) cannot be reached"):
        storage.check_writable(f"{s3}/root")


def test_a_command_ends_with_code_2_and_one_line_before_any_compute(s3: str, tmp_path: Path) -> None:
    command = [Path(sys.executable).parent / "winnow", "build", "demo", "--root", "s3://none/root"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: s3://none/root: there is no bucket") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("status", [500, 503])
def test_a_store_that_fails_for_seconds_is_asked_again(s3: str, s3_server: ObjectStore, status: int) -> None:
    storage.write_bytes(f"{s3}/a", b"1")
    s3_server.fail(0.4, status)
    assert storage.read_bytes(f"{s3}/a") == b"1"
    s3_server.fail(0.4, status)
    storage.write_bytes(f"{s3}/a", b"2")
    assert storage.read_bytes(f"{s3}/a") == b"2"


def test_an_error_of_a_store_names_the_object(s3: str, s3_server: ObjectStore) -> None:
    storage.write_bytes(f"{s3}/a", b"1")
    s3_server.fail(60, 403, "AccessDenied", method="GET")
    try:
        with pytest.raises(PermissionError, match=f"{s3}/a: AccessDenied"):
            storage.read_bytes(f"{s3}/a")
    finally:
        s3_server.fail(0)


def test_a_large_object_appears_whole_or_not_at_all(s3: str, s3_server: ObjectStore) -> None:
    """Above 100 MB a file is sent in parts. Nothing is visible before the last, and a failure leaves no parts."""
    fs, name = storage.file_system(f"{s3}/large")
    data = bytes(11 << 20)
    s3_server.fail(60, 403, "AccessDenied", method="PUT")  # the upload is opened by POST; its parts are sent by PUT
    try:
        with pytest.raises(PermissionError):
            fs.pipe_file(name, data, chunksize=5 << 20)
    finally:
        s3_server.fail(0)
    assert storage.size(f"{s3}/large") == -1
    assert not fs.call_s3("list_multipart_uploads", Bucket=name.split("/")[0]).get("Uploads")
    fs.pipe_file(name, data, chunksize=5 << 20)
    assert storage.size(f"{s3}/large") == 11 << 20

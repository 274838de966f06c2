"""How is an object store reached, and what does an error of one mean? S3 by s3fs, Google's by gcsfs."""

from __future__ import annotations

import functools
import os
from typing import Any

import fsspec

from pipelines.errors import InputError

PACKAGES = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs")}
"""Scheme of an object store -> the package that reads it, and the extra of Winnow that installs the package."""

S3_CLIENT = {"connect_timeout": 5, "read_timeout": 60, "retries": {"mode": "standard", "max_attempts": 9}}
"""Settings of the S3 client (botocore.config.Config). Answers 429 and 5xx, and broken or refused connections, are tried
again after a random time that doubles up to 20 s: about a minute in all."""

S3_PROBE = {"connect_timeout": 3, "read_timeout": 10, "retries": {"mode": "standard", "max_attempts": 2}}
"""Settings with which a store is asked whether it answers at all."""

BODIES = 3
"""How often a body is read that breaks off, and a request sent that even the client's retries did not help."""


def scheme_of(path: str) -> str:
    """The scheme of a URL: `s3` of `s3://bucket/a`. A path without one is its own."""
    return path.partition("://")[0]


def is_s3(path: str) -> bool:
    """Whether a path is a URL that s3fs reads."""
    return PACKAGES.get(scheme_of(path), ("",))[0] == "s3fs"


def file_system(path: str) -> tuple[Any, str]:
    """The file system of a URL of an object store, and the path on it. Raises: ImportError: if its package is missing.

    Listings are not cached, since other processes write there. All threads of a process share one client.
    """
    fs = _client(scheme_of(path), os.getpid())
    return fs, fs._strip_protocol(path)


@functools.cache
def _client(scheme: str, process: int, probe: bool = False) -> Any:
    if not is_s3(f"{scheme}://"):
        return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)
    from botocore.exceptions import BotoCoreError
    from s3fs import S3FileSystem

    class S3(S3FileSystem):  # type: ignore[misc]
        """All errors are OSErrors that name the object."""

        async def _call_s3(self, method: str, *arguments: Any, **options: Any) -> Any:
            try:
                return await super()._call_s3(method, *arguments, **options)
            except (OSError, BotoCoreError) as error:
                place = "/".join(options[name] for name in ("Bucket", "Key") if name in options)
                raise _named(error, f"s3://{place}") from error

    settings = fsspec.config.conf.get(scheme, {}).get("config_kwargs", {})
    fs = S3(
        config_kwargs=(S3_PROBE if probe else S3_CLIENT | settings), use_listings_cache=False, skip_instance_cache=True
    )
    fs.retries = 1 if probe else BODIES
    return fs


def _named(error: BaseException, place: str) -> OSError:
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())
    for kind in (FileNotFoundError, FileExistsError, PermissionError):
        if isinstance(error, kind):
            return kind(f"{place}: {reason}")
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, f"{place}: {reason}")
    return OSError(f"{place}: {reason}")


def check_reachable(url: str) -> None:
    """Ask an object store for its bucket. Takes seconds at most, also where nothing answers.

    Raises: InputError: in one line, with the cause and what to do.
    """
    if not is_s3(url):
        return
    fs = _client(scheme_of(url), os.getpid(), probe=True)
    try:
        fs.info(fs._strip_protocol(url).partition("/")[0])
    except Exception as error:  # aiohttp and botocore have no common base class
        raise InputError(problem(url, error, "read")) from error


def check_writable(folder: str) -> None:
    """Write a small object below a folder and remove it. Raises: InputError: in one line, with what to do."""
    check_reachable(folder)
    fs = _client(scheme_of(folder), os.getpid(), probe=True)
    name = f"{fs._strip_protocol(folder)}/.winnow"
    try:
        fs.pipe_file(name, b"winnow")
        fs.rm_file(name)
    except Exception as error:
        raise InputError(problem(folder, error, "write and remove")) from error


def problem(url: str, error: BaseException, wanted: str) -> str:
    """What is wrong with a store, and the mend. wanted: what was tried, for `may not ...`."""
    bucket = "/".join(url.split("/")[:3])
    reason = " ".join(str(error).split())
    if reason.startswith(bucket):  # the message says already which place it is about
        reason = reason.partition(": ")[2]
    text = f"{type(error).__name__} {type(error.__cause__).__name__} {reason}"
    if "NoCredentials" in text:
        return f"{url}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if any(code in text for code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "access key ID", "signature")):
        return f"{url}: the credentials are refused ({reason}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, PermissionError):
        return (
            f"{url}: these credentials may not {wanted} there ({reason}); "
            "use others, or have them allowed by the bucket's policy"
        )
    if isinstance(error, FileNotFoundError):
        return f"{url}: there is no bucket {bucket} ({reason}); create it, or name another place with --root"
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    address = f"the store (AWS_ENDPOINT_URL={endpoint})" if is_s3(url) and endpoint else "the store"
    return f"{url}: {address} cannot be reached ({reason}); check its address and the network"

"""How do credentials in addresses stay out of everything that is stored or shown?

A recipe never holds them. When settings are read, an address with user information or a query is replaced by a public
one, `https://***@host/a.jsonl`, and this process remembers the whole one. Runs, manifests, row ids, reports, exports,
events and messages therefore have the public address, whoever makes them; a file's identity is that of its bytes. Only
`storage.file_system` and the client of endpoints ask for the whole address, with `whole`. Tasks carry what is known to
their workers.

A query may also say which file is meant (`?id=7`). Public addresses of two such files differ: a short hash of the
parameters that are neither credentials nor signatures follows the stars. An address that is signed anew has the same
public address, hence the same rows and step keys.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import unquote

from pipelines.errors import InputError

P = ParamSpec("P")
Result = TypeVar("Result")

STARS = "***"

_URL = re.compile(r"""(?<![\w+.-])([a-zA-Z][a-zA-Z0-9+.-]*)://[^\s"<>\\`]+""")
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_QUERIED = frozenset(("http", "https", "ftp", "ftps", "sftp", "ssh", "webdav", "webdavs", "dav", "davs"))
"""Schemes whose addresses may have a query. In others `?` belongs to a pattern."""

_SIGNING = re.compile(
    r"(?i)^(x-(amz|goog|oss|obs|cos|tos|ms)-.*|awsaccesskeyid|googleaccessid|ossaccesskeyid|expires?|policy|key-pair-id|"
    r"s[a-z]{1,4}|.*(sign|token|secret|passw|auth|credential|api-?_?key|access-?_?key|hmac|session|ticket).*|key|code|"
    r"hash|md5|nonce|timestamp|ts|t)$"
)
"""Parameters of a query that sign it, or are credentials: of S3, Google, Azure (`sig`, `se`, `sp` ...) and others."""

_NAMED = re.compile(
    r"""(?ix)(?<![a-z0-9])
    ((?:[a-z0-9]+[_-])*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]id)?|secret[_-]?key|auth|
        authorization|credentials?|signature|sas)["']?\s*[=:]\s*)
    (?:(["'])(?!\*{3})[^"'\n]+\2 | (?:(?:bearer|basic|token)\s+)?[^\s"',;{}()\[\]*][^\s"',;{}()\[\]]{5,})"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}")
_SECRET_KEY = re.compile(
    r"(?i)^(.*[_-])?(password|passwd|secret|api[_-]?key|access[_-]?key([_-]id)?|secret[_-]?key|authorization|"
    r"credentials?|(access|auth|bearer|session|refresh|api|hf)[_-]token)$"
)
_MAYBE_SECRET_KEY = re.compile(r"(?i)^(.*[_-])?(token|key|sas|signature)$")
_LIKE_A_SECRET = re.compile(r"^(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_+/=.~-]{16,}$")
"""Values of keys such as `token` that no word of a text has."""

_known: dict[str, str] = {}
"""Public address -> the whole one, of those that this process has read in settings."""


def masked(text: str) -> str:
    """A text, such as a message, without user information and queries of addresses and values of secret keys."""
    text = _public_all(text)
    if "=" in text or ":" in text:
        text = _NAMED.sub(lambda match: f"{match[1]}{STARS}", text)
    return _BEARER.sub(lambda match: f"{match[1]} {STARS}", text)


def public(address: str) -> str:
    """An address without user information and query. Others, and paths, are returned as they are."""
    scheme, separator, rest = address.partition("://")
    query = ""
    if scheme.lower() in _QUERIED:
        place, mark, found = rest.partition("#")[0].partition("?")
        # `?` without a parameter is a pattern: `part-?.csv`.
        if mark and ("=" in found or (len(found) >= 16 and "." not in found)):
            rest, query = place, found
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if not separator or not (query or at) or (not query and user.startswith(STARS)):
        return address
    return f"{scheme}://{STARS}{_digest(query)}@{host}{slash}{path}"


def _digest(query: str) -> str:
    """A hash of what a query says besides credentials; empty if it says nothing else."""
    said = sorted(part for part in query.split("&") if part and not _SIGNING.match(unquote(part.partition("=")[0])))
    said = [part for part in said if "=" in part]
    return hashlib.blake2b("&".join(said).encode(), digest_size=4).hexdigest() if said else ""


def _public_in_text(address: str) -> str:
    end = len(address.rstrip(".,;:)]}"))
    return "::".join(map(public, address[:end].split("::"))) + address[end:]


def hidden(value: Any) -> Any:
    """Settings with public addresses, as `masked` shows them; this process remembers the whole ones. Also of one text:
    an address, or `key=address`.

    Raises: InputError: for user information in an address of a store that does not read it.
    """
    if isinstance(value, str):
        if _ADDRESS.fullmatch(value):  # also one with quotes, which end an address within a text
            return "::".join(_hide(part) if "://" in part else part for part in value.split("::"))
        return _URL.sub(lambda match: _hide(match[0]), value) if "://" in value else value
    if isinstance(value, Mapping):
        return {key: hidden(part) for key, part in value.items()}
    return type(value)(map(hidden, value)) if isinstance(value, list | tuple) else value


def _hide(address: str) -> str:
    shown = public(address)
    if shown != address:
        scheme = address.partition("://")[0].lower()
        if scheme not in _QUERIED:
            raise InputError(
                f"{shown}: credentials in an address of {scheme}:// are not read; leave them out, and give them in the "
                "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN) "
                "or in fsspec's configuration"
            )
        _known[shown] = address
        user, at, _ = address.partition("://")[2].partition("/")[0].rpartition("@")
        if at:  # for other files of this host, which a recipe there names by relative paths
            host = "/".join(shown.split("/")[:3])
            _known.setdefault(host, f"{scheme}://{user}@{host.rpartition('@')[2]}")
    return shown


def is_public(address: str) -> bool:
    """Whether something was left out of an address."""
    return f"://{STARS}" in address


def whole(address: str) -> str:
    """The address with its credentials. Others, and paths, are returned as they are.

    Raises: InputError: if they were left out where it was stored, saying how to give them.
    """
    if not is_public(address):
        return address
    if address in _known:
        return _known[address]
    prefix = next((shown for shown in _known if address.startswith(f"{shown.rstrip('/')}/")), None)
    if prefix is not None:
        return _known[prefix].rstrip("/") + address[len(prefix.rstrip("/")) :]
    raise InputError(
        f"{address}: its user, password or query is missing: they are never stored; give the whole address again, with "
        f"`--set sources.<name>.path=URL` or in the recipe, or leave out {STARS}@ and give the credentials in fsspec's "
        "configuration (FSSPEC_HTTPS and the like)"
    )


def known() -> dict[str, str]:
    """What this process remembers: public address -> the whole one."""
    return dict(_known)


def carried(work: Callable[P, Result]) -> Callable[P, Result]:
    """The same work for another process, which then knows what this one knows. Without credentials, the work itself."""
    return cast(Callable[P, Result], _Carried(work, known())) if _known else work


class _Carried:
    def __init__(self, work: Callable[..., Any], addresses: dict[str, str]) -> None:
        self.work, self.addresses = work, addresses

    def __call__(self, *arguments: Any) -> Any:
        _known.update(self.addresses)
        return self.work(*arguments)


def without_secrets(settings: Any) -> Any:
    """Settings for a record, a key or a page: addresses are public, and values of secret keys are stars."""
    if isinstance(settings, Mapping):
        return {
            key: _star(str(key), value) if isinstance(value, str) else without_secrets(value)
            for key, value in settings.items()
        }
    if isinstance(settings, list | tuple):
        return [without_secrets(value) for value in settings]
    return _public_all(settings) if isinstance(settings, str) else settings


def _star(key: str, value: str) -> str:
    if value and _SECRET_KEY.match(key):
        return STARS
    if _MAYBE_SECRET_KEY.match(key) and _LIKE_A_SECRET.match(value):
        # It may be a value that decides bytes after all: another one is another step.
        return STARS + hashlib.blake2b(value.encode(), digest_size=4).hexdigest()
    return _public_all(value)


def _public_all(text: str) -> str:
    return _URL.sub(lambda match: _public_in_text(match[0]), text) if "://" in text else text

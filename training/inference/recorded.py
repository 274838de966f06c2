"""A model behind an endpoint whose completions are recorded: each distinct request is sent once, ever.

    ROOT/completions/<model>-<digest>/*.jsonl    a line per request: what was asked, for whom, and the completions

A record is found by the model's name and everything that is sent: prompt, number of samples, temperature, limits and
seed. The URL is no part of it, so a server may move. What is computed from completions is therefore the same in a
second run, which asks nothing, and in one that carries on after it was killed.

Records are written as they come, several to a file. A file is complete or absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipelines.errors import RESUME, CheckFailed, WinnowError
from pipelines.ledger import storage
from training.inference.endpoint import Endpoint, api_of
from training.inference.language_model import Completion, LogLikelihood, Request

COMPLETIONS = "completions"
"""The folder of records below a root."""

FLUSH_SECONDS, FLUSH_RECORDS = 1.0, 256
"""Records are written after this time, or when there are so many. A killed run loses those of the last second."""

ATTEMPTS = 4
"""At a request. What was answered before stays recorded, so giving up costs nothing."""

MAX_FILES = 64
"""With more files, they are joined before a store is used."""


class Budget(NamedTuple):
    """What may be spent: requests that are answered, and tokens of prompts and completions. None is no limit.

    It covers all requests of one purpose (`owner`), those of earlier runs included. Requests under way when the tokens
    are spent are still finished.
    """

    requests: int | None = None
    tokens: int | None = None


UNLIMITED = Budget()


class Spent(NamedTuple):
    """What was spent."""

    requests: int = 0
    tokens: int = 0

    def plus(self, completions: Sequence[Completion]) -> Spent:
        """With one more request."""
        prompt = completions[0].prompt_tokens if completions else None
        return Spent(self.requests + 1, self.tokens + (prompt or 0) + sum(one.tokens for one in completions))


class BudgetSpent(CheckFailed):
    """The budget is spent before everything was asked."""


LOAD_ATTEMPTS = 5
"""How often the files are listed again because others were removed meanwhile."""


class CompletionStore:
    """The recorded completions of one model, by key.

    Only keys and places are held in memory, about 200 bytes for each record.
    """

    def __init__(self, root: str, model: str) -> None:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", model).strip("-.")[:40]
        digest = hashlib.blake2b(model.encode(), digest_size=4).hexdigest()
        self.folder = storage.join(root, COMPLETIONS, f"{name}-{digest}")
        self._places: dict[bytes, tuple[str, int, int]] = {}
        self._spent: dict[str, Spent] = {}
        self._waiting: dict[bytes, tuple[str, list[Completion]]] = {}
        self._written = time.monotonic()
        self._load()

    def __contains__(self, key: bytes) -> bool:
        return key in self._places or key in self._waiting

    def read(self, key: bytes) -> list[Completion]:
        """The completions of a key that the store has."""
        if key in self._waiting:
            return self._waiting[key][1]
        try:
            line = storage.read_range(*self._places[key])
        except FileNotFoundError:  # another run joined the files
            self._load()
            line = storage.read_range(*self._places[key])
        return _completions(json.loads(line))

    def add(self, key: bytes, owner: str, asked: Mapping[str, Any], completions: list[Completion]) -> None:
        """Record completions. owner: whose budget they count for. asked: what was sent."""
        line = {
            "key": key.hex(),
            "owner": owner,
            "asked": asked,
            "completions": [one._asdict() for one in completions],
        }
        self._waiting[key] = (json.dumps(line, ensure_ascii=False), completions)
        self._spent[owner] = self.spent(owner).plus(completions)
        if len(self._waiting) >= FLUSH_RECORDS or time.monotonic() - self._written > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._waiting:
            self._write([(key, line.encode()) for key, (line, _) in self._waiting.items()])
            self._waiting.clear()
        self._written = time.monotonic()

    def spent(self, owner: str) -> Spent:
        """What was spent for an owner."""
        return self._spent.get(owner, Spent())

    def _write(self, lines: Sequence[tuple[bytes, bytes]]) -> str:
        data = b"".join(line + b"\n" for _, line in lines)
        path = storage.join(self.folder, f"{hashlib.blake2b(data, digest_size=12).hexdigest()}.jsonl")
        storage.write_bytes(path, data)
        start = 0
        for key, line in lines:
            self._places[key] = (path, start, start + len(line))
            start += len(line) + 1
        return path

    def _load(self) -> None:
        for _ in range(LOAD_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):  # another run joined the files that were listed
                return self._load_listed()
        return self._load_listed()

    def _load_listed(self) -> None:
        self._places.clear()
        self._spent.clear()
        names = storage.files(self.folder) if storage.is_folder(self.folder) else []
        paths = [storage.join(self.folder, name) for name in names if name.endswith(".jsonl")]
        joined: list[tuple[bytes, bytes]] = []
        for path in paths:
            start = 0
            for line in storage.read_bytes(path).split(b"\n")[:-1]:
                try:
                    value = json.loads(line)
                    key, completions, owner = bytes.fromhex(value["key"]), _completions(value), value["owner"]
                except (ValueError, KeyError, TypeError) as error:
                    message = f"{path}: damaged ({error!r}); remove it, and its requests are sent again"
                    raise CheckFailed(message) from None
                if key not in self._places:
                    self._places[key] = (path, start, start + len(line))
                    self._spent[owner] = self.spent(owner).plus(completions)
                    if len(paths) > MAX_FILES:
                        joined.append((key, line))
                start += len(line) + 1
        if joined:
            kept = self._write(joined)
            for path in paths:
                if path != kept:
                    storage.remove(path)


def _completions(line: Mapping[str, Any]) -> list[Completion]:
    return [Completion(**one) for one in line["completions"]]


class RecordedEndpoint:
    """`LanguageModel` over an endpoint and a store.

    asked: requests that were sent by this object.
    """

    conditioned = False

    def __init__(
        self,
        url: str,
        model: str,
        store: CompletionStore,
        owner: str,
        budget: Budget = UNLIMITED,
        budget_key: str = "the budget",
        concurrency: int = 8,
        timeout: float = 120.0,
        systems: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            url: as in `open_model`. It is connected to when there is something to ask.
            model: its name on the server.
            owner: for whose purpose requests are sent; the budget is theirs.
            budget_key: where the budget is given, for the message when it is spent.
            concurrency: most requests at a time.
            timeout: of one attempt, in seconds.
            systems: condition -> system message.
        """
        self._url, self._api = api_of(url)
        self._model, self._concurrency, self._timeout = model, concurrency, timeout
        self._store, self._owner, self._budget, self._budget_key = store, owner, budget, budget_key
        self._systems = dict(systems or {})
        self._endpoint: Endpoint | None = None
        self.asked = 0

    @property
    def name(self) -> str:
        return self._model

    @property
    def identity(self) -> str:
        return f"{self._model} {self._api}"

    @property
    def spent(self) -> Spent:
        """What was spent for the owner, in this run and earlier ones."""
        return self._store.spent(self._owner)

    def generate(
        self,
        requests: Sequence[Request],
        n: int = 1,
        *,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        context: int | None = None,
        stop: Sequence[str] = (),
        seed: int = 0,
        on_done: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        """As in `LanguageModel`; what is recorded is not asked.

        Raises: BudgetSpent: if there is more to ask than the budget allows. What was answered is recorded.
        """
        settings = {
            "model": self._model,
            "api": self._api,
            "n": n,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "stop": list(stop),
            "seed": seed if temperature else 0,  # without meaning for a greedy completion
        }
        asked = [{**settings, **self._messages(request)} for request in requests]
        keys = [_key(one) for one in asked]
        missing = {key: at for at, key in reversed(list(enumerate(keys))) if key not in self._store}
        waiting = sorted(missing.values())
        done = len(requests) - len(waiting)
        if on_done and done:
            on_done(done * n)
        if not waiting:
            return [self._store.read(key) for key in keys]
        under_way = answered = 0

        def drawn() -> Iterator[Request]:
            nonlocal under_way
            for at in waiting:
                if self._is_spent(under_way):
                    return
                under_way += 1
                yield requests[at]

        if not self._is_spent(0):
            try:
                stream = self._connected().stream(
                    drawn(), n, temperature=temperature, max_tokens=max_tokens, stop=stop, seed=seed
                )
                for number, completions in stream:
                    at = waiting[number]
                    self._store.add(keys[at], self._owner, asked[at], completions)
                    under_way -= 1
                    answered += 1
                    self.asked += 1
                    if on_done:
                        on_done((done + answered) * n)
            except WinnowError as error:
                raise type(error)(f"{error}; what was answered is recorded, and {RESUME}") from error
            finally:
                self._store.flush()
        if answered < len(waiting):
            raise BudgetSpent(self._message(len(waiting) - answered))
        return [self._store.read(key) for key in keys]

    def log_likelihoods(self, pairs: Sequence[tuple[Request, str]]) -> list[LogLikelihood | None]:
        """Raises: WinnowError: as an endpoint."""
        return self._connected().log_likelihoods(pairs)

    def count_tokens(self, text: str) -> int:
        """Raises: WinnowError: as an endpoint."""
        return self._connected().count_tokens(text)

    def _messages(self, request: Request) -> dict[str, str]:
        system = self._systems.get(request.condition)
        return {"prompt": request.instruction} | ({"system": system} if system else {})

    def _connected(self) -> Endpoint:
        if self._endpoint is None:
            self._endpoint = Endpoint(
                self._url,
                self._model,
                self._api,
                self._concurrency,
                attempts=ATTEMPTS,
                timeout=self._timeout,
                systems=self._systems,
            )
        return self._endpoint

    def _is_spent(self, under_way: int) -> bool:
        requests, tokens = self._budget
        spent = self.spent
        if tokens is not None and spent.tokens >= tokens:
            return True
        return requests is not None and spent.requests + under_way >= requests

    def _message(self, left: int) -> str:
        requests, tokens = self.spent
        limits = [f"{limit:,} {name}" for name, limit in self._budget._asdict().items() if limit is not None]
        return (
            f"{self._model}: the budget of {' and '.join(limits)} is spent: {requests:,} requests were answered, with "
            f"{tokens:,} tokens, and at least {left:,} more are needed. What was answered is recorded: raise "
            f"{self._budget_key}, and {RESUME}"
        )


def _key(asked: Mapping[str, Any]) -> bytes:
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()

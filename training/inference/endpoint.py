"""A model behind an OpenAI-compatible HTTP endpoint, such as `http://localhost:8000/v1`.

A request is one POST to `/chat/completions`, or to `/completions`, for all its samples. Requests run in parallel. Those
that fail for a reason that may pass (429, 5xx, timeouts) are repeated with growing pauses.

Conditions have no meaning here and are dropped. `systems` gives a condition a system message.

Servers differ. One that refuses `logprobs`, `seed` or several samples is asked again without them, and one that wants
`max_completion_tokens` gets that name. Log-probabilities are those of the server, which may leave out the end token.
Tokens are counted as in the server's `usage`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pipelines.errors import Unreachable, WinnowError, nearest
from training.inference.language_model import Completion, LogLikelihood, Request

if TYPE_CHECKING:
    import httpx

KEY_VARIABLE = "WINNOW_API_KEY"
"""The environment variable with the API key. It has a name of its own, so that a key for one provider is never sent to
another."""

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Status codes of failures that may pass."""

TOO_LONG = re.compile(r"(?i)context.length|maximum context|context window|too (?:long|many tokens)|no room")

OPTIONAL = {"logprobs": r"(?i)log.?probs?", "seed": r"(?i)\bseed\b"}
"""Keys that a server may refuse -> a pattern of such a message."""

Api = Literal["chat", "completions"]


def api_of(url: str) -> tuple[str, Api]:
    """The address of an endpoint up to its version, and its interface: a URL that ends with `/completions` has plain
    completions, without a chat template."""
    base = url.rstrip("/")
    if base.endswith("/chat/completions"):
        return base.removesuffix("/chat/completions"), "chat"
    if base.endswith("/completions"):
        return base.removesuffix("/completions"), "completions"
    return base, "chat"


class Endpoint:
    """`LanguageModel` over HTTP."""

    conditioned = False

    def __init__(
        self,
        url: str,
        model: str | None = None,
        api: Api = "chat",
        concurrency: int = 8,
        attempts: int = 6,
        timeout: float = 600.0,
        pause: float = 0.5,
        systems: Mapping[str, str] | None = None,
        key_variable: str = KEY_VARIABLE,
    ) -> None:
        """
        Args:
            url: up to and including the version, such as `http://localhost:8000/v1`.
            model: its name on the server; None if the server has only one.
            concurrency: most requests at a time.
            attempts: at a request, the first included.
            timeout: of an attempt, in seconds.
            pause: before the second attempt, in seconds; doubled for each further one.
            systems: condition -> system message.
            key_variable: environment variable with the API key, if the server wants one.

        Raises:
            Unreachable: if there is no server.
            WinnowError: if the URL has no form of one, or the server has no such model.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WinnowError(f"{url}: expected a URL such as http://localhost:8000/v1")
        if parts.username or parts.password:
            raise WinnowError(
                f"{parts.hostname}: set the key in the environment variable {key_variable}, not in the URL"
            )
        self.url = url.rstrip("/")
        self._api: Api = api
        self._concurrency, self._attempts, self._pause = concurrency, attempts, pause
        self._systems = dict(systems or {})
        self._key_variable = key_variable
        self._key = os.environ.get(key_variable, "")
        self._timeout = timeout
        self._lock = threading.Lock()
        self._refused_keys: set[str] = set()
        self._one_sample = False
        self._limit_key = "max_tokens"
        with self._connect() as client:
            self.model = self._find_model(client, model)

    @property
    def name(self) -> str:
        return f"{self.url} {self.model}"

    @property
    def identity(self) -> str:
        systems = "".join(f" {condition}={text!r}" for condition, text in sorted(self._systems.items()))
        return f"{self.url} {self.model} {self._api}{systems}"

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
        """As in `LanguageModel`. The server enforces its own context; `context` is not used. The server is asked with a
        seed of each request; whether it keeps to that is the server's business."""
        results: list[list[Completion]] = [[] for _ in requests]
        stream = self.stream(requests, n, temperature=temperature, max_tokens=max_tokens, stop=stop, seed=seed)
        for done, (at, completions) in enumerate(stream, 1):
            results[at] = completions
            if on_done:
                on_done(done * n)
        return results

    def stream(
        self,
        requests: Iterable[Request],
        n: int = 1,
        *,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> Iterator[tuple[int, list[Completion]]]:
        """As `generate`: the number of a request with its completions, as they come. A request is drawn from
        `requests` when it can be sent at once. If one fails, those that are under way are finished first."""

        def ask(request: Request) -> list[Completion]:
            completions: list[Completion] = []
            while len(completions) < n:  # a server may return fewer than were asked for
                count = 1 if temperature == 0 or self._one_sample else n - len(completions)
                key = f"{seed}\0{request.condition}\0{request.instruction}\0{len(completions)}"
                body: dict[str, Any] = {
                    "model": self.model,
                    "temperature": temperature,
                    "n": count,
                    "seed": int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") >> 1,
                }
                if stop:
                    body["stop"] = list(stop)
                got = self._complete(client, request, body, max_tokens)
                # A greedy completion is the same each time. It is asked for once, and the others cost nothing.
                completions += [got[0]] + [got[0]._replace(tokens=0)] * (n - 1) if temperature == 0 else got[:count]
            return completions

        numbered, failure = enumerate(requests), None
        with self._connect() as client, ThreadPoolExecutor(self._concurrency) as pool:
            waiting: dict[Future[list[Completion]], int] = {}
            while True:
                if failure is None:
                    for at, request in itertools.islice(numbered, self._concurrency - len(waiting)):
                        waiting[pool.submit(ask, request)] = at
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    at, error = waiting.pop(future), future.exception()
                    if error is None:
                        yield at, future.result()
                    else:
                        failure = failure or error
        if failure is not None:
            raise failure

    def log_likelihoods(self, pairs: Sequence[tuple[Request, str]]) -> list[LogLikelihood | None]:
        """Raises: WinnowError: always; the interface has no likelihood of a given text."""
        raise WinnowError(f"{self.url}: an endpoint gives no likelihood of a given text; use --method generate")

    def count_tokens(self, text: str) -> int:
        """Raises: WinnowError: always; the tokenizer is not known."""
        raise WinnowError(f"{self.url}: an endpoint does not show its tokenizer")

    # ------------------------------------------------------------------------------------------------------- requests

    def _connect(self) -> httpx.Client:
        """A pool of connections, which the caller closes."""
        import httpx

        return httpx.Client(
            timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, 10.0)),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            limits=httpx.Limits(max_connections=self._concurrency),
        )

    def _complete(
        self, client: httpx.Client, request: Request, body: dict[str, Any], max_tokens: int | None
    ) -> list[Completion]:
        """The completions of one request."""
        if self._api == "chat":
            system = self._systems.get(request.condition)
            messages = [{"role": "system", "content": system}] if system else []
            body["messages"] = [*messages, {"role": "user", "content": request.instruction}]
        else:
            body["prompt"] = request.instruction
        path = "chat/completions" if self._api == "chat" else "completions"
        while True:
            with self._lock:
                limit_key, refused_keys = self._limit_key, set(self._refused_keys)
                if self._one_sample:
                    body["n"] = 1
            sent = dict(body)
            if max_tokens is not None:
                sent[limit_key] = max_tokens
            sent["logprobs"] = True if self._api == "chat" else 1
            for key in refused_keys:
                del sent[key]
            status, value, message = self._send(client, "POST", path, sent)
            if status == 200:
                return self._read(value)
            if status in (400, 413, 422) and TOO_LONG.search(message):
                return [Completion("", 0, None, "none")] * body["n"]
            if status not in (400, 403, 422, 501) or not self._adapt(sent, message):
                raise self._refused(path, status, message)

    def _adapt(self, sent: Mapping[str, Any], message: str) -> bool:
        """Change what is sent from now on as a refusal asks; false if it asks for nothing that can be changed."""
        with self._lock:
            if "max_tokens" in sent and "max_completion_tokens" in message:
                self._limit_key = "max_completion_tokens"
                return True
            for key, pattern in OPTIONAL.items():
                if key in sent and re.search(pattern, message):
                    self._refused_keys.add(key)
                    return True
            if sent["n"] > 1 and re.search(r"\bn\b", message):
                self._one_sample = True
                return True
            return False

    def _read(self, value: Any) -> list[Completion]:
        try:
            choices = value["choices"]
            if not choices:
                raise KeyError("choices")
            texts = [(c["message"]["content"] if self._api == "chat" else c["text"]) or "" for c in choices]
            log_probs = [self._log_probs(choice.get("logprobs")) for choice in choices]
            usage = value.get("usage") or {}
            total = usage.get("completion_tokens")
            counts = [None if given is None else len(given) for given in log_probs]
            if len(choices) == 1 and total is not None:
                tokens = [int(total)]
            elif all(count is not None for count in counts):
                tokens = [count or 0 for count in counts]
            elif total is not None:
                tokens = _shares(int(total), [len(text) for text in texts])
            else:
                raise WinnowError(f"{self.url}: the server reports no `usage`, so tokens cannot be counted")
            return [
                Completion(
                    text,
                    count,
                    None if given is None else sum(given),
                    "length" if choice.get("finish_reason") == "length" else "stop",
                    usage.get("prompt_tokens"),
                )
                for text, count, given, choice in zip(texts, tokens, log_probs, choices, strict=True)
            ]
        except (KeyError, TypeError, IndexError, AttributeError):
            raise WinnowError(f"{self.url}: the server's answer is not that of an OpenAI-compatible endpoint") from None

    def _log_probs(self, value: Any) -> list[float] | None:
        if not value:
            return None
        if self._api == "chat":
            content = value.get("content")
            return None if content is None else [token["logprob"] for token in content]
        tokens = value.get("token_logprobs")
        return None if tokens is None else [log_prob for log_prob in tokens if log_prob is not None]

    def _send(self, client: httpx.Client, method: str, path: str, body: Any = None) -> tuple[int, Any, str]:
        """(status, JSON value, the server's message), after as many attempts as it takes."""
        import httpx

        reason, wait = "", 0.0
        for attempt in range(self._attempts):
            time.sleep(wait)
            wait = self._pause * 2**attempt
            try:
                response = client.request(method, f"{self.url}/{path}", json=body)
            except (httpx.TimeoutException, httpx.TransportError) as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            try:
                value = response.json()
            except ValueError:
                value = None
            message = self._message(value, response.text)
            if response.status_code not in PASSING:
                return response.status_code, value, message
            reason = f"status {response.status_code}: {message}"
            after = response.headers.get("retry-after", "")
            wait = max(wait, min(float(after), 60.0)) if re.fullmatch(r"\d+(\.\d+)?", after) else wait
        raise Unreachable(f"{self.url}/{path}: no answer after {self._attempts} attempts ({reason})")

    def _message(self, value: Any, text: str) -> str:
        error = value.get("error", value.get("detail", text)) if isinstance(value, dict) else text
        message = error.get("message") if isinstance(error, dict) else error
        shown = " ".join(str(message).split())[:500]
        return shown.replace(self._key, "***") if self._key else shown

    def _refused(self, path: str, status: int, message: str) -> WinnowError:
        hint = ""
        if status in (401, 403):
            state = "is refused" if self._key else "is not set"
            hint = f"; the API key is read from the environment variable {self._key_variable}, which {state}"
        elif status == 404:
            hint = f"; is the URL complete up to its version (http://localhost:8000/v1), and the model {self.model!r}?"
        return WinnowError(f"{self.url}/{path}: the server answers {status}: {message}{hint}")

    def _find_model(self, client: httpx.Client, name: str | None) -> str:
        status, value, message = self._send(client, "GET", "models")
        if status in (401, 403):
            raise self._refused("models", status, message)
        listed = value.get("data") if status == 200 and isinstance(value, dict) else None
        names = [str(model["id"]) for model in listed or () if isinstance(model, dict) and "id" in model]
        if name is None:
            if len(names) == 1:
                return names[0]
            known = f"it has {', '.join(sorted(names)[:60])}" if names else "it does not list its models"
            raise WinnowError(f"{self.url}: name the model with --model; {known}")
        if names and name not in names:
            raise WinnowError(f"{self.url}: the server has no model {name!r}; {nearest(name, names)}")
        return name


def _shares(total: int, sizes: Sequence[int]) -> list[int]:
    """A total divided in proportion to sizes, as whole numbers that add up to it."""
    whole = sum(sizes) or 1
    ends, so_far = [0], 0
    for size in sizes:
        so_far += size
        ends.append(round(total * so_far / whole))
    ends[-1] = total
    return [end - start for start, end in itertools.pairwise(ends)]

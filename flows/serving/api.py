"""What does the server answer? /v1/completions, /v1/chat/completions, /v1/models and /health of the OpenAI API.

Texts equal those of `winnow generate`. Differences from OpenAI's service: the default temperature is 0, the default of
`max_tokens` is that of `winnow generate`, and an answer ends with finish_reason `length` where the context is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
import sys
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from flows.serving.engine import Engine, QueueFullError
from flows.serving.requests import ApiError, ChatRequest, CompletionRequest, GenerationRequest, read_request
from pipelines.errors import WinnowError
from pipelines.steps.encoding import byte_characters
from training.inference.checkpoint_model import stream as random_stream
from training.inference.prompt import token_ids
from training.inference.scheduler import Generation, Sampling
from training.inference.text_stream import TextStream

MAX_BODY_BYTES = 1 << 20
"""A longer request is refused with status 413."""

READ_BODY_BYTES = 16 << 20
"""Of a longer body no more is read, and its client may see a closed connection instead of the answer."""

BODY_SECONDS = 30.0
"""A request must have arrived after this time."""

MAX_LOGGED = 300
"""Characters of a message in the log."""

DEFAULT_MAX_TOKENS = 256
"""Of an answer, as in `winnow generate`."""


class Served(NamedTuple):
    """What is served. max_tokens: the most that a request may ask for, None for any. condition: of requests
    that name none. key: that clients must send, None for none.
    """

    name: str
    engine: Engine
    fingerprint: str
    started: int  # Unix time, seconds
    max_tokens: int | None
    condition: str
    key: str | None


class Choice:
    """One answer of a request, as far as it is generated."""

    def __init__(self, index: int, generation: Generation, text: TextStream) -> None:
        self.index, self.generation, self.text = index, generation, text
        self.finish: str | None = None
        self.tokens = 0  # generated
        self.logged: list[int] = []  # positions of the tokens whose log-probabilities were returned, in the last piece
        self._next, self._bytes = 0, 0  # the next token to return, and the bytes of those before it

    def advance(self, tokens: int, finish: str | None, size: Callable[[int], int]) -> str:
        """The next piece of text. size: of a token, in bytes."""
        self.tokens, self.finish = tokens, finish
        ids = self.generation.ids[:tokens]
        piece = self.text.finish(ids) if finish else self.text.push(ids)
        whole, shown = bool(finish) and not self._is_cut(ids), len(self.text.text.encode())
        self.logged = []
        while self._next < tokens and (whole or self._bytes < shown):
            self.logged.append(self._next)
            self._bytes += size(ids[self._next])
            self._next += 1
        return piece

    def _is_cut(self, ids: Sequence[int]) -> bool:
        return bool(self.generation.stopped and self.generation.stopped(list(ids)))


def make_app(served: Served) -> FastAPI:
    """The application."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    tokenizer = served.engine.generator.tokenizer
    to_byte = {character: byte for byte, character in byte_characters().items()}

    control = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}

    def bytes_of(token: int) -> bytes:
        """What a token adds to the text: nothing if it is a control token."""
        characters = "" if token in control else tokenizer.id_to_token(token) or ""
        return bytes(to_byte[character] for character in characters)

    @app.exception_handler(ApiError)
    async def refuse(_request: Request, error: ApiError) -> Response:
        headers = {"Retry-After": "1"} if error.status == 429 else None
        return JSONResponse(error.body, error.status, headers=headers)

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        return await refuse(
            request, ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
        )

    @app.get("/health")
    async def health() -> dict[str, Any]:
        engine = served.engine
        return {"status": "ok", "model": served.name, "slots": engine.slots, "unfinished": engine.unfinished,
                "active": engine.active}  # fmt: skip

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        check_key(request, served.key)
        return {"object": "list", "data": [describe(served)]}

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> dict[str, Any]:
        check_key(request, served.key)
        check_model(name, served)
        return describe(served)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await answer(request, CompletionRequest)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await answer(request, ChatRequest)

    async def answer(request: Request, kind: type[GenerationRequest]) -> Response:
        started = time.monotonic()
        try:
            check_key(request, served.key)
            asked = read_request(kind, await read_json(request))
            work = Work(served, asked, bytes_of)
        except ApiError as error:
            log(request, error.status, started, str(error))
            raise
        if asked.stream:
            return EventStream(request, work, started)
        try:
            await work.wait(request)
        except ApiError as error:
            log(request, error.status, started, str(error))
            raise
        finally:
            work.cancel()
        log(request, 200, started, work.summary(started))
        return JSONResponse(work.whole())

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        traceback.print_exception(error)
        text = f"{type(error).__name__}; the server's log has the reason"
        return await refuse(request, ApiError(500, text, "server_error"))

    return app


class EventStream(StreamingResponse):
    """An answer as server-sent events. If the client goes away, the slots are free again."""

    def __init__(self, request: Request, work: Work, started: float) -> None:
        super().__init__(self._events(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._request, self._work, self._started = request, work, started
        self._status = 499

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._work.cancel()
            log(self._request, self._status, self._started, f"stream, {self._work.summary(self._started)}")

    async def _events(self) -> AsyncIterator[str]:
        for chunk in self._work.first():
            yield _event(chunk)
        try:
            async for chunk in self._work.chunks():
                yield _event(chunk)
            self._status = 200
        except ApiError as error:
            self._status = error.status
            yield _event(error.body)
        yield "data: [DONE]\n\n"


class Work:
    """A request that is being answered: its choices, and the events of the engine."""

    def __init__(self, served: Served, asked: GenerationRequest, bytes_of: Callable[[int], bytes]) -> None:
        """Submits the request.

        Raises:
            ApiError: if it cannot be answered.
        """
        self.served, self.asked, self._bytes_of = served, asked, bytes_of
        self.is_chat = isinstance(asked, ChatRequest)
        self.id = f"{'chatcmpl' if self.is_chat else 'cmpl'}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.prompt_tokens = 0
        self.choices = self._make_choices()
        loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[Choice, int, str | None]] = asyncio.Queue()
        choice_of = {choice.generation: choice for choice in self.choices}

        def notify(generation: Generation, tokens: int, finish: str | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._events.put_nowait, (choice_of[generation], tokens, finish))

        try:
            served.engine.submit(list(choice_of), notify)
        except QueueFullError:
            engine = served.engine
            room = engine.slots + engine.max_queue
            if len(self.choices) > room:
                message = f"{len(self.choices)} answers in one request; this server holds at most {room}"
                raise ApiError(400, message, param="n") from None
            message = f"the queue is full ({engine.unfinished} of {room} answers); try again"
            raise ApiError(429, message, "rate_limit_error", code="queue_full") from None

    def _make_choices(self) -> list[Choice]:
        served, asked = self.served, self.asked
        generator, room = served.engine.generator, served.engine.slots + served.engine.max_queue
        check_model(asked.model, served)
        if asked.limit and served.max_tokens and asked.limit > served.max_tokens:
            message = f"max_tokens {asked.limit} is above this server's limit, {served.max_tokens}"
            raise ApiError(400, message, param="max_tokens")
        limit = asked.limit or min(DEFAULT_MAX_TOKENS, served.max_tokens or DEFAULT_MAX_TOKENS)
        try:
            requests = asked.requests(served.condition)
            if len(requests) * asked.n > room:
                message = f"{len(requests) * asked.n} answers in one request; this server holds at most {room}"
                raise ApiError(400, message, param="n")
            prompts = [generator.prompt(*request) for request in requests]
        except WinnowError as error:
            name = str(error).partition(":")[0].split(" ")[0]
            raise ApiError(400, str(error), param=name if name in ("messages", "condition") else None) from None
        seed = int.from_bytes(os.urandom(8), "big") if asked.seed is None else asked.seed % (1 << 64)
        temperature = asked.temperature or 0.0
        stop = asked.stop_strings
        choices: list[Choice] = []
        for request, prompt in zip(requests, prompts, strict=True):
            tokens = len(token_ids(prompt))
            self.prompt_tokens += tokens
            if tokens >= generator.context:
                message = (
                    f"the prompt has {tokens} tokens; the context of {generator.context} must hold it and an answer"
                )
                raise ApiError(400, message, code="context_length_exceeded")
            for sample in range(asked.n):
                sampling = Sampling(temperature, asked.top_p or 1.0, seed, random_stream(request, sample))
                generation = Generation(
                    prompt, min(limit, generator.context - tokens), sampling,
                    generator.stop_condition(stop), asked.top or 0,
                )  # fmt: skip
                choices.append(Choice(len(choices), generation, TextStream(generator.tokenizer.decode, stop)))
        return choices

    def cancel(self) -> None:
        """Stop what has not ended."""
        self.served.engine.cancel([choice.generation for choice in self.choices])

    async def pieces(self) -> AsyncIterator[tuple[Choice, str]]:
        """The pieces of all choices as they are generated.

        Raises:
            ApiError: if generation failed.
        """
        unfinished = len(self.choices)
        while unfinished:
            choice, tokens, finish = await self._events.get()
            if finish == "error":
                raise ApiError(500, "generation failed; the server's log has the reason", "server_error")
            unfinished -= finish is not None
            yield choice, choice.advance(tokens, finish, lambda token: len(self._bytes_of(token)))

    async def wait(self, request: Request) -> None:
        """Wait until all choices have ended.

        Raises:
            ApiError: if generation failed, or the client has gone.
        """
        self._logs: list[list[int]] = [[] for _ in self.choices]

        async def finish() -> None:
            async for choice, _ in self.pieces():
                self._logs[choice.index] += choice.logged

        async def disconnect() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        done, gone = asyncio.ensure_future(finish()), asyncio.ensure_future(disconnect())
        try:
            await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                raise ApiError(499, "the client has gone")
            done.result()
        finally:
            done.cancel()
            gone.cancel()

    def whole(self) -> dict[str, Any]:
        """The answer of a request that is not streamed."""
        choices = []
        for choice, logged in zip(self.choices, self._logs, strict=True):
            text = choice.text.text
            content = (
                {"message": {"role": "assistant", "content": text, "refusal": None}} if self.is_chat else {"text": text}
            )
            choices.append(
                {"index": choice.index, **content, "logprobs": self._log_probs(choice, logged),
                 "finish_reason": choice.finish}
            )  # fmt: skip
        return {**self._head("chat.completion" if self.is_chat else "text_completion"), "choices": choices,
                "usage": self.usage()}  # fmt: skip

    def first(self) -> list[dict[str, Any]]:
        """The chunks with which a stream begins: the role of each message of a chat."""
        if not self.is_chat:
            return []
        return [self._chunk(choice, {"delta": {"role": "assistant", "content": ""}}, None) for choice in self.choices]

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a stream.

        Raises:
            ApiError: if generation failed.
        """
        async for choice, piece in self.pieces():
            log_probs = self._log_probs(choice, choice.logged) if choice.logged else None
            if piece or log_probs or choice.finish:
                if self.is_chat:
                    content: dict[str, Any] = {"delta": {"content": piece} if piece or log_probs else {}}
                else:
                    content = {"text": piece}
                yield self._chunk(choice, content, log_probs)
        if self._include_usage:
            yield {**self._head(self._chunk_kind), "choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """The tokens of prompts and answers, without end tokens."""
        completion = sum(choice.tokens for choice in self.choices)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
        }

    def summary(self, started: float) -> str:
        """For the log: tokens and their rate."""
        seconds, usage = max(time.monotonic() - started, 1e-6), self.usage()
        rate = usage["completion_tokens"] / seconds
        answers = f" in {len(self.choices)} answers" if len(self.choices) > 1 else ""
        return f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens{answers}, {rate:.1f} tok/s"

    @property
    def _include_usage(self) -> bool:
        return bool(self.asked.stream_options and self.asked.stream_options.include_usage)

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.served.name,
            "system_fingerprint": self.served.fingerprint,
        }

    def _chunk(self, choice: Choice, content: dict[str, Any], log_probs: dict[str, Any] | None) -> dict[str, Any]:
        entry = {"index": choice.index, **content, "logprobs": log_probs, "finish_reason": choice.finish}
        usage = {"usage": None} if self._include_usage else {}
        return {**self._head(self._chunk_kind), "choices": [entry], **usage}

    def _log_probs(self, choice: Choice, positions: Sequence[int]) -> dict[str, Any] | None:
        """The log-probabilities of the tokens at these positions, in nats."""
        top, generation = self.asked.top, choice.generation
        if top is None:
            return None
        tokens = [(generation.ids[at], generation.log_probs[at]) for at in positions]
        best = [generation.alternatives[at] if top else [] for at in positions]
        if self.is_chat:
            content = [
                {**self._entry(*token), "top_logprobs": [self._entry(*other) for other in others]}
                for token, others in zip(tokens, best, strict=True)
            ]
            return {"content": content, "refusal": None}
        sizes = [len(self._bytes_of(token).decode(errors="replace")) for token in generation.ids]
        return {
            "tokens": [self._text(token) for token, _ in tokens],
            "token_logprobs": [log_prob for _, log_prob in tokens],
            "top_logprobs": [{self._text(t): p for t, p in others} for others in best] if top else None,
            "text_offset": [sum(sizes[:at]) for at in positions],
        }

    def _entry(self, token: int, log_prob: float) -> dict[str, Any]:
        return {"token": self._text(token), "logprob": log_prob, "bytes": list(self._bytes_of(token))}

    def _text(self, token: int) -> str:
        name: str = self.served.engine.generator.tokenizer.id_to_token(token) or ""
        return self._bytes_of(token).decode(errors="replace") or name


def check_key(request: Request, key: str | None) -> None:
    """Raises: ApiError: if a key is asked for and the request does not have it."""
    sent = request.headers.get("authorization", "").removeprefix("Bearer ")
    if key is not None and not hmac.compare_digest(sent.encode(), key.encode()):
        raise ApiError(401, "wrong or missing API key", "authentication_error", code="invalid_api_key")


def check_model(name: str | None, served: Served) -> None:
    """Raises: ApiError: if another model is asked for."""
    if name is not None and name != served.name:
        raise ApiError(
            404, f"no model {name!r}; this server has {served.name!r}", param="model", code="model_not_found"
        )


def describe(served: Served) -> dict[str, Any]:
    """The entry of the model in /v1/models."""
    return {
        "id": served.name,
        "object": "model",
        "created": served.started,
        "owned_by": "winnow",
        "max_model_len": served.engine.generator.context,
    }


async def read_json(request: Request) -> Any:
    """The body of a request.

    Raises:
        ApiError: if it is too long, too slow or not JSON.
    """
    body, size = b"", 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            # A client reads the answer after it has sent its body. A body that is too long is read, but not kept.
            async for part in request.stream():
                size += len(part)
                body = body + part if size <= MAX_BODY_BYTES else b""
                if size > READ_BODY_BYTES:
                    break
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
    if size > MAX_BODY_BYTES:
        raise ApiError(413, f"the body is longer than {MAX_BODY_BYTES:,} bytes", code="request_too_large")
    try:
        value = json.loads(body)
        json.dumps(value, ensure_ascii=False).encode()  # an escape may stand for half a character
        return value
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON ({error})") from None


def log(request: Request, status: int, started: float, text: str) -> None:
    """Print a line for a request on stderr."""
    now = datetime.now(UTC).strftime("%H:%M:%S")
    client = request.client.host if request.client else "-"
    seconds = time.monotonic() - started
    line = f"{client} {status} {request.url.path} {seconds:.2f} s: {text[:MAX_LOGGED]}"
    # What a client wrote must not reach the terminal as control characters.
    printable = "".join(character if character.isprintable() else "?" for character in line)
    print(f"{now} {printable}", file=sys.stderr, flush=True)


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"

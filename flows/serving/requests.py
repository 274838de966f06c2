"""What may a client ask? Bodies of the OpenAI API that a model of HRM-Text can answer, and clear refusals of others.

Parameters of the API are supported, or accepted at the value that means "off" (`NEUTRAL`), or without effect here
(`WITHOUT_EFFECT`). Everything else is refused by name, so that no request is answered as if it had not been understood.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from training.inference.chat import read_messages
from training.inference.language_model import Request

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "web_search_options": (),
}
"""Parameters that are not supported -> values at which they change nothing. Null always changes nothing."""

WITHOUT_EFFECT = (
    *("metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
    *("service_tier", "store", "user", "verbosity"),
)

MAX_STOP_STRINGS, MAX_STOP_LENGTH = 16, 256
"""Stop strings of a request, and characters of one."""

MAX_SEED = 1 << 63


class ApiError(Exception):
    """An answer of the form of the OpenAI API: status, message, and the parameter and code where there are some."""

    def __init__(
        self, status: int, message: str, kind: str = "invalid_request_error", param: str | None = None, code: str = ""
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.param, self.code = status, kind, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        message = str(self).encode(errors="replace").decode()
        return {"error": {"message": message, "type": self.kind, "param": self.param, "code": self.code or None}}


class StreamOptions(BaseModel):
    """include_usage: whether a last chunk counts the tokens."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False


def as_list(value: Any) -> Any:
    """A text as a list of one; any other value as it is."""
    return [value] if isinstance(value, str) else value


class GenerationRequest(BaseModel):
    """What completions and chats share. condition: tags of HRM-Text, comma-joined."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    condition: str | None = None
    n: Annotated[int, Field(ge=1)] = 1
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-MAX_SEED, lt=2 * MAX_SEED)] | None = None
    stop: (
        Annotated[
            list[Annotated[str, Field(max_length=MAX_STOP_LENGTH)]],
            BeforeValidator(as_list),
            Field(max_length=MAX_STOP_STRINGS),
        ]
        | None
    ) = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings; empty ones stop nothing."""
        return tuple(string for string in self.stop or () if string)

    @property
    def limit(self) -> int | None:
        """The longest answer asked for, in tokens."""
        return self.max_tokens

    @property
    def top(self) -> int | None:
        """How many alternatives of each token are asked for; None if no log-probabilities are."""
        raise NotImplementedError

    def requests(self, condition: str) -> list[Request]:
        """What is to be answered, `n` times each. condition: if the request names none."""
        raise NotImplementedError


class CompletionRequest(GenerationRequest):
    """The body of /v1/completions. A prompt is an instruction."""

    prompt: Annotated[list[str], BeforeValidator(as_list), Field(min_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def top(self) -> int | None:
        return self.logprobs

    def requests(self, condition: str) -> list[Request]:
        return [Request(self.condition or condition, prompt) for prompt in self.prompt]


class Message(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Any = None


class ChatRequest(GenerationRequest):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def top(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def requests(self, condition: str) -> list[Request]:
        return [read_messages([message.model_dump() for message in self.messages], self.condition, condition)]


def read_request(kind: type[GenerationRequest], body: Any) -> GenerationRequest:
    """The request of a JSON body.

    Raises:
        ApiError: if it is not one that can be answered.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    # Null means that a parameter is left out.
    off = (*NEUTRAL, *WITHOUT_EFFECT)
    supported = {name: value for name, value in body.items() if value is not None and name not in off}
    for parameter, values in NEUTRAL.items():
        if body.get(parameter) is not None and body[parameter] not in values:
            text = f"{parameter} is not supported: leave it out"
            raise ApiError(400, text, param=parameter, code="unsupported_parameter")
    try:
        return kind.model_validate(supported)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"] if not isinstance(part, str) or "[" not in part)
        name = str(first["loc"][0]) if first["loc"] else None
        if first["type"] == "extra_forbidden":
            raise ApiError(400, f"unknown parameter {where!r}", code="unknown_parameter") from None
        what = "is required" if first["type"] == "missing" else first["msg"][0].lower() + first["msg"][1:]
        hint = "; a prompt is a text or a list of texts, not token ids" if name == "prompt" and "prompt" in body else ""
        raise ApiError(400, f"{where}: {what}{hint}", param=name) from None

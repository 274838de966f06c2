"""Have responses written again by a model behind an endpoint, and keep those whose final answer is verified.

This is the stage as a recipe writes it. A step of its own makes it (`pipelines/steps/rewrite.py`), because what an
endpoint answers is recorded, not computed. The model, its strategy and the check are in `training`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from filters.scores.score import Names
from filters.stage import CorpusStage

INSTRUCTION, RESPONSE = "{instruction}", "{response}"
"""What stands in a prompt for the texts of a record."""


class RequestBudget(BaseModel):
    """What may be spent at an endpoint, in this build and earlier ones together.

    requests: answers of the model. tokens: of prompts and answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)


class Rewrite(CorpusStage):
    """Replace responses by those of a model, where the final answer is verified.

    endpoint: URL of an OpenAI-compatible server, up to its version. model: its name there. strategy: how an answer is
    found, as in `winnow evaluate --strategy`. prompt: what is asked; `{instruction}` and `{response}` stand for the
    texts of the record. systems: condition -> system message; a strategy asks for short answers as `direct` and for
    work as `synth,cot`. keep: `verified` keeps a new response only where its final answer is verified, `all` wherever
    there is one. verify: `answer` compares the final answer with that of the original response, `majority` with the
    one that most of `votes` sampled answers have. votes: how many are sampled. unverified: a record whose new
    response is not kept has its `original` response, or is a `drop`. condition: tags of records with a new response,
    by default their own. source: only records of these sources are asked, by default all. max_tokens: the longest
    completion. temperature: of a single answer, 0 for greedy. seed: of sampling. budget: what may be spent.
    concurrency: most requests at a time. timeout_seconds: of one attempt at a request.
    """

    kind: Literal["rewrite"] = "rewrite"
    endpoint: str
    model: str = Field(min_length=1)
    strategy: str = "spiral"
    prompt: str = INSTRUCTION
    systems: Mapping[str, str] = Field(default_factory=dict)
    keep: Literal["verified", "all"] = "verified"
    verify: Literal["answer", "majority"] = "answer"
    votes: Annotated[int, Field(ge=1, le=256)] = 8
    unverified: Literal["original", "drop"] = "original"
    condition: str | None = None
    source: Names = ()
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    seed: Annotated[int, Field(ge=0)] = 0
    budget: RequestBudget = RequestBudget()
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, endpoint: str) -> str:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{endpoint!r} is no URL such as http://localhost:8000/v1")
        if parts.username or parts.password:
            raise ValueError("a recipe holds no keys; set the environment variable WINNOW_API_KEY")
        return endpoint.rstrip("/")

    @field_validator("prompt")
    @classmethod
    def _names_text(cls, prompt: str) -> str:
        if INSTRUCTION not in prompt:
            raise ValueError(f"{INSTRUCTION} must be in it; it stands for the instruction of the record")
        return prompt

    def prompt_of(self, instruction: str, response: str) -> str:
        """What is asked for a record."""
        texts = {INSTRUCTION: instruction, RESPONSE: response}
        return re.sub("|".join(map(re.escape, texts)), lambda match: texts[match[0]], self.prompt)

    @property
    def asked(self) -> dict[str, Any]:
        """Everything of the stage that the answers depend on, as JSON values. The URL is not: a server may move."""
        verify = None if self.keep == "all" else self.verify
        check = {"verify": verify, "votes": self.votes if verify == "majority" else None}
        names = ("model", "strategy", "prompt", "systems", "source", "max_tokens", "temperature", "seed")
        fields = self.model_dump(mode="json", include=set(names))
        return {**fields, **check}

    @property
    def kept(self) -> dict[str, Any]:
        """Everything of the stage that decides what becomes of an answer, as JSON values."""
        return self.model_dump(mode="json", include={"keep", "unverified", "condition"})

    def reject(self, answer: Mapping[str, Any]) -> str | None:
        """Reasons: `not_verified` (the final answer is another than expected, or missing), `no_answer` (the model gave
        no text, or the prompt was too long for it), `cut_off` (the answer is longer than `max_tokens`).

        answer: `answer`, the text; `finish`, why it ended: `stop`, `length` or `none`; `verified`, a bool.
        Returns: the reason for which an answer is not kept; None if it is kept.
        """
        if answer["finish"] == "length":
            return "cut_off"
        if not answer["answer"].strip():
            return "no_answer"
        return None if self.keep == "all" or answer["verified"] else "not_verified"

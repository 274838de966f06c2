"""Rewrite and verify: a model answers the instructions of records, and its final answers are checked.

It is what a build passes to the step `rewrite-answers` (`pipelines/steps/rewrite.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from filters.rewrite import Rewrite
from pipelines.steps.rewrite import ANSWER
from training.evaluation.math_worker import Comparison, compare
from training.evaluation.strict import canonical, final_answer, strict_scorer
from training.evaluation.task import scorer_version
from training.inference.answer import Answer, Call
from training.inference.endpoint import api_of
from training.inference.language_model import Request
from training.inference.recorded import Budget, CompletionStore, RecordedEndpoint
from training.inference.strategies import Question, Sampling, parse
from training.inference.strategies.self_consistency import count_votes
from training.inference.strategies.strategy import derived_seed

CHUNK = 512
"""Records that are answered in lockstep."""

VOTE_TEMPERATURE = 0.7
"""At which the answers that have a vote are sampled."""


class Check(NamedTuple):
    """Of a final answer. final: in the answer. expected: what it was compared with. calls: that were made for it."""

    final: str | None
    expected: str | None
    verified: bool | None
    calls: tuple[Call, ...] = ()


class EndpointRewriter:
    """`pipelines.steps.rewrite.Rewriter` for one stage.

    Raises: WinnowError: for an unknown strategy, or if the package that compares final answers is not installed.
    """

    def __init__(self, stage: Rewrite) -> None:
        self.stage = stage
        self.strategy = parse(stage.strategy)
        self._checked_by = scorer_version(strict_scorer()) if stage.keep == "verified" else None

    @property
    def parameters(self) -> dict[str, Any]:
        _, api = api_of(self.stage.endpoint)
        return {"strategy": self.strategy.identity, "scorer": self._checked_by, "api": api}

    def answers(
        self, tables: Iterable[pa.Table], root: str, owner: str, on_done: Callable[[int], None]
    ) -> Iterator[pa.Table]:
        stage = self.stage
        model = RecordedEndpoint(
            stage.endpoint,
            stage.model,
            CompletionStore(root, stage.model),
            owner,
            Budget(**stage.budget.model_dump()),
            "`budget` of the stage `rewrite`",
            stage.concurrency,
            stage.timeout_seconds,
            stage.systems,
        )
        done = 0

        def on_more(more: int) -> None:
            on_done(done + more)

        for table in tables:
            rows: list[dict[str, Any]] = []
            for at in range(0, table.num_rows, CHUNK):
                chunk = table.slice(at, CHUNK).to_pylist()
                rows += self._answer(chunk, model, on_more)
                done += len(chunk)
            yield pa.Table.from_pylist(rows, ANSWER)

    def _answer(
        self, records: Sequence[Mapping[str, Any]], model: RecordedEndpoint, on_done: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        stage = self.stage
        questions = [Question(record["condition"], record["prompt"], extract) for record in records]
        sampling = Sampling(stage.max_tokens, temperature=stage.temperature, seed=stage.seed)
        answers = self.strategy.run(questions, model, sampling, on_done)
        checks = self._check(records, answers, model)
        return [_row(*each) for each in zip(records, answers, checks, strict=True)]

    def _check(
        self, records: Sequence[Mapping[str, Any]], answers: Sequence[Answer], model: RecordedEndpoint
    ) -> list[Check]:
        finals = [final_answer(answer.text) for answer in answers]
        if self.stage.keep == "all":
            return [Check(final, None, None) for final in finals]
        expected: dict[int, str] = {}
        calls: dict[int, tuple[Call, ...]] = {}
        candidates = [at for at, final in enumerate(finals) if final is not None and answers[at].finish == "stop"]
        if self.stage.verify == "answer":
            given = {at: final_answer(records[at]["response"]) for at in range(len(records))}
            expected = {at: one for at, one in given.items() if one is not None}
        elif candidates:
            requests = [Request(records[at]["condition"], records[at]["prompt"]) for at in candidates]
            n, seed = self.stage.votes, derived_seed(self.stage.seed, "vote", 0)
            limit = self.stage.max_tokens
            sampled = model.generate(requests, n, temperature=VOTE_TEMPERATURE, max_tokens=limit, seed=seed)
            for at, request, samples in zip(candidates, requests, sampled, strict=True):
                calls[at] = tuple(Call("vote", *request, one.text, one.tokens, one.log_prob) for one in samples)
                votes = count_votes([extract(one.text) for one in samples])
                if votes and 2 * max(votes.values()) > n:
                    expected[at] = next(iter(votes))
        compared = [at for at in candidates if at in expected]
        results = compare([Comparison("strict", expected[at], finals[at] or "") for at in compared])
        verified = dict(zip(compared, results, strict=True))
        return [
            Check(final, expected.get(at), verified.get(at, False), calls.get(at, ()))
            for at, final in enumerate(finals)
        ]


def extract(text: str) -> str | None:
    """The final answer of a text in one spelling, by which a strategy compares answers; None if it has none."""
    final = final_answer(text)
    return None if final is None else canonical(final)


def _row(record: Mapping[str, Any], answer: Answer, check: Check) -> dict[str, Any]:
    calls = [*answer.trace, *check.calls]
    return {
        "id": record["id"],
        "prompt": record["prompt"],
        "answer": answer.text,
        "finish": answer.finish,
        "final": check.final,
        "expected": check.expected,
        "verified": check.verified,
        "tokens": answer.tokens + sum(call.tokens for call in check.calls),
        "prompt_tokens": answer.prompt_tokens,
        "calls": [
            {"role": call.role, "prompt": call.instruction, "text": call.text, "tokens": call.tokens} for call in calls
        ],
    }

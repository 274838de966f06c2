"""Which responses does a model write better? Two steps: one asks, the other keeps what is verified.

`rewrite-answers` is the only step of a build whose output is not computed from its inputs. Its product has every prompt
and every answer. `rewrite` is a function of the records and of these answers, whose digests are in its key.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.rewrite import Rewrite
from filters.stage import Outcome, mark, with_texts
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Progress, StepContext, Target, commit
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import TableRef
from pipelines.steps.products import ANSWERS, RECORDS, REWRITES
from pipelines.steps.step import DROPPED_RECORDS, Build, RecipeStep, always

CALL = pa.struct(
    [
        pa.field("role", pa.string(), False),
        pa.field("prompt", pa.string(), False),
        pa.field("text", pa.string(), False),
        pa.field("tokens", pa.int64(), False),
    ]
)

ANSWER = pa.schema(
    [
        pa.field("id", pa.string(), False),
        pa.field("prompt", pa.string(), False),
        pa.field("answer", pa.string(), False),
        pa.field("finish", pa.string(), False),
        pa.field("final", pa.string()),
        pa.field("expected", pa.string()),
        pa.field("verified", pa.bool_()),
        pa.field("tokens", pa.int64(), False),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("calls", pa.list_(pa.field("element", CALL, False)), False),
    ]
)
"""The answer to a record.

finish: `stop`, `length` if it was cut off, `none` if the prompt was too long. final: its final answer, null if it has
none. expected: what `final` was compared with. verified: null if it was not to be checked. tokens: generated in all
calls. calls: what was asked, in order, with the samples that had a vote and what the strategy decided.
"""

ASKED = pa.schema(
    [pa.field(name, pa.string(), False) for name in ("id", "condition", "instruction", "response", "prompt")]
)
"""A record that is asked about."""

OUTCOMES = {
    "rewritten": "the response is the model's",
    "unchanged": "the model gave the response that the record has",
    "not_verified": "the final answer is another one than was expected, or there is none",
    "no_answer": "the model gave no text, or the prompt was too long for it",
    "cut_off": "the answer was longer than `max_tokens`",
}
"""What becomes of an answer. The last three are reasons for which a record is dropped, with `unverified: drop`."""

KEPT_ANSWERS = ("rewritten", "unchanged")


class Rewriter(Protocol):
    """What answers for one stage. The caller of a build passes the function that makes it, since no model is loaded
    here.

    parameters: what the answers depend on beside the stage, as JSON values.
    """

    @property
    def parameters(self) -> dict[str, Any]: ...

    def answers(
        self, tables: Iterable[pa.Table], root: str, owner: str, on_done: Callable[[int], None]
    ) -> Iterator[pa.Table]:
        """A table ANSWER [rows] for each table ASKED [rows].

        root: where completions are recorded. owner: for which step. on_done: called with the records answered so far.

        Raises: CheckFailed: if the budget is spent. WinnowError: if the endpoint refuses or cannot be reached.
        """
        ...


MakeRewriter = Callable[[Rewrite], Rewriter]


def rewrite_steps(stage: Rewrite, name: str = "rewrite") -> list[RecipeStep]:
    """The two steps of a stage. name: of the second, numbered if a recipe has several stages of this kind."""
    asking = RecipeStep(
        name=f"{name}-answers",
        version=1,
        products={ANSWERS: "prompts and answers, a row for each record that was asked"},
        wanted=always,
        make=lambda build: ask(build, stage, asking),
        estimate=None,
    )
    applying = RecipeStep(
        name=name,
        version=1,
        products={
            RECORDS: "the records, with the responses that were verified",
            DROPPED_ROWS: DROPPED_RECORDS,
            REWRITES: "what became of the answer to each record that was asked",
        },
        kept=RECORDS,
        wanted=always,
        make=lambda build: rewrite(build, stage, asking, applying),
        estimate=None,
    )
    return [asking, applying]


# Asking


def ask(build: Build, stage: Rewrite, of: RecipeStep) -> Manifest:
    """Ask, or find, the answers to the records made so far.

    It runs in this process, not in the engine: its time is the model's, and one budget covers all requests.
    """
    assert build.rewriter is not None, "a caller that allows `rewrite` gives the function that makes a rewriter"
    rewriter, records = build.rewriter(stage), build.records
    step = of.step({**stage.asked, **rewriter.parameters}, (records.key,))

    def work(context: StepContext) -> Sequence[Part]:
        total = sum(int(_is_asked(shard, stage).sum()) for shard in records.shards)
        started = time.monotonic()

        def on_done(done: int) -> None:
            context.watch(Progress(step.name, "ask", done, total, None, None, time.monotonic() - started))

        on_done(0)
        asked = (_asked(shard, stage) for shard in records.shards)
        parts = []
        for index, table in enumerate(rewriter.answers(asked, context.root, step.folder, on_done)):
            file = storage.write_parquet(Target(context.folder, index).path(ANSWERS), table)
            parts.append(Part(files={ANSWERS: (file,)}, counts=_counts(table, stage)))
        return parts

    return build.run.do(step, work)


def _is_asked(shard: TableRef, stage: Rewrite) -> np.ndarray[Any, np.dtype[np.bool_]]:
    sources = storage.read_parquet(shard.path, ["source"])["source"]
    if not stage.source:
        return np.ones(len(sources), np.bool_)
    return np.asarray(pc.is_in(sources, value_set=pa.array(stage.source, pa.string())).to_numpy(), np.bool_)


def _asked(shard: TableRef, stage: Rewrite) -> pa.Table:
    """ASKED [rows] of a shard."""
    records = storage.read_parquet(shard.path, ["id", "condition", "instruction", "response"])
    records = records.filter(pa.array(_is_asked(shard, stage))).combine_chunks()
    texts = zip(records["instruction"].to_pylist(), records["response"].to_pylist(), strict=True)
    prompts = pa.array([stage.prompt_of(*pair) for pair in texts], pa.string())
    return records.append_column(pa.field("prompt", pa.string(), False), prompts).cast(ASKED)


def _counts(answers: pa.Table, stage: Rewrite) -> dict[str, int]:
    outcomes = [outcome_of(row, stage) for row in _small(answers).to_pylist()]
    counts = {outcome: outcomes.count(outcome) for outcome in ("answered", *OUTCOMES) if outcome in outcomes}
    return {**counts, "tokens": pc.sum(answers["tokens"]).as_py() or 0}


def _small(answers: pa.Table) -> pa.Table:
    return answers.select([name for name in answers.column_names if name not in ("prompt", "calls")])


def outcome_of(answer: Mapping[str, Any], stage: Rewrite) -> str:
    """What becomes of an answer, a row of ANSWER: `answered` or one of the last three OUTCOMES."""
    if answer["finish"] == "length":
        return "cut_off"
    if not answer["answer"].strip():
        return "no_answer"
    return "answered" if stage.keep == "all" or answer["verified"] else "not_verified"


# Keeping


class Item(NamedTuple):
    """A shard of records and the answers to them."""

    shard: TableRef
    answers: TableRef


def rewrite(build: Build, stage: Rewrite, asking: RecipeStep, of: RecipeStep) -> Manifest:
    """Put the answers that are kept into the records."""
    records, asked = build.records, build.made[asking.name]
    answers = asked.tables(ANSWERS)
    settings = {**stage.kept, "model": stage.model, "answers": [file.digest for file in answers]}
    step = of.step(settings, (records.key, asked.key))
    items = [Item(*files) for files in zip(records.shards, answers, strict=True)]
    work = functools.partial(_rewrite_shard, stage)
    return build.run.do(step, lambda context: context.map(work, items), records)


def _rewrite_shard(stage: Rewrite, item: Item, target: Target) -> Part:
    records = storage.read_parquet(item.shard.path).combine_chunks()
    answers = _small(storage.read_parquet(item.answers.path)).to_pylist()
    ids = pa.array([answer["id"] for answer in answers], pa.string())
    rows = np.asarray(pc.index_in(ids, value_set=records["id"].combine_chunks()).to_numpy(zero_copy_only=False))
    before = records.take(pa.array(rows, pa.int64())).select(["response", "condition"]).to_pylist()
    outcomes, evidence = [], []
    for answer, old in zip(answers, before, strict=True):
        outcome = outcome_of(answer, stage)
        if outcome == "answered":
            same = answer["answer"].strip() == old["response"] and stage.condition in (None, old["condition"])
            outcome = "unchanged" if same else "rewritten"
        outcomes.append(outcome)
        evidence.append(_evidence(answer, stage))
    accepted = np.array([outcome in KEPT_ANSWERS for outcome in outcomes], np.bool_)
    texts = {"response": (rows[accepted], [answers[at]["answer"].strip() for at in np.flatnonzero(accepted)])}
    if stage.condition is not None:
        texts["condition"] = (rows[accepted], [stage.condition] * int(accepted.sum()))
    lost = rows[~accepted] if stage.unverified == "drop" else rows[:0]
    left = np.ones(records.num_rows, np.bool_)
    left[lost] = False
    refused = np.flatnonzero(~accepted)[: len(lost)]
    dropped = mark(
        records.take(pa.array(lost, pa.int64())),
        stage.kind,
        pa.array([outcomes[at] for at in refused], pa.string()),
        [evidence[at] for at in refused],
    )
    kept = with_texts(records, texts).filter(pa.array(left))
    part = commit(Outcome(kept, dropped), item.shard.rows, target)
    table = pa.table({"id": ids, "outcome": pa.array(outcomes, pa.string()), "evidence": pa.array(evidence, pa.string())})
    file = storage.write_parquet(target.path(REWRITES), table)
    return part.model_copy(update={"files": {**part.files, REWRITES: (file,)}})


def _evidence(answer: Mapping[str, Any], stage: Rewrite) -> str:
    given = {name: answer[name] for name in ("final", "expected", "finish", "tokens")}
    return json.dumps({**given, "model": stage.model, "strategy": stage.strategy}, ensure_ascii=False)

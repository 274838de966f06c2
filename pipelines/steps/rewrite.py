"""Which responses does a model write better? Two steps: one asks, the other keeps what is verified.

`rewrite-answers` is the only step of a build whose output is not computed from its inputs. Its product has every prompt
and every answer. `rewrite` is a function of the records and of these answers, whose digests are in its key.
"""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.rewrite import Rewrite
from filters.stage import Outcome, mark, with_texts
from pipelines.errors import nearest
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Progress, StepContext, Target, commit
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import TableRef
from pipelines.recipe import Recipe
from pipelines.records import CONDITIONS
from pipelines.steps.products import ANSWERS, RECORDS, REWRITES
from pipelines.steps.step import DROPPED_RECORDS, Build, RecipeStep, always
from pipelines.validation import Key

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


def rewrite_steps(stage: Rewrite, name: str = "rewrite") -> list[RecipeStep]:
    """The two steps of a stage. name: of the second, numbered if a recipe has several stages of this kind."""
    asking = RecipeStep(
        name=f"{name}-answers",
        products={ANSWERS: "prompts and answers, a row for each record that was asked"},
        wanted=always,
        make=lambda build: ask(build, stage, asking),
        estimate=None,
    )
    applying = RecipeStep(
        name=name,
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


def any_rewrite(recipe: Recipe) -> bool:
    """Whether a recipe has a stage `rewrite`."""
    return any(isinstance(stage, Rewrite) for stage in recipe.stages)


def rewrite_problems(recipe: Recipe) -> Iterator[tuple[Key, str]]:
    """What is wrong with the stages `rewrite` of a recipe: its key, and the message."""
    sources = [source.name for source in recipe.sources]
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, Rewrite):
            continue
        for name in stage.source:
            if name not in sources:
                yield ("stages", index), f"no source is called {name!r}; {nearest(name, sources)}"
        for tag in (stage.condition or CONDITIONS[0]).split(","):
            if tag not in CONDITIONS:
                yield ("stages", index), f"condition: {tag!r} is no tag; {nearest(tag, CONDITIONS)}"


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
        with storage.verified(records.shards):
            for index, table in enumerate(rewriter.answers(asked, context.root, context.step.folder, on_done)):
                file = storage.write_parquet(Target(context.folder, index).path(ANSWERS), table)
                parts.append(Part(files={ANSWERS: (file,)}, counts=_counts(table, stage)))
        return parts

    return build.run.do(step, work)


def _is_asked(shard: TableRef, stage: Rewrite) -> npt.NDArray[np.bool_]:
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
    """`answered` and each reason -> records; and the tokens."""
    outcomes = Counter(stage.reject(row) or "answered" for row in _small(answers).to_pylist())
    return {**outcomes, "tokens": pc.sum(answers["tokens"]).as_py() or 0}


def _small(answers: pa.Table) -> pa.Table:
    return answers.select([name for name in answers.column_names if name not in ("prompt", "calls")])


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
    rows = np.asarray(pc.index_in(ids, value_set=as_array(records["id"])).to_numpy(), np.int64)
    reasons = [stage.reject(answer) for answer in answers]
    evidence = [_evidence(answer, stage) for answer in answers]
    accepted = np.array([reason is None for reason in reasons], np.bool_)
    texts = [answers[at]["answer"].strip() for at in np.flatnonzero(accepted)]
    changes: dict[str, tuple[npt.NDArray[np.int64], list[str]]] = {"response": (rows[accepted], texts)}
    if stage.condition is not None:
        changes["condition"] = (rows[accepted], [stage.condition] * len(texts))
    left = np.ones(records.num_rows, np.bool_)
    refused = np.flatnonzero(~accepted) if stage.unverified == "drop" else np.zeros(0, np.int64)
    left[rows[refused]] = False
    dropped = mark(
        records.take(pa.array(rows[refused])),
        stage.kind,
        pa.array([reasons[at] for at in refused], pa.string()),
        [evidence[at] for at in refused],
    )
    kept = with_texts(records, changes).filter(pa.array(left))
    part = commit(Outcome(kept, dropped), records, target)
    outcomes = pa.array([reason or "rewritten" for reason in reasons], pa.string())
    table = pa.table({"id": ids, "outcome": outcomes, "evidence": pa.array(evidence, pa.string())})
    file = storage.write_parquet(target.path(REWRITES), table)
    return part.with_file(REWRITES, file)


def _evidence(answer: Mapping[str, Any], stage: Rewrite) -> str:
    given = {name: answer[name] for name in ("final", "expected", "finish", "tokens")}
    return json.dumps({**given, "model": stage.model, "strategy": stage.strategy}, ensure_ascii=False)

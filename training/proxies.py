"""How is a small model of an ablation trained and measured? One work item, that any engine runs, and that carries on.

    ROOT/ablations/proxies/<key>/step-...                 checkpoints (training/checkpoint.py)
                                 likelihoods-<key>.parquet  a row per text: tokens, bytes and bits
                                 evaluations/             answers to benchmarks

The key of a proxy is that of its packs and its configuration. So an ablation with one more arm, or the same one after a
kill, trains only what is missing. A CPU has one thread for each proxy: its numbers do not depend on how many run at a
time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from pipelines.ledger import storage
from training.configs import TrainConfig
from training.evaluation.perplexity import Passage

PASSAGE = pa.schema(
    [
        pa.field("id", pa.string(), False),
        pa.field("condition", pa.string(), False),
        pa.field("instruction", pa.string(), False),
        pa.field("text", pa.string(), False),
        pa.field("ends", pa.bool_(), False),
    ]
)
"""The columns of a table of texts to measure, as in `training.evaluation.perplexity.Passage`. It may have others."""


class Texts(NamedTuple):
    """A Parquet file of PASSAGE and what identifies its content."""

    path: str
    digest: str


class Questions(NamedTuple):
    """Items of a benchmark to answer. items, candidates: paths of Parquet files of the ITEM schema. key: of content."""

    name: str
    task: str
    items: str
    candidates: str | None
    limit: int | None


class Proxy(NamedTuple):
    """A model to train and measure. folder: its own. threads: of torch on a CPU, None for its default."""

    shards: tuple[str, ...]
    tokenizer: str
    packs: str
    config: TrainConfig
    folder: str
    texts: tuple[Texts, ...] = ()
    questions: tuple[Questions, ...] = ()
    threads: int | None = 1

    @property
    def steps(self) -> int:
        """The steps of its training."""
        assert self.config.steps is not None
        return self.config.steps


class Measured(NamedTuple):
    """The files of a proxy. likelihoods: one for each of its texts. items: of answered benchmarks, one for each."""

    likelihoods: tuple[str, ...]
    items: tuple[str, ...]


def proxy_key(packs: str, config: TrainConfig) -> str:
    """16 hex digits: packs and configuration, of which all numbers of a proxy follow."""
    return hashlib.blake2b(f"{packs} {config.model_dump_json()}".encode(), digest_size=8).hexdigest()


def likelihoods_path(folder: str, texts: Texts) -> str:
    """Where the likelihoods of texts by the proxy in this folder are."""
    return storage.join(folder, f"likelihoods-{texts.digest}.parquet")


def is_measured(proxy: Proxy) -> bool:
    """Whether a proxy is trained and measured."""
    done = all(storage.exists(likelihoods_path(proxy.folder, texts)) for texts in proxy.texts)
    return done and all(storage.exists(_answers_path(proxy.folder, one)) for one in proxy.questions)


def _answers_path(folder: str, questions: Questions) -> str:
    limit = "all" if questions.limit is None else str(questions.limit)
    name = hashlib.blake2b(f"{questions.items} {questions.candidates}".encode(), digest_size=8).hexdigest()
    return storage.join(folder, f"answers-{questions.name}-{limit}-{name}.parquet")


def measure_proxy(proxy: Proxy) -> Measured:
    """Train a proxy and measure it. What is there already is not made again.

    Raises: the errors of `training.loop.train`.
    """
    files = Measured(
        tuple(likelihoods_path(proxy.folder, texts) for texts in proxy.texts),
        tuple(_answers_path(proxy.folder, one) for one in proxy.questions),
    )
    if is_measured(proxy):
        return files
    # Imported here because it loads torch, which a finished ablation does not need.
    import torch

    from training import loop
    from training.inference.generate import load_text_generator

    before = torch.get_num_threads()
    if proxy.threads is not None:
        torch.set_num_threads(proxy.threads)
    try:
        loop.train(proxy.shards, proxy.tokenizer, proxy.config, proxy.folder, proxy.packs)
        generator = load_text_generator(proxy.folder)
        for texts, path in zip(proxy.texts, files.likelihoods, strict=True):
            if not storage.exists(path):
                storage.write_parquet(path, _likelihoods(generator, texts))
        for questions, path in zip(proxy.questions, files.items, strict=True):
            if not storage.exists(path):
                storage.write_parquet(path, _answer(proxy.folder, questions))
    finally:
        torch.set_num_threads(before)
    return files


def _likelihoods(generator: object, texts: Texts) -> pa.Table:
    from training.evaluation.perplexity import likelihoods
    from training.inference.generate import TextGenerator

    assert isinstance(generator, TextGenerator)
    table = storage.read_parquet(texts.path, PASSAGE.names)
    passages = [Passage(**row) for row in table.to_pylist()]
    measured = list(likelihoods(generator, passages))
    columns = {
        "id": table["id"],
        "tokens": pa.array([None if isinstance(one, str) else one.tokens for one in measured], pa.int64()),
        "bytes": pa.array([None if isinstance(one, str) else one.bytes for one in measured], pa.int64()),
        "bits": pa.array([None if isinstance(one, str) else one.nats / math.log(2) for one in measured], pa.float64()),
    }
    return pa.table(columns)


def _answer(folder: str, questions: Questions) -> pa.Table:
    """id, cluster and score (0 to 1, the published one) of each item that was asked."""
    from training.evaluation.evaluate import How, ModelSpec, evaluate, task_of
    from training.evaluation.store import read_items

    items = storage.read_parquet(questions.items)
    candidates = storage.read_parquet(questions.candidates) if questions.candidates else None
    # Multiple choice by likelihood: the letters of a small model are near chance.
    how = How(method="likelihood") if task_of(questions.task, How()).credit else How()
    scores = evaluate(
        ModelSpec(folder), questions.task, items, how, candidates=candidates, limit=questions.limit, root=folder,
        name=questions.name,
    )  # fmt: skip
    assert scores.evaluation is not None
    table = read_items(scores.evaluation)
    scorer = task_of(questions.task, how).scorers[0].name
    return pa.table({"id": table["id"], "cluster": table["cluster"], "score": table[f"score_{scorer}"]})


def passages_table(rows: Sequence[Passage], more: dict[str, pa.Array] | None = None) -> pa.Table:
    """PASSAGE of passages, with further columns."""
    table = pa.Table.from_pylist([row._asdict() for row in rows], PASSAGE)
    for name, column in (more or {}).items():
        table = table.append_column(name, column)
    return table

"""Where are the answers of an evaluation kept?

    ROOT/evaluations/<benchmark>-<key>/settings.json    what determines the answers, and the scorers with their versions
                                       answers/*.jsonl  answers as they come; removed when items.parquet has them
                                       items.parquet    one row per item: prompt, answer, judgements
                                       scores.json      the scores
                                       checksums.json   last: the digest of each file above

The key is a digest of what determines the answers: the model, the task, how it is asked. It does not contain the number
of items, so an evaluation of more items reuses the answers of a shorter one, and one that was killed carries on. An
answer is found by its prompt.

Answers are kept as text. `winnow rescore` judges them again, without a model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines.errors import RunError
from pipelines.ledger import storage
from pipelines.ledger.checksums import remove_checksums, write_checksums
from training.inference.answer import Answer, Call

EVALUATIONS = "evaluations"
SETTINGS, ANSWERS, ITEMS, SCORES = "settings.json", "answers", "items.parquet", "scores.json"

_OUTSIDE_KEY = {"model", "step", "weights", "scorers", "device"}
"""Settings that do not determine the answers. The weights are covered by the identity of the model."""

CALL = pa.struct(
    [
        pa.field("role", pa.string()),
        pa.field("condition", pa.string()),
        pa.field("instruction", pa.string()),
        pa.field("text", pa.string()),
        pa.field("tokens", pa.int64()),
        pa.field("log_prob", pa.float64()),
    ]
)

ANSWERED = pa.schema(
    [
        pa.field("id", pa.string(), False),
        pa.field("split", pa.string(), False),
        pa.field("subset", pa.string(), False),
        pa.field("cluster", pa.string(), False),
        pa.field("key", pa.string(), False),
        pa.field("condition", pa.string(), False),
        pa.field("prompt", pa.string(), False),
        pa.field("answer", pa.string(), False),
        pa.field("expected", pa.string(), False),
        pa.field("tokens", pa.int64(), False),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("seconds", pa.float64(), False),
        pa.field("finish", pa.string(), False),
        pa.field("log_prob", pa.float64()),
        pa.field("log_probs", pa.list_(pa.float64()), False),
        pa.field("class", pa.string(), False),
        pa.field("overlap_13", pa.float64()),
        pa.field("overlap_20", pa.float64()),
        pa.field("trace", pa.list_(CALL), False),
        pa.field("item", pa.string(), False),
    ]
)
"""A row of items.parquet, without the columns of the scorers: `score_<scorer>` (0 to 1), `valid_<scorer>` and
`extracted_<scorer>` for each.

key: of the prompt. cluster: equal for items that share a passage or a subject; the item's id where all are independent.
seconds: of the calls in which the item was answered together with others, in proportion to the tokens. class: `found`
or `not_found` in the training rows, or `unknown`. overlap_<n>: share of the item's tokens within n-grams of the
training rows; null if unknown. item: the benchmark's item as JSON, with which the answer can be judged again.
"""


class Settings(BaseModel):
    """What determines the answers of an evaluation, and what is good to know about it.

    benchmark: the name in the recipe. task: the benchmark's name in `TASKS`. model: name of the model. identity: digest
    of its weights and tokenizer, or the address of an endpoint with the model's name. step: of a checkpoint. weights:
    `ema` or `model`. strategy: with all parameters. scorers: name -> version, with versions of libraries.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    task: str
    method: str
    model: str
    identity: str
    step: int
    weights: str
    device: str
    precision: str
    condition: str
    shots: int
    strategy: str
    temperature: float
    max_tokens: int | None
    context: int | None
    stop: tuple[str, ...]
    seed: int
    scorers: dict[str, str]

    @property
    def key(self) -> str:
        """16 hex digits that determine the answers."""
        value = self.model_dump(mode="json", exclude=_OUTSIDE_KEY)
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder_of(root: str, settings: Settings) -> str:
    """The folder of an evaluation below a root."""
    return storage.join(root, EVALUATIONS, f"{settings.benchmark}-{settings.key}")


def read_settings(folder: str) -> Settings:
    """The settings of an evaluation.

    Raises:
        RunError: if the folder holds none.
    """
    path = storage.join(folder, SETTINGS)
    if not storage.exists(path):
        raise RunError(f"{folder}: no evaluation (it has no {SETTINGS}); `winnow evaluate` makes one")
    try:
        return Settings.model_validate(storage.read_json(path))
    except ValueError as error:
        raise RunError(f"{path}: not readable ({error}); remove the folder and evaluate again") from None


def evaluations(root: str) -> list[str]:
    """The folders of the evaluations below a root, sorted by name."""
    parent = storage.join(root, EVALUATIONS)
    if not storage.is_folder(parent):
        return []
    folders = [storage.join(parent, name) for name in storage.folders(parent)]
    return [folder for folder in folders if storage.exists(storage.join(folder, SETTINGS))]


def read_items(folder: str) -> pa.Table:
    """The judged items of an evaluation.

    Raises:
        RunError: if the evaluation is not finished.
    """
    path = storage.join(folder, ITEMS)
    if not storage.exists(path):
        raise RunError(f"{folder}: the evaluation is not finished; run the same `winnow evaluate` again, it carries on")
    return storage.read_parquet(path)


class Answered(NamedTuple):
    """An answer and the seconds it took."""

    answer: Answer
    seconds: float


class AnswerStore:
    """The answers of one evaluation, by the key of their prompt."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._parts = storage.join(folder, ANSWERS)

    def read(self) -> dict[str, Answered]:
        """All answers that are stored. Raises: RunError: naming a file that is damaged."""
        known: dict[str, Answered] = {}
        path = storage.join(self.folder, ITEMS)
        if storage.exists(path):
            items = storage.read_parquet(path, [name for name in ANSWERED.names if name != "item"])
            answered = map(Answered, answers_of(items), items["seconds"].to_pylist())
            known = dict(zip(items["key"].to_pylist(), answered, strict=True))
        for part in self._part_files():
            try:
                for line in storage.read_bytes(part).splitlines():
                    row = json.loads(line)
                    known[row["key"]] = Answered(answer_of(row), row["seconds"])
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(f"{part}: damaged ({error!r}); remove it, and its items are asked again") from None
        return known

    def add(self, answers: Mapping[str, Answered]) -> str:
        """Store answers by key, in one file that is complete or absent. Returns its path."""
        name = hashlib.sha256("".join(answers).encode()).hexdigest()[:24]
        lines = []
        for key, (answer, seconds) in answers.items():
            value = {**answer._asdict(), "trace": [call._asdict() for call in answer.trace]}
            lines.append(json.dumps({"key": key, "seconds": seconds, **value}, ensure_ascii=False))
        path = storage.join(self._parts, f"{name}.jsonl")
        storage.write_bytes(path, ("\n".join(lines) + "\n").encode())
        return path

    def write_settings(self, settings: Settings) -> None:
        """Write the settings. Those of an evaluation that carries on are written again."""
        remove_checksums(self.folder)
        storage.write_json(storage.join(self.folder, SETTINGS), settings.model_dump(mode="json"))

    def finish(self, items: pa.Table, scores: Mapping[str, Any]) -> None:
        """Write the judged items and their scores, and remove the files of answers that the items have.

        Answers to items that are not in the table are kept, in one file.
        """
        remove_checksums(self.folder)
        judged = set(items["key"].to_pylist())
        others = {key: answered for key, answered in self.read().items() if key not in judged}
        stale = self._part_files()
        kept = self.add(others) if others else None
        storage.write_parquet(storage.join(self.folder, ITEMS), items)
        storage.write_json(storage.join(self.folder, SCORES), dict(scores))
        for part in stale:
            if part != kept:
                storage.remove(part)

    def seal(self) -> None:
        """Write the digests of the files of a finished evaluation."""
        write_checksums(self.folder)

    def _part_files(self) -> list[str]:
        if not storage.is_folder(self._parts):
            return []
        return [storage.join(self._parts, name) for name in storage.files(self._parts) if name.endswith(".jsonl")]


def answer_of(row: Mapping[str, Any]) -> Answer:
    """The answer in a stored row, whose `text` is that of the answer."""
    return Answer(
        text=row["text"],
        tokens=row["tokens"],
        finish=row["finish"],
        log_prob=row["log_prob"],
        log_probs=tuple(row["log_probs"]),
        trace=tuple(Call(**call) for call in row["trace"]),
        prompt_tokens=row["prompt_tokens"],
    )


def answers_of(items: pa.Table) -> list[Answer]:
    """The answers in a table of items, in order."""
    columns = ["answer", *(name for name in Answer._fields if name != "text")]
    return [answer_of({**row, "text": row["answer"]}) for row in items.select(columns).to_pylist()]


def add_judgements(items: pa.Table, scorer: str, columns: Sequence[pa.Array]) -> pa.Table:
    """The table with the columns `score_`, `valid_` and `extracted_` of a scorer, in place of former ones."""
    for kind, column in zip(("score", "valid", "extracted"), columns, strict=True):
        name = f"{kind}_{scorer}"
        at = items.schema.get_field_index(name)
        items = items.append_column(name, column) if at < 0 else items.set_column(at, name, column)
    return items

"""What changed between two runs? Settings, steps with the cause of each change, tokens, and the fate of every row.

A row is known by its id: it is newly dropped if the corpus of the left run has it and that of the right run does not.
The corpora are compared by 64-bit hashes of ids and digests, some 30 bytes a row. Of larger corpora a part is held at a
time, and the ids are read again for each. What a step that both runs share has dropped is not read: it is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines.audit.changes import Cause, Change, causes, changes
from pipelines.audit.conditions import TOTAL, Condition, Measure, Violation, violations
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.storage import TableRef
from pipelines.steps.ingest import by_source
from pipelines.steps.products import RECORDS

ROWS_AT_ONCE = 8_000_000
"""Rows of one corpus that are held at a time."""

EXAMPLES = 3
"""Ids given of each group of rows."""

MEASURES = ("read", "kept", "dropped", "tokens", "drawn_tokens", "newly_kept", "newly_dropped", "changed")
"""What `--fail-if` compares: the first five as right / left, the others as rows."""

Kind = Literal["newly_kept", "newly_dropped", "changed", "moved"]


class StepDiff(BaseModel):
    """One step in both runs. same: whether it is the same step; else `causes` says why it is not. rows_kept: left,
    right. dropped: `stage/reason` -> rows, of the reasons whose rows differ."""

    model_config = ConfigDict(frozen=True)

    name: str
    same: bool
    causes: list[Cause]
    rows_kept: tuple[int | None, int | None]
    dropped: dict[str, tuple[int, int]]


class SourceDiff(BaseModel):
    """A source in both runs, left and right: rows read and kept, tokens of those kept, tokens that the epochs draw."""

    model_config = ConfigDict(frozen=True)

    source: str
    read: tuple[int, int]
    kept: tuple[int, int]
    tokens: tuple[int, int]
    drawn_tokens: tuple[int, int]


class RowChange(BaseModel):
    """Rows of one source that changed in one way.

    change: `newly_kept` or `newly_dropped`; `changed`: kept by both, with another text; `moved`: the same text under
    another id. step, reason: where the run that has not kept them dropped them (`stage/reason`); None if it never read
    them. examples: some of their ids.
    """

    model_config = ConfigDict(frozen=True)

    change: Kind
    source: str
    step: str | None
    reason: str | None
    rows: int
    examples: tuple[str, ...]


class ChangedRow(BaseModel):
    """A row that changed; the fields are those of `RowChange`."""

    model_config = ConfigDict(frozen=True)

    id: str
    change: Kind
    source: str
    step: str | None
    reason: str | None


class RunDiff(BaseModel):
    """The difference of two runs, left and right.

    settings: path of the key -> [left, right]. sources: those of either run. changes: groups of rows, the largest
    first. rows: every row that changed, if it was asked for. violations: the conditions that hold.
    """

    model_config = ConfigDict(frozen=True)

    runs: tuple[str, str]
    settings: dict[str, tuple[Any, Any]]
    steps: list[StepDiff]
    sources: list[SourceDiff]
    changes: list[RowChange]
    rows: list[ChangedRow] | None = None
    violations: list[Violation] = []

    def measures(self) -> dict[str, dict[str, Measure]]:
        """Source, and `total` -> measure -> its numbers, for conditions."""
        pairs: dict[str, dict[str, tuple[float, float]]] = {}
        for one in self.sources:
            dropped = one.read[0] - one.kept[0], one.read[1] - one.kept[1]
            pairs[one.source] = {
                "read": one.read,
                "kept": one.kept,
                "dropped": dropped,
                "tokens": one.tokens,
                "drawn_tokens": one.drawn_tokens,
            }
        rows: Counter[tuple[str, str]] = Counter()
        for change in self.changes:
            rows[change.source, change.change] += change.rows
        for source, own in pairs.items():
            own |= {name: (0, rows[source, name]) for name in ("newly_kept", "newly_dropped", "changed")}
        pairs[TOTAL] = {
            name: (sum(own[name][0] for own in pairs.values()), sum(own[name][1] for own in pairs.values()))
            for name in MEASURES
        }
        return {
            source: {name: Measure(*pair, ratio=name in MEASURES[:5]) for name, pair in own.items()}
            for source, own in pairs.items()
        }


def diff(left: RecordedRun, right: RecordedRun, rows: bool = False, conditions: Sequence[Condition] = ()) -> RunDiff:
    """Compare two runs. rows: whether to list every row that changed. conditions: to test.

    Raises: WinnowError: if neither run has the source of a condition.
    """
    names = list(dict.fromkeys(spec["name"] for run in (left, right) for spec in run.info["settings"]["sources"]))
    changed = _Rows(left, right, names)
    settings = list(changes(left.info["settings"], right.info["settings"]))
    answer = RunDiff(
        runs=(left.id, right.id),
        settings={one.path: (one.left, one.right) for one in settings},
        steps=_steps(left, right, settings),
        sources=_sources(left, right, names, changed.kept),
        changes=changed.groups(),
        rows=list(changed.all()) if rows else None,
    )
    measures = answer.measures()
    held = [violation for condition in conditions for violation in violations(condition, measures)]
    return answer.model_copy(update={"violations": held})


def _steps(left: RecordedRun, right: RecordedRun, settings: Sequence[Change]) -> list[StepDiff]:
    steps = []
    names = {step.key: step.step for run in (left, right) for step in run.steps}
    for name in dict.fromkeys(step.step for run in (left, right) for step in run.steps):
        a, b = left.step(name), right.step(name)
        before, after = (step.reasons if step is not None else {} for step in (a, b))
        pairs = {reason: (before.get(reason, 0), after.get(reason, 0)) for reason in sorted({*before, *after})}
        why = causes(a, b, names, settings)
        steps.append(
            StepDiff(
                name=name,
                same=not why,
                causes=why,
                rows_kept=(a.rows_kept if a else None, b.rows_kept if b else None),
                dropped={reason: pair for reason, pair in pairs.items() if pair[0] != pair[1]},
            )
        )
    return steps


def _sources(
    left: RecordedRun, right: RecordedRun, names: Sequence[str], kept: tuple[Mapping[str, int], Mapping[str, int]]
) -> list[SourceDiff]:
    read, tokens = [], []
    for run in (left, right):
        first = next((step for step in run.steps if step.kept), None)
        read.append({name: rows for name, (rows, _) in by_source(first).items()} if first else {})
        packs = run.product("packs")
        tokens.append(packs.counts if packs else {})
    return [
        SourceDiff(
            source=name,
            read=_pair(read, name),
            kept=_pair(kept, name),
            tokens=_pair(tokens, f"coverage/{name}/tokens"),
            drawn_tokens=_pair(tokens, f"coverage/{name}/drawn_tokens"),
        )
        for name in names
    ]


def _pair(both: Sequence[Mapping[str, int]], name: str) -> tuple[int, int]:
    return both[0].get(name, 0), both[1].get(name, 0)


class _Rows:
    """The rows that changed from one run to the other. kept: source -> rows of the corpus, left and right."""

    def __init__(self, left: RecordedRun, right: RecordedRun, names: Sequence[str]) -> None:
        self.reasons: list[tuple[str, str]] = []
        self.source = pl.Enum(list(names))
        self.runs = left, right
        self.shared = {step.key for step in left.steps} & {step.key for step in right.steps}
        both = [_final(run) for run in self.runs]
        if both[0] == both[1]:
            kept = self._kept_by_source(left)
            self.kept = kept, kept
            self.lost = self.gained = self.changed = self._empty()
            return
        parts = -(-max(sum(shard.rows for shard in _shards(run)) for run in self.runs) // ROWS_AT_ONCE) or 1
        counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        lost, gained, changed = [self._empty()], [self._empty()], [self._empty()]
        for part in range(parts):
            before, after = (self._corpus(run, part, parts) for run in self.runs)
            for count, table in zip(counts, (before, after), strict=True):
                count.update(dict(table.group_by("source").len().iter_rows()))
            lost.append(before.join(after, on="id", how="anti"))
            gained.append(after.join(before, on="id", how="anti"))
            again = after.join(before.select("id", former="digest"), on="id")
            changed.append(again.filter(pl.col("digest") != pl.col("former")).drop("former"))
        self.kept = counts
        self.lost, self.gained, self.changed = (pl.concat(tables) for tables in (lost, gained, changed))
        texts = self.lost["digest"], self.gained["digest"]
        self.lost = self._with_fates(self.lost, right, texts[1])
        self.gained = self._with_fates(self.gained, left, texts[0])

    def groups(self) -> list[RowChange]:
        """The rows by change, source, step and reason: the largest groups first."""
        found = []
        by = ["change", "source", "fate"]
        for rows, run in self._tables():
            first = rows.sort("file", "row").group_by(by, maintain_order=True).head(EXAMPLES)
            ids = self._ids(first, run).group_by(by).agg("name")
            for line in rows.group_by(by).len().join(ids, on=by, nulls_equal=True).iter_rows(named=True):
                step, reason = self._reason(line["fate"])
                found.append(
                    RowChange(
                        change=line["change"],
                        source=line["source"],
                        step=step,
                        reason=reason,
                        rows=line["len"],
                        examples=tuple(line["name"]),
                    )
                )
        return sorted(found, key=lambda one: (-one.rows, one.change, one.source, one.step or "", one.reason or ""))

    def all(self) -> Iterator[ChangedRow]:
        """Every row that changed, in the order of the corpus that has it."""
        for rows, run in self._tables():
            for line in self._ids(rows.sort("file", "row"), run).iter_rows(named=True):
                step, reason = self._reason(line["fate"])
                yield ChangedRow(
                    id=line["name"], change=line["change"], source=line["source"], step=step, reason=reason
                )

    def _tables(self) -> Iterator[tuple[pl.DataFrame, RecordedRun]]:
        """The rows that changed with `change`, and the run whose corpus has them."""
        left, right = self.runs
        moved = pl.when("moved").then(pl.lit("moved"))
        # A row that moved is in both corpora: it is listed under its new id.
        yield self.lost.filter(~pl.col("moved")).with_columns(change=pl.lit("newly_dropped")), left
        yield self.gained.with_columns(change=moved.otherwise(pl.lit("newly_kept"))), right
        yield self.changed.with_columns(change=pl.lit("changed")), right

    def _reason(self, fate: int | None) -> tuple[str | None, str | None]:
        return (None, None) if fate is None else self.reasons[fate]

    def _empty(self) -> pl.DataFrame:
        kinds: dict[str, Any] = {
            "id": pl.UInt64,
            "digest": pl.UInt64,
            "source": self.source,
            "file": pl.UInt32,
            "row": pl.UInt32,
        }
        return pl.DataFrame(schema=kinds).with_columns(fate=pl.lit(None, pl.UInt32), moved=pl.lit(False))

    def _corpus(self, run: RecordedRun, part: int, parts: int) -> pl.DataFrame:
        """The rows of a run's corpus whose hash belongs to a part."""
        after = [file for step in _after(run) for file in step.dropped]
        unused = pl.concat([pl.Series(dtype=pl.UInt64), *(_hashes(file, "id") for file in after)])
        tables = [self._empty()]
        for number, shard in enumerate(_shards(run)):
            columns = storage.read_parquet(shard.path, ["id", "digest", "source"])
            table = pl.DataFrame(
                {
                    "id": pl.Series(columns["id"]).hash(),
                    "digest": pl.Series(columns["digest"].cast(pa.binary())).hash(),
                    "source": pl.Series(columns["source"]).cast(self.source),
                }
            ).with_columns(file=pl.lit(number, pl.UInt32), row=pl.int_range(pl.len(), dtype=pl.UInt32))
            if parts > 1:
                table = table.filter(pl.col("id") % parts == part)
            if len(unused):
                table = table.filter(~pl.col("id").is_in(unused.implode()))
            tables.append(table.with_columns(fate=pl.lit(None, pl.UInt32), moved=pl.lit(False)))
        return pl.concat(tables)

    def _kept_by_source(self, run: RecordedRun) -> Counter[str]:
        total: Counter[str] = Counter()
        for shard in _shards(run):
            column = pl.DataFrame(storage.read_parquet(shard.path, ["source"]))
            total.update(dict(column.group_by("source").len().iter_rows()))
        for step in _after(run):
            for file in step.dropped:
                column = pl.DataFrame(storage.read_parquet(file.path, ["source"]))
                total.subtract(dict(column.group_by("source").len().iter_rows()))
        return total

    def _with_fates(self, rows: pl.DataFrame, other: RecordedRun, texts: pl.Series) -> pl.DataFrame:
        """Rows with what the other run did with them. texts: digests of the rows that only the other corpus has."""
        fates = [pl.DataFrame(schema={"id": pl.UInt64, "fate": pl.UInt32})]
        wanted = rows.select("id")
        for step in other.steps if rows.height else ():
            if step.kept is None or step.key in self.shared:
                continue
            places: dict[str, int] = {}
            for reason in step.reasons:
                places[reason] = len(self.reasons)
                self.reasons.append((step.step, reason))
            for file in step.dropped:
                table = storage.read_parquet(file.path, ["id", "stage", "reason"])
                frame = pl.DataFrame({"id": pl.Series(table["id"]).hash()}).with_columns(
                    stage=pl.Series(table["stage"]), reason=pl.Series(table["reason"])
                )
                frame = frame.join(wanted, on="id", how="semi")
                name = pl.concat_str("stage", "reason", separator="/")
                fate = name.replace_strict(places, return_dtype=pl.UInt32)
                fates.append(frame.select("id", fate=fate))
        rows = rows.drop("fate").join(pl.concat(fates), on="id", how="left")
        moved = pl.col("fate").is_null() & pl.col("digest").is_in(texts.implode())
        return rows.with_columns(moved=moved).select(self._empty().columns)

    def _ids(self, rows: pl.DataFrame, run: RecordedRun) -> pl.DataFrame:
        """Rows, in order of file and row, with their ids as `name`. Only files that hold one are read."""
        tables = [rows.clear().with_columns(name=pl.lit(None, pl.String))]
        shards = _shards(run)
        for (number,), group in rows.group_by("file", maintain_order=True):
            ids = pl.Series(storage.read_parquet(shards[int(number)].path, ["id"])["id"])
            tables.append(group.with_columns(name=ids.gather(group["row"])))
        return pl.concat(tables)


def _shards(run: RecordedRun) -> tuple[TableRef, ...]:
    corpus = run.product("corpus")
    return corpus.shards if corpus else ()


def _after(run: RecordedRun) -> list[Manifest]:
    """The steps after the corpus that drop rows: those without tokens cannot be trained on."""
    return [step for step in run.steps if step.kept not in (None, RECORDS)]


def _final(run: RecordedRun) -> tuple[str | None, ...]:
    """The keys of the steps that say which rows a run kept."""
    corpus = run.product("corpus")
    return (corpus.key if corpus else None, *(step.key for step in _after(run) if step.dropped))


def _hashes(file: TableRef, column: str) -> pl.Series:
    return pl.Series(storage.read_parquet(file.path, [column])[column]).hash()

"""The ledger: what a run did, and the fate of every row read back from it.

`run.json` names the steps of a run; each step's manifest names its shards; a dropped row lies in the step that dropped
it, with the reason and the evidence. Nothing else is stored: every answer here is read back from what the steps wrote.
`lineage.jsonl` holds one OpenLineage event per step, for catalogues that collect such events.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.curate import Corpus
from pipelines.errors import CheckFailed, RunError, nearest
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Performed
from pipelines.recipe import Recipe

NAMESPACE = uuid.UUID("8d7c1e5a-52b4-5b6c-9f0e-77696e6e6f77")
"""The name space of the run ids in lineage events, which must be UUIDs."""


class RunFiles(NamedTuple):
    """A run that was recorded: its id, its folder, `run.json`, and its steps' manifests in order."""

    id: str
    folder: str
    info: dict[str, Any]
    steps: tuple[Manifest, ...]

    def step(self, name: str) -> Manifest | None:
        """The run's step of that name, or None where the recipe leaves it out."""
        return next((step for step in self.steps if step.step == name), None)

    @property
    def records(self) -> Manifest:
        """The last step that holds text records: the corpus."""
        return self.steps[[step.key for step in self.steps].index(self.info["corpus"])]


def run_id(recipe: Recipe, last: Manifest) -> str:
    """`<recipe>-<8 hex>`: the same recipe on the same inputs is the same run, so that repeating it adds nothing."""
    return f"{recipe.name}-{hashlib.blake2b(last.key.encode(), digest_size=4).hexdigest()}"


def record(root: str, recipe: Recipe, recipe_text: str, corpus: Corpus, performed: list[Performed]) -> RunFiles:
    """Write `run.json`, `recipe.yaml` and `lineage.jsonl` of a run that is done."""
    name = run_id(recipe, corpus.packs or corpus.records)
    folder = storage.join(root, "runs", name)
    made = [entry for entry in performed if not entry.reused]
    before = (
        storage.read_json(storage.join(folder, "run.json")) if storage.exists(storage.join(folder, "run.json")) else {}
    )
    seconds = {step["key"]: step["seconds"] for step in before.get("steps", [])}
    info = {
        "run": name,
        "recipe": recipe.name,
        "finished": _now() if made or not before else before["finished"],
        "corpus": corpus.records.key,
        **{part: step.key for part in ("tokenizer", "tokens", "packs") if (step := getattr(corpus, part)) is not None},
        # A reused step keeps the seconds that it once took: that is what the report's rates are about.
        "steps": [
            {
                "folder": entry.step.folder,
                "name": entry.step.name,
                "key": entry.step.key,
                "seconds": seconds.get(entry.step.key, 0.0) if entry.reused else round(entry.seconds, 3),
            }
            for entry in performed
        ],
        "settings": recipe.model_dump(mode="json"),
    }
    storage.write_bytes(storage.join(folder, "recipe.yaml"), recipe_text.encode())
    for entry in made:
        storage.append_line(storage.join(folder, "lineage.jsonl"), _event(root, name, entry))
    storage.write_json(storage.join(folder, "run.json"), info)
    return open_run(root, name)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _event(root: str, run: str, entry: Performed) -> str:
    """One OpenLineage RunEvent for a step that was made."""
    # Imported here: half a second, and most commands write no event.
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, RunEvent, RunState
    from openlineage.client.event_v2 import Run as LineageRun
    from openlineage.client.facet_v2 import output_statistics_output_dataset
    from openlineage.client.serde import Serde

    manifest = entry.manifest
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=manifest.rows_kept, size=sum(shard.bytes for shard in manifest.shards), fileCount=len(manifest.shards)
    )
    event = RunEvent(
        eventType=RunState.COMPLETE,
        eventTime=_now(),
        run=LineageRun(runId=str(uuid.uuid5(NAMESPACE, f"{run}/{manifest.key}/{_now()}"))),
        job=Job(namespace="winnow", name=f"{run}.{manifest.step}"),
        producer="https://winnow",
        inputs=[InputDataset(namespace=root, name=f"steps/{parent}") for parent in manifest.parents],
        outputs=[
            OutputDataset(namespace=root, name=f"steps/{manifest.key}", outputFacets={"outputStatistics": statistics})
        ],
    )
    return str(Serde.to_json(event))


def open_run(root: str, name: str) -> RunFiles:
    """A recorded run. `name` may be a unique beginning of its id, or `latest`. Errors: RunError naming the nearest."""
    known = storage.folders(storage.join(root, "runs"))
    if not known:
        raise RunError(
            f"{root}: no runs here; `winnow build RECIPE --root {root}` makes one, and `--root` names another place"
        )
    infos = {
        run: storage.read_json(storage.join(root, "runs", run, "run.json"))
        for run in known
        if storage.exists(storage.join(root, "runs", run, "run.json"))
    }
    name = name.rstrip("/").rsplit("/", 1)[-1]
    if name == "latest" and infos:
        name = max(infos, key=lambda run: str(infos[run]["finished"]))
    found = [name] if name in infos else [run for run in infos if run.startswith(name)]
    if len(found) != 1:
        raise RunError(
            f"{name}: {'several runs begin so' if found else 'no such run'} in {root}; {nearest(name, found or known)}"
        )
    info = infos[found[0]]
    steps = []
    for step in info["steps"]:
        manifest = manifests.load(root, step["folder"])
        if manifest is None:
            raise RunError(f"run {found[0]}: step {step['folder']} is gone from {root}/steps; build the recipe again")
        steps.append(manifest)
    return RunFiles(found[0], storage.join(root, "runs", found[0]), info, tuple(steps))


def record_scores(run: RunFiles, scores: Sequence[dict[str, Any]]) -> None:
    """Keep a checkpoint's scores with the run whose packs it was trained on; a later score replaces an earlier one."""
    path = storage.join(run.folder, "evaluations.json")
    before = storage.read_json(path) if storage.exists(path) else []
    lines = {(line["benchmark"], line["checkpoint"]): line for line in [*before, *scores]}
    storage.write_json(path, list(lines.values()))


def why(run: RunFiles, row: str) -> dict[str, Any]:
    """The fate of one row: the steps that kept it, the one that dropped it and why, and its text as it stood.

    Errors: RunError where the run never had such a row.
    """
    history: list[dict[str, Any]] = []
    last: dict[str, Any] | None = None
    for step in run.steps:
        if step.rows_in is None or step.step == "tokens":
            continue
        for verdict, shards in (("dropped", step.dropped), ("kept", step.shards)):
            found = _find(row, [shard.path for shard in shards])
            if found is None:
                continue
            path, last = found
            entry = {"step": step.step, "verdict": verdict, "shard": path}
            if verdict == "dropped":
                entry |= {"stage": last["stage"], "reason": last["reason"], "evidence": json.loads(last["evidence"])}
            history.append(entry)
            break
        if history and history[-1]["verdict"] == "dropped":
            break
    if last is None:
        sources = [source["name"] for source in run.info["settings"]["sources"]]
        raise RunError(
            f"{row}: no such row in run {run.id}; an id is <source>/<file>/<row>; sources: {', '.join(sources)}"
        )
    return {
        "row": row,
        "run": run.id,
        "verdict": history[-1]["verdict"],
        "history": history,
        "instruction": last["instruction"],
        "response": last["response"],
        "condition": last["condition"],
    }


def _find(row: str, paths: list[str]) -> tuple[str, dict[str, Any]] | None:
    """The shard that holds a row, and the row. Only the ids of a shard are read until one matches."""
    for path in paths:
        at = pc.index(storage.read_parquet(path, ["id"])["id"], row).as_py()
        if at >= 0:
            return path, storage.read_parquet(path).slice(at, 1).to_pylist()[0]
    return None


def scores(run: RunFiles, rows: Sequence[str]) -> pa.Table:
    """What the corpus says of rows, one line for each of `rows`: id, source, and the `score_*` columns that it has.

    A row that the corpus does not hold has nulls. Only those columns of the corpus are read, a shard at a time.
    """
    asked = pl.DataFrame({"id": list(rows)}, schema={"id": pl.String})
    found = [asked.clear().with_columns(source=pl.lit(None, pl.String))]
    for shard in run.records.shards:
        names = [name for name in storage.columns(shard.path) if name in ("id", "source") or name.startswith("score_")]
        table = pl.DataFrame(storage.read_parquet(shard.path, names))
        found.append(table.join(asked, on="id", how="semi"))
    known = pl.concat(found, how="diagonal")
    return asked.join(known, on="id", how="left", maintain_order="left").to_arrow()


def verify(run: RunFiles) -> dict[str, int]:
    """Check a run from its files: every digest, every count, every id once. Errors: CheckFailed naming the file."""
    files = rows = 0
    for step in run.steps:
        for index, part in enumerate(step.parts):
            part.check(f"step {step.step}, part {index}")
        for shard in (*step.shards, *step.dropped):
            if storage.size(shard.path) != shard.bytes or storage.digest(shard.path) != shard.digest:
                raise CheckFailed(
                    f"{shard.path}: missing or changed since it was written; remove its step's folder and build again"
                )
            files += 1
    seen = pa.chunked_array([column for _, column in _columns(run.records, "id")] or [pa.array([], pa.string())])
    rows = len(seen)
    if pl.Series(seen).n_unique() != rows:
        raise CheckFailed(f"run {run.id}: {rows - pl.Series(seen).n_unique()} ids of the corpus stand twice")
    return {"steps": len(run.steps), "files": files, "rows": rows}


def _columns(step: Manifest, name: str) -> Iterator[tuple[str, pa.Array]]:
    for shard in step.shards:
        yield shard.path, storage.read_parquet(shard.path, [name])[name].combine_chunks()


def diff(left: RunFiles, right: RunFiles) -> dict[str, Any]:
    """What changed between two runs: settings, rows and reasons step by step, and the rows that only one corpus has.

    Rows are compared by the digest of their content, so a row that only moved is no difference.
    """
    texts = [
        pl.Series(
            pa.chunked_array(
                [column.cast(pa.binary()) for _, column in _columns(run.records, "digest")]
                or [pa.array([], pa.binary())]
            )
        )
        for run in (left, right)
    ]
    ids = [
        pl.Series(
            pa.chunked_array([column for _, column in _columns(run.records, "id")] or [pa.array([], pa.string())])
        )
        for run in (left, right)
    ]
    only = []
    for mine, other in ((0, 1), (1, 0)):
        lone = ~texts[mine].is_in(texts[other].unique().implode())
        only.append({"rows": int(lone.sum()), "examples": ids[mine].filter(lone).head(10).to_list()})
    names = list(dict.fromkeys(step.step for run in (left, right) for step in run.steps))
    steps = []
    for name in names:
        a, b = left.step(name), right.step(name)
        counts = [step.counts if step is not None and step.rows_in is not None else {} for step in (a, b)]
        reasons = {
            reason: [counts[0].get(reason, 0), counts[1].get(reason, 0)] for reason in sorted({*counts[0], *counts[1]})
        }
        steps.append(
            {
                "name": name,
                "same": a is not None and b is not None and a.key == b.key,
                "rows_kept": [step.rows_kept if step is not None else None for step in (a, b)],
                "dropped": {reason: pair for reason, pair in reasons.items() if pair[0] != pair[1]},
            }
        )
    return {
        "runs": [left.id, right.id],
        "settings": _changes(left.info["settings"], right.info["settings"], ""),
        "steps": steps,
        "only_left": only[0],
        "only_right": only[1],
    }


def _changes(left: Any, right: Any, where: str) -> dict[str, list[Any]]:
    """Where two JSON values differ: path -> [left, right]."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = list(dict.fromkeys([*left, *right]))
        return {
            path: pair
            for key in keys
            for path, pair in _changes(left.get(key), right.get(key), f"{where}.{key}" if where else key).items()
        }
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return {
            path: pair
            for i, (a, b) in enumerate(zip(left, right, strict=True))
            for path, pair in _changes(a, b, f"{where}.{i}").items()
        }
    return {} if left == right else {where: [left, right]}

"""What does `winnow why` take on a corpus of 10 million rows?

The root is made here, through the ledger, with the steps, files and columns of a build: 153 shards of 65,536 rows, of
which steps drop some with reasons and rewrite some, two epochs of packs, and a run. Only the texts are drawn from a
list of words, and the work of the steps is not done.

CPU time is user and system time of the command and of all that it started and waited for. Medians of `REPEATS`. An
index is made by the first command that needs it. WINNOW_WHY_ROOT names a folder in which the root is kept, to measure
again.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128
from filters.stage import Outcome, mark, with_texts
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, StepContext, Target, commit
from pipelines.ledger.runs import RecordedRun, record
from pipelines.ledger.storage import TableRef
from pipelines.recipe import Recipe
from pipelines.records import record_schema
from pipelines.steps.duplicates.exact import EXACT_DUPLICATES
from pipelines.steps.duplicates.near import NEAR_DUPLICATES
from pipelines.steps.ingest import INGEST
from pipelines.steps.pack import PACK
from pipelines.steps.products import PACKS, ROW_FATES
from pipelines.steps.refine import REFINE
from pipelines.steps.tokenize import TOKENS
from pipelines.steps.train_tokenizer import TOKENIZER

ROWS = 10_000_000
SHARD_ROWS = 65_536
SOURCES = 10
WORDS = 3_000
INSTRUCTION_WORDS, RESPONSE_WORDS = 10, 40
EPOCHS = 2
CONTEXT = 4_097
SHARDS_PER_PACK_FILE = 10
REPEATS = 5
WINNOW = Path(sys.executable).parent / "winnow"

Ints = npt.NDArray[np.int64]


def words(count: int, rows: int, generator: np.random.Generator) -> pa.StringArray:
    """Texts of so many words, [rows]."""
    letters = np.array(list("etaoinshrdlucmfwyp"))
    lexicon = np.random.default_rng(0)
    known = pa.array(["".join(lexicon.choice(letters, lexicon.integers(2, 9))) for _ in range(WORDS)])
    columns = [known.take(pa.array(generator.integers(0, WORDS, rows))) for _ in range(count)]
    return as_array(pc.binary_join_element_wise(*columns, " "))


def ingest(places: tuple[int, int, int], target: Target) -> Part:
    """Rows `first` to `last` of a source, of which one in a thousand is no record."""
    source, first, last = places
    rows = last - first
    generator = np.random.default_rng([source, first])
    instruction, response = (words(count, rows, generator) for count in (INSTRUCTION_WORDS, RESPONSE_WORDS))
    name = f"source{source}"
    numbers = pa.array(np.arange(first, last)).cast(pa.string())
    condition = pa.array(["direct"]).take(pa.array(np.zeros(rows, np.int32)))
    columns = [
        as_array(pc.binary_join_element_wise(pa.scalar(f"{name}/rows"), numbers, "/")),
        pa.array([name]).take(pa.array(np.zeros(rows, np.int32))),
        condition,
        instruction,
        response,
        digest128(condition, instruction, response),
    ]
    return _drop(pa.table(columns, schema=record_schema()), 0.001, "conform", "null_response", {}, target)


def refine(shard: TableRef, target: Target) -> Part:
    """Rewrites one response in a hundred, and drops one row in fifty."""
    table = storage.read_parquet(shard.path).combine_chunks()
    chosen = np.flatnonzero(np.random.default_rng(shard.rows).random(table.num_rows) < 0.01)
    texts = [f"{text} (repaired)" for text in table["response"].take(pa.array(chosen)).to_pylist()]
    table = with_texts(table, {"response": (chosen, texts)})
    return _drop(table, 0.02, "length", "too_long", {"value": 9000.0, "threshold": 8192.0}, target)


def duplicates(stage: str, share: float, shard: TableRef, target: Target) -> Part:
    """Drops a share of the rows in favour of the first row of their shard."""
    table = storage.read_parquet(shard.path).combine_chunks()
    evidence: dict[str, Any] = {"twin": table["id"][0].as_py()}
    if stage == "near_duplicate":
        evidence |= {"jaccard": {"instruction": 0.91, "response": 0.87}}
    return _drop(table, share, stage, stage, evidence, target)


def _drop(table: pa.Table, share: float, stage: str, reason: str, evidence: dict[str, Any], target: Target) -> Part:
    dropped = np.random.default_rng(target.index).random(table.num_rows) < share
    dropped[0] = False
    mask = pa.array(dropped)
    marked = mark(table.filter(mask), stage, reason, [json.dumps(evidence)] * int(dropped.sum()))
    return commit(Outcome(table.filter(pc.invert(mask)), marked), table, target)


def tokenize(shard: TableRef, target: Target) -> Part:
    """A token for each word."""
    ids = as_array(storage.read_parquet(shard.path, ["id"])["id"])
    generator = np.random.default_rng(0)
    columns = [ids]
    for count in (INSTRUCTION_WORDS, RESPONSE_WORDS):
        offsets = np.arange(len(ids) + 1, dtype=np.int32) * count
        values = generator.integers(0, WORDS, offsets[-1]).astype(np.uint16)
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(values)))
    file = storage.write_arrow(target.path(suffix=".arrow"), pa.table(columns, ["id", "instruction", "response"]))
    return Part(rows_in=len(ids), files={"tokens": (file,)})


def fates(shard: TableRef, target: Target) -> Part:
    """Every row is drawn in every epoch."""
    rows = shard.rows
    table = pa.table(
        {
            "reason": pa.array([""]).take(pa.array(np.zeros(rows, np.int32))),
            "held_out": pa.array(np.zeros(rows, np.bool_)),
            "truncated": pa.array(np.zeros(rows, np.bool_)),
            "draws": pa.array(np.full(rows, EPOCHS, np.uint16)),
        }
    )
    return part(fates=storage.write_parquet(target.path("row_fates"), table))


def packs(item: tuple[int, tuple[TableRef, ...]], target: Target) -> Part:
    """The rows of some shards, shuffled, in packs."""
    epoch, shards = item
    ids = pa.concat_arrays([as_array(storage.map_arrow(shard.path)["id"]) for shard in shards])
    ids = ids.take(pa.array(np.random.default_rng(epoch).permutation(len(ids))))
    length = INSTRUCTION_WORDS + RESPONSE_WORDS
    first = np.minimum(np.arange(0, len(ids) + CONTEXT // length, CONTEXT // length), len(ids)).astype(np.int32)
    tokens = np.zeros(len(ids) * length, np.uint16)
    lengths = [np.full(len(ids), count, np.int32) for count in (INSTRUCTION_WORDS, RESPONSE_WORDS)]
    table = pa.table(
        {
            "tokens": pa.ListArray.from_arrays(pa.array(first * length), pa.array(tokens)),
            "instruction_lengths": pa.ListArray.from_arrays(pa.array(first), pa.array(lengths[0])),
            "response_lengths": pa.ListArray.from_arrays(pa.array(first), pa.array(lengths[1])),
            "ids": pa.ListArray.from_arrays(pa.array(first), ids),
        }
    ).replace_schema_metadata({"winnow": json.dumps({"epoch": epoch, "context": CONTEXT})})
    return Part(files={PACKS: (storage.write_arrow(target.path(suffix=".arrow"), table),)})


def make_root(root: str, rows: int = ROWS) -> RecordedRun:
    """Make the root, and record the run."""
    recipe = Recipe.model_validate(
        {
            "name": "bulk",
            "sources": [
                {"name": f"source{n}", "path": "rows.jsonl", "columns": {"instruction": "q", "response": "a"}}
                for n in range(SOURCES)
            ],
            "stages": [{"kind": "repair"}, {"kind": "length", "max_chars": 8192}],
            "sampling": {"epochs": EPOCHS, "context": CONTEXT},
        }
    )
    own = rows // SOURCES
    items = [
        (source, first, min(first + SHARD_ROWS, own))
        for source in range(SOURCES)
        for first in range(0, own, SHARD_ROWS)
    ]
    sources = [
        {"name": spec.name, "items": len(items) // SOURCES, "files": [["rows", ".jsonl", "0" * 32]], "unread": []}
        for spec in recipe.sources
    ]
    with LocalEngine(os.cpu_count() or 1) as engine:
        run = Run(root, engine)
        records = run.do(INGEST.step({"sources": sources}), lambda context: context.map(ingest, items))
        stages = {"stages": [stage.parameters() for stage in recipe.stages]}
        records = _mapped(run, REFINE.step(stages, (records.key,)), refine, records)
        for step, stage, share in (
            (EXACT_DUPLICATES, "exact_duplicate", 0.03),
            (NEAR_DUPLICATES, "near_duplicate", 0.05),
        ):
            work = functools.partial(duplicates, stage, share)
            records = _mapped(run, step.step({}, (records.key,)), work, records)
        tokenizer = run.do(TOKENIZER.step({}), _write_tokenizer)
        tokens = _mapped(run, TOKENS.step({}, (records.key, tokenizer.key)), tokenize, records)

        def pack(context: StepContext) -> Sequence[Part]:
            files = [one.table("fates") for one in context.map(fates, tokens.shards, "fates-of-rows")]
            kept = []
            for number, file in enumerate(files):
                data = storage.read_bytes(file.path)
                written = storage.write_bytes(Target(context.folder, number).path("row_fates"), data)
                kept.append(TableRef(written.path, written.bytes, written.digest, file.rows))
            shards = tokens.shards
            groups = [
                (epoch, tuple(shards[first : first + SHARDS_PER_PACK_FILE]))
                for epoch in range(EPOCHS)
                for first in range(0, len(shards), SHARDS_PER_PACK_FILE)
            ]
            return [Part(files={ROW_FATES: tuple(kept)}), *context.map(packs, groups)]

        packed = run.do(PACK.step({}, (tokens.key, tokenizer.key)), pack)
        products = {"corpus": records, "tokenizer": tokenizer, "tokens": tokens, "packs": packed}
        return record(root, recipe.name, "", recipe.model_dump(mode="json"), products, run.results)


def _mapped(run: Run, step: Any, work: Any, records: Manifest) -> Manifest:
    return run.do(step, lambda context: context.map(work, records.shards), records)


def _write_tokenizer(context: StepContext) -> list[Part]:
    return [part(tokenizer=storage.write_json(f"{context.folder}/tokenizer.json", {}))]


def bench(_: Path | None) -> dict[str, list[dict[str, object]]]:
    """The commands that make an index, and those that use it."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.environ.get("WINNOW_WHY_ROOT") or folder
        if not Path(root, "runs").exists():
            make_root(root)
        return measure(root)


def measure(root: str) -> dict[str, list[dict[str, object]]]:
    """The two tables, on a root that `make_root` made."""
    from pipelines.ledger.runs import open_run

    run = open_run(root, "latest")
    size = sum(file.bytes for step in run.steps for file in step.all_files)
    kept = _first_id(run.records.shards[77], 1_234)
    by_step = {step.step: step for step in run.steps}
    text = storage.read_row(run.records.shards[50].path, 4_321)
    rewritten = _first_rewritten(run.records.shards[99])
    asked: dict[str, list[str]] = {
        "a row in the packs": [kept],
        "a row that was rewritten": [rewritten],
        "a row that a filter dropped": [_first_id(by_step["refine"].dropped[20], 7)],
        "a near duplicate": [_first_id(by_step["near-duplicates"].dropped[140], 9)],
        "a row that is no record": [_first_id(run.steps[0].dropped[3], 5)],
        "a number that never was": ["source3/rows/1000007"],
        "a misspelt file": ["source3/rwos/17"],
        "--digest": ["--digest", text["digest"].hex()],
        "--text": ["--text", text["instruction"]],
    }
    first = []
    for name, made in (("a row in the packs", "row-index, pack-index"), ("--text", "text-index")):
        for old in _folders(root, made):
            shutil.rmtree(old)
        cpu, wall = _run([*asked[name], "--root", root])
        indexed = sum(
            file.stat().st_size for index in _folders(root, made) for file in index.rglob("*") if file.is_file()
        )
        first.append(
            {
                "first": name,
                "makes": made,
                "CPU seconds": f"{cpu:.1f}",
                "wall seconds": f"{wall:.1f}",
                "MB on disk": f"{indexed / 1e6:.1f}",
            }
        )
    rows = []
    for name, arguments in asked.items():
        costs = [_run([*arguments, "--root", root]) for _ in range(REPEATS)]
        cpu, wall = (statistics.median(column) for column in zip(*costs, strict=True))
        rows.append({"winnow why": name, "CPU seconds": f"{cpu:.2f}", "wall seconds": f"{wall:.2f}"})
    counts = [{"rows": f"{run.steps[0].rows_in:,}", "shards": len(run.steps[0].shards), "GB": f"{size / 1e9:.1f}"}]
    return {"The root": counts, "The first command, which makes the index": first, "Commands after it": rows}


def _folders(root: str, names: str) -> list[Path]:
    """The steps whose names begin so."""
    return [path for path in Path(root, "steps").iterdir() if path.name.startswith(tuple(names.split(", ")))]


def _first_id(file: TableRef, row: int) -> str:
    return str(storage.read_row(file.path, row, ["id"])["id"])


def _first_rewritten(file: TableRef) -> str:
    table = storage.read_parquet(file.path, ["id", "response"])
    return str(table.filter(pc.match_substring(table["response"], "(repaired)"))["id"][0].as_py())


def _run(arguments: Sequence[str]) -> tuple[float, float]:
    """CPU and wall seconds of a command."""
    before, started = os.times(), time.monotonic()
    done = subprocess.run([WINNOW, "why", *arguments], capture_output=True, check=False)
    wall, after = time.monotonic() - started, os.times()
    assert done.returncode in (0, 2) and b"Traceback" not in done.stderr, done.stderr.decode()
    return after.children_user + after.children_system - before.children_user - before.children_system, wall

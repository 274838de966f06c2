"""From sources to scores on an S3 API: the bytes of a local disk, and every audit works there."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch

import winnow
from flows.similar import similar
from pipelines.audit.clusters import clusters
from pipelines.audit.diff import diff
from pipelines.audit.report import write_report
from pipelines.audit.runs import runs
from pipelines.audit.verify import verify
from pipelines.audit.why import why
from pipelines.errors import CheckFailed
from pipelines.export import EXPORTS
from pipelines.ledger import storage
from pipelines.ledger.runs import open_run
from tests.compare_roots import LEFT_OUT
from tests.object_store import ObjectStore

PAIR = {"instruction": "Why is the sky blue above the sea?", "response": "Blue light is scattered most by the air."}


def recipe(inputs: str) -> dict[str, object]:
    columns = {"instruction": "instruction", "response": "response"}
    return {
        "name": "stored",
        "sources": [
            {"name": "pairs", "path": f"{inputs}/pairs/*.jsonl.gz", "columns": columns, "condition": "direct"},
            {"name": "table", "path": f"{inputs}/table", "columns": columns, "condition": "direct"},
            {"name": "sums", "adapter": "generated_arithmetic", "rows": 300},
            {"name": "web", "adapter": "generated_web", "rows": 300},
        ],
        "stages": [{"kind": "strip_thinking"}, {"kind": "length"}],
        "contamination": {"benchmarks": [{"name": "generated", "rows": 100}]},
        "tokenizer": {"vocab_size": 600},
        "sampling": {"epochs": 1, "context": 257},
    }


@pytest.fixture(scope="module")
def bucket(s3_server: ObjectStore) -> str:
    return s3_server.bucket()


@pytest.fixture(scope="module")
def inputs(bucket: str) -> str:
    """Sources on the store: compressed JSON lines, and a folder with a Parquet file."""
    lines = [{**PAIR, "response": PAIR["response"] + end} for end in ("", "", " It does so all day.")]
    for number, line in enumerate(lines):
        data = gzip.compress(json.dumps(line).encode() + b"\n", mtime=0)
        storage.write_bytes(f"{bucket}/in/pairs/{number}.jsonl.gz", data)
    rows = [{"instruction": f"What comes after {n}?", "response": f"{n + 1} does"} for n in range(40)]
    storage.write_parquet(f"{bucket}/in/table/rows.parquet", pa.Table.from_pylist(rows))
    return f"{bucket}/in"


@pytest.fixture(scope="module")
def build(bucket: str, inputs: str) -> winnow.BuildAnswer:
    return winnow.build(recipe(inputs), f"{bucket}/root", workers=1)


def test_the_bytes_are_those_of_a_build_on_a_local_disk(build: winnow.BuildAnswer, inputs: str, tmp_path: Path) -> None:
    local = winnow.build(recipe(inputs), str(tmp_path), workers=1)
    assert local.run == build.run and local.dropped == build.dropped
    assert build.dropped["exact_duplicate/exact_duplicate"] and build.dropped["contamination/test_leak"]
    assert {name.partition("/")[0] for name in build.dropped} >= {"near_duplicate"}
    digests = [
        {
            name: storage.digest(storage.join(root, name))
            for name in storage.sizes(root)
            if Path(name).name not in LEFT_OUT - {"manifest.json"}
        }
        for root in (local.root, build.root)
    ]
    assert digests[0] == digests[1] and len(digests[0]) > 40
    again = winnow.build(recipe(inputs), build.root, workers=1)
    assert all(step.reused for step in again.steps)


def test_every_audit_works_there(build: winnow.BuildAnswer, tmp_path: Path) -> None:
    run = open_run(build.root, "latest")
    assert verify(run).rows == build.rows_kept
    assert storage.exists(write_report(run))
    assert [entry.run for entry in runs(build.root).runs] == [build.run]
    dropped = why(run, "pairs/1/0")
    assert dropped.verdict == "dropped" and dropped.history[-1].step == "exact-duplicates"
    kept = why(run, "table/rows/3")
    assert kept.verdict == "kept"
    assert clusters(run).largest
    found = similar(build.run, "\n".join(PAIR.values()), root=build.root)
    assert found.matches[0].id.startswith("pairs/")
    assert not diff(run, run).changes
    for name, export in EXPORTS.items():
        assert export(run, str(tmp_path / name)).rows


@pytest.mark.fault("an object of a root on S3 is changed", "verify names it")
def test_a_changed_object_is_found(build: winnow.BuildAnswer) -> None:
    path = build.corpus[0]
    data = storage.read_bytes(path)
    storage.write_bytes(path, data[:100] + b"x" + data[101:])
    try:
        with pytest.raises(CheckFailed, match=r"s3://.*part-00000"):
            verify(open_run(build.root, build.run))
    finally:
        storage.write_bytes(path, data)
    assert verify(open_run(build.root, build.run)).steps


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_model_is_trained_evaluated_and_served_there_and_scores_rows(
    build: winnow.BuildAnswer, one_thread: None, tmp_path: Path
) -> None:
    from flows.configure import configure
    from flows.evaluate import evaluate
    from flows.generate import generate
    from flows.score import score
    from tests.flows.serving.test_serve import serving
    from training import loop
    from training.evaluation.evaluate import ModelSpec
    from training.folders import find_checkpoint
    from training.provenance import find_packs

    packs = find_packs(build.run, build.root)
    config = configure("tiny", packs.shards, 2, ["precision=fp32"])
    out = f"{build.root}/training/two-steps"
    assert loop.train(packs.shards, packs.tokenizer, config, out, packs.key)["steps"] == 2
    folder = find_checkpoint("latest", build.root)
    assert folder == f"{out}/step-00000002"
    answer = evaluate(ModelSpec(folder), root=build.root, limit=3)
    assert answer.scores[0].all.n == 3
    assert storage.files_below(f"{build.root}/evaluations")
    made, again = (score(build.run, [folder], name="early", limit=30, root=build.root) for _ in range(2))
    assert made.rows == again.rows > 20 and made.path.startswith("s3://") and again.reused and not made.reused
    assert generate(folder, "What comes after 3?", max_tokens=4, root=build.root, device="cpu").checkpoint == folder
    with serving(folder, tmp_path / "log", "--model-name", "stored") as server, server.client() as client:
        asked = [{"role": "user", "content": "What comes after 3?"}]
        said = client.chat.completions.create(messages=asked, model="stored", max_tokens=4)
        assert said.usage.completion_tokens <= 4


def test_packs_are_the_same_where_neither_text_nor_tokens_are_stored(build: winnow.BuildAnswer, inputs: str) -> None:
    answer = winnow.build(recipe(inputs) | {"store": []}, f"{build.root}-small", workers=1)
    assert not answer.corpus
    assert [storage.digest(file) for file in answer.tokens] == [storage.digest(file) for file in build.tokens]


@pytest.mark.fault("two builds at once on one root on S3", "one waits for the other, same bytes")
def test_two_builds_at_once_there_end_with_the_bytes_of_one(
    build: winnow.BuildAnswer, bucket: str, inputs: str, tmp_path: Path
) -> None:
    path = tmp_path / "stored.json"
    path.write_text(json.dumps(recipe(inputs)))  # JSON is YAML
    words = ["build", str(path), "--root", f"{bucket}/two", "--engine", "local", "--workers", "1", "--json"]
    command = [sys.executable, "-m", "flows.cli.main", *words]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    for out, _ in ended:
        answer = json.loads(out)
        for product in ("corpus", "tokens"):
            found = [storage.digest(file) for file in answer[product]]
            assert found == [storage.digest(file) for file in getattr(build, product)]

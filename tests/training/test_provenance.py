"""From a step to its rows with their source and scores, and from a row to its steps and checkpoints."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from flows.configure import configure
from pipelines.errors import CheckFailed, RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.runs import open_run
from tests.trainings import train_on
from training import checkpoint, loop
from training.batches import Packs, batch_of_step, packs_of_step
from training.model_card import CardScore, model_card, read_scores
from training.provenance import check_packs, find_packs, trace
from training.row_use import steps_of_packs, trainings_that_read

RECIPE = """
name: traced
sources:
  - {name: generated_arithmetic, adapter: generated_arithmetic, rows: 300}
  - {name: generated_conversations, adapter: generated_conversations, rows: 300}
stages: [{kind: strip_thinking}]
exact_duplicates: false
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {epochs: 2, context: 129, validation: 0.1}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """root, and a training folder of three steps on a corpus built there, checkpoints after 2 and 3."""
    root = tmp_path_factory.mktemp("root")
    return str(root), train_on(root, RECIPE)


def test_the_rows_are_those_of_the_steps_batch(trained: tuple[str, str]) -> None:
    root, out = trained
    packs = Packs(find_packs("latest", root).shards)
    for step in (1, 2, 3):
        traced = trace(out, step, root)
        assert [row.id for row in traced.rows] == list(batch_of_step(packs, step, 4).ids)
        assert traced.same is True and traced.total_steps == 3 and traced.run is not None
        assert {row.pack for row in traced.rows} == set(range(4 * step - 4, 4 * step))
    earlier = trace(f"{out}/step-00000002", 1, root)
    assert earlier.rows == trace(out, 1, root).rows


def test_source_and_scores_are_those_of_the_corpus(trained: tuple[str, str]) -> None:
    root, out = trained
    run = open_run(root, "latest")
    corpus = pa.concat_tables(storage.read_parquet(shard.path) for shard in run.records.shards).to_pylist()
    known = {row["id"]: row for row in corpus}
    rows = trace(out, 2, root).rows
    assert {row.source for row in rows} == {"generated_arithmetic", "generated_conversations"}
    scores = [name for name in corpus[0] if name.startswith("score_")]
    assert scores
    for row in rows:
        assert row.source == known[row.id]["source"]
        assert row.scores == {name: known[row.id][name] for name in scores}


def test_a_training_on_a_folder_needs_its_packs_named(trained: tuple[str, str], tmp_path: Path) -> None:
    root, out = trained
    packed = find_packs("latest", root)
    folder = tmp_path / "packs"
    (folder / "shards").mkdir(parents=True)
    for path in (*packed.shards, packed.tokenizer):
        name = "tokenizer.json" if path == packed.tokenizer else f"shards/{Path(path).name}"
        (folder / name).write_bytes(Path(path).read_bytes())
    alone = find_packs(str(folder), "")
    config = configure("tiny", alone.shards, 1)
    loop.train(alone.shards, alone.tokenizer, config, str(tmp_path / "training"), alone.key)
    with pytest.raises(RunError, match="name their folder: --packs FOLDER"):
        trace(str(tmp_path / "training"), 1, root)
    traced = trace(str(tmp_path / "training"), 1, root, str(folder))
    assert [row.id for row in traced.rows] == [row.id for row in trace(out, 1, root).rows]
    assert {row.source for row in traced.rows} <= {"generated_arithmetic", "generated_conversations"}
    with pytest.raises(RunError, match=r"not what .* was trained on"):
        trace(out, 1, root, str(folder))


def test_the_steps_that_read_a_row_are_those_whose_batch_has_it(trained: tuple[str, str]) -> None:
    root, out = trained
    packed = find_packs("latest", root)
    packs = Packs(packed.shards)
    batches = {step: batch_of_step(packs, step, 4).ids for step in range(1, len(packs) // 4 + 1)}
    packs_of_row: dict[str, list[int]] = {}
    for index in range(len(packs)):
        for name in packs[index].ids:
            packs_of_row.setdefault(name, []).append(index)
    assert max(packs.epoch(index) for places in packs_of_row.values() for index in places) == 1
    for name, places in packs_of_row.items():
        expected = [step for step, ids in batches.items() if name in ids]
        assert steps_of_packs(4, len(batches), places) == expected
        (use,) = trainings_that_read(root, packed.key, places)  # the training has had three steps, and ends there
        assert use.training == out and (use.step, use.total_steps) == (3, 3)
        assert use.read_at == tuple(step for step in expected if step <= 3) and use.to_read_at == ()
        steps = [step for step in (2, 3) if use.read_at and step >= use.read_at[0]]
        assert use.checkpoints == tuple(f"{out}/step-{step:08d}" for step in steps)
    assert trainings_that_read(root, "other packs", [0]) == []


def test_steps_and_packs_are_inverse() -> None:
    for step in (1, 2, 9):
        assert steps_of_packs(5, 9, packs_of_step(step, 5)) == [step]
    assert steps_of_packs(5, 9, [44, 0, 3, 45, 12]) == [1, 3, 9]  # pack 45 is past the ninth step


def test_a_row_of_later_steps_is_not_in_todays_checkpoint(trained: tuple[str, str], tmp_path: Path) -> None:
    root, _ = trained
    packed = find_packs("latest", root)

    class Stop(Exception):
        pass

    def stop(metrics: dict) -> None:
        if metrics["step"] == 4:
            raise Stop

    config = configure("tiny", packed.shards, 6, ["checkpoint_steps=2"])
    with pytest.raises(Stop):
        loop.train(packed.shards, packed.tokenizer, config, str(tmp_path / "training/two"), packed.key, stop)
    (use,) = trainings_that_read(str(tmp_path), packed.key, [7, 9, 21])  # packs of steps 2, 3 and 6
    assert (use.read_at, use.to_read_at, use.step) == ((2, 3), (6,), 4)
    assert [Path(folder).name for folder in use.checkpoints] == ["step-00000002", "step-00000004"]


def test_an_unknown_step_is_an_error_with_the_range(trained: tuple[str, str]) -> None:
    with pytest.raises(WinnowError, match="has steps 1 to 3"):
        trace(trained[1], 4, trained[0])


class TestSettings:
    def test_override_a_key_and_one_below(self, trained: tuple[str, str]) -> None:
        shards = find_packs("latest", trained[0]).shards
        config = configure("tiny", shards, None, ["lr=2e-4", "model.norm=pre", "checkpoint_minutes=5"])
        assert (config.lr, config.model.norm, config.checkpoint_minutes) == (2e-4, "pre", 5.0)
        assert config.model.hidden == configure("tiny", shards).model.hidden

    @pytest.mark.parametrize(
        ("setting", "told"),
        [
            ("learning=1", "--set learning=1"),
            ("lr", "write key=value"),
            ("model.hiden=3", "did you mean 'hidden'"),
            ("batch_packs=0", "batch_packs: expected a number of at least 1, got 0"),
            ("model.heads=3", "must split into 3 heads"),
        ],
    )
    def test_a_wrong_setting_is_named(self, trained: tuple[str, str], setting: str, told: str) -> None:
        with pytest.raises(WinnowError, match=told):
            configure("tiny", find_packs("latest", trained[0]).shards, None, [setting])


def test_the_card_of_an_export_describes_the_corpus(trained: tuple[str, str]) -> None:
    root, out = trained
    run = open_run(root, "latest")
    card = model_card(checkpoint.read(out), True, run, [CardScore("gsm8k", "direct", "strict", 8, 0.5, 0.2, 0.8)])
    assert card == model_card(
        checkpoint.read(out), True, run, [CardScore("gsm8k", "direct", "strict", 8, 0.5, 0.2, 0.8)]
    )
    for name in ("generated_arithmetic", "generated_conversations"):
        assert re.search(rf"\| {name}: .* \| Apache-2.0 \| 300 \|", card)
    for step in run.steps:
        if step.kept:
            assert f"| {step.step} | {step.rows_in:,} | {step.rows_kept:,} | {step.rows_dropped:,} |" in card
    assert "checked against no benchmark" in card
    assert "| gsm8k | direct | strict | 8 | 50.0% | 20.0% to 80.0% |" in card
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
    assert read_scores(checkpoint.read(out), True, root) == []
    assert root not in card


@pytest.mark.fault("a bit of a file of packs flips before a training", "an error names the file")
def test_packs_that_changed_since_they_were_written_are_not_trained_on(
    trained: tuple[str, str], tmp_path: Path
) -> None:
    root = shutil.copytree(trained[0], tmp_path / "root")
    packs = find_packs("latest", str(root))
    seen: list[tuple[int, int]] = []
    check_packs(packs, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == sum(Path(file.path).stat().st_size for file in packs.files)
    with Path(packs.shards[-1]).open("r+b") as file:
        file.seek(2_000)
        byte = file.read(1)
        file.seek(2_000)
        file.write(bytes([byte[0] ^ 16]))
    with pytest.raises(CheckFailed, match=re.escape(packs.shards[-1])):
        check_packs(packs)

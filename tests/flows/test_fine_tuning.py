"""`winnow train --from`: a training begins with the weights of a model, says so, and is found by what follows rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flows.build import build
from flows.cli.app import app
from flows.configure import Configured, configure_training
from flows.evaluate import evaluate
from flows.forget import forget
from flows.gc import gc
from flows.prefect.train import short_run
from flows.verify import verify
from pipelines.audit.forget import Selection
from pipelines.errors import CheckFailed, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.runs import open_run
from tests.trainings import train_on
from training import checkpoint, journal, loop
from training.batches import Packs, batch_of_step
from training.configs import bp_steps, learning_rate, sft, xl
from training.evaluation.evaluate import How, ModelSpec
from training.export import to_transformers
from training.provenance import find_packs
from training.start import packing_for

BASE = """
name: base
sources:
  - {name: generated_arithmetic, adapter: generated_arithmetic, rows: 200}
  - {name: generated_web, adapter: generated_web, rows: 300}
stages: [{kind: strip_thinking}]
exact_duplicates: false
near_duplicates: false
contamination: {benchmarks: [{name: generated, rows: 300}], drop: []}
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 129, validation: 0.1}
"""

SETTINGS = ("batch_packs=2", "lr=1e-3", "ema_decay=0.5", "checkpoint_steps=2", "checkpoint_minutes=null")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root: a training of three steps on run `base`, and a run `mine` of the user's rows, whose recipe
    `winnow init --from` wrote."""
    folder = tmp_path_factory.mktemp("sft")
    root = folder / "root"
    root.mkdir()
    train_on(root, BASE)
    rows = [{"question": f"Which queue takes ticket {n}?", "answer": f"Queue {n % 3}."} for n in range(200)]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["init", str(folder / "mine.jsonl"), "--from", "latest", "--root", str(root)]
    done = CliRunner().invoke(app, [*words, "--out", str(folder / "mine.yaml")])
    assert done.exit_code == 0, done.output
    build(str(folder / "mine.yaml"), str(root), "local", 1, ("near_duplicates=false", "sampling.validation=0.1"))
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(made / "root", tmp_path / "root"))


def configured(root: str, out: str | None = None, start: str = "latest", *settings: str) -> Configured:
    return configure_training("mine", "sft", root, out, 5, (*SETTINGS, *settings), start)


def fine_tune(root: str, out: str | None = None, start: str = "latest") -> str:
    """Five steps on the user's rows, with checkpoints after 2, 4 and 5; the training's folder."""
    packs, config, folder, _ = configured(root, out, start)
    loop.train(packs.shards, packs.tokenizer, config, folder, packs.key)
    return folder


def test_the_configuration_is_the_published_one_in_the_shape_of_the_model_that_it_starts_from() -> None:
    model = xl(65_536, 4097).model
    config = sft(model, 4097, "prefix_lm", "bf16")
    assert config.model == model and config.batch_packs * 4096 == 32_768
    assert (config.betas, config.weight_decay, config.ema_decay) == ((0.9, 0.95), 0.1, 0.999)
    assert learning_rate(config, 1, 1300) == pytest.approx(3e-5, rel=1e-5)
    assert learning_rate(config, 650, 1300) == pytest.approx(3e-5 * 0.55)
    assert learning_rate(config, 1300, 1300) == pytest.approx(3e-6)
    assert {bp_steps(config, step, 1300) for step in (1, 2, 1300)} == {5}


def test_the_recipe_that_init_writes_has_the_tokenizer_and_the_context_of_the_model(made: Path) -> None:
    text = (made / "mine.yaml").read_text()
    tokenizer, context = packing_for(str(made / "root/training/one"))
    assert tokenizer == str(made / "root/training/one/step-00000003/tokenizer.json") and context == 129
    assert f"tokenizer: {{path: {tokenizer}}}" in text and "epochs: 5, context: 129" in text


def test_fine_tuning_begins_with_the_averaged_weights_and_learns_the_rows(root: str) -> None:
    packs, config, folder, _ = configured(root)
    base = checkpoint.read_model(checkpoint.read(f"{root}/training/one"))
    batch = batch_of_step(Packs(packs.shards), 1, config.batch_packs)
    expected, _ = loop.losses(base, batch, 5, torch.float32)
    assert fine_tune(root) == folder
    lines = journal.read_metrics(folder)
    assert lines[0]["loss"] == pytest.approx(expected.mean().item(), rel=1e-5)
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5 and {line["bp_steps"] for line in lines} == {5}
    assert [line["lr"] for line in lines] == sorted((line["lr"] for line in lines), reverse=True)


def test_an_average_that_would_stay_the_old_model_is_warned_of(root: str) -> None:
    packs, config, _, _ = configured(root, None, "latest", "ema_decay=0.999")
    told = short_run(config, packs.shards)
    assert told is not None and "spans 1,000 steps, and this training has 5:" in told
    assert short_run(configured(root).config, packs.shards) is None


def test_an_average_that_would_hold_random_weights_is_warned_of(root: str) -> None:
    packs, config, _, _ = configured(root)
    config = config.model_copy(update={"start": None, "steps": 5})
    told = short_run(config.model_copy(update={"ema_decay": 0.9}), packs.shards)
    assert told is not None and "spans 10 steps, and this training has 5: 59% of it will be the random weights" in told
    assert "--set ema_decay=0.5)" in told
    assert short_run(config.model_copy(update={"ema_decay": 0.5}), packs.shards) is None


def test_a_training_from_initial_weights_says_nothing_of_a_start(root: str) -> None:
    state = storage.read_json(f"{root}/training/one/step-00000003/checkpoint.json")
    assert "start" not in state and state["config"]["start"] is None


def test_the_same_command_resumes_to_the_same_losses_and_never_from_itself(root: str) -> None:
    """`latest` is the newest checkpoint of other trainings, though that of this one is newer."""
    whole = fine_tune(root, f"{root}/training/whole")
    shutil.move(whole, f"{root}/whole")
    folder = fine_tune(root)
    for step in (4, 5):
        shutil.rmtree(f"{folder}/step-0000000{step}")
    packs, config, again, _ = configured(root)
    assert again == folder and config.start == f"{root}/training/one/step-00000003"
    summary = loop.train(packs.shards, packs.tokenizer, config, folder, packs.key)
    assert summary["resumed_from"] == 2
    losses = [[line["loss"] for line in journal.read_metrics(one)] for one in (f"{root}/whole", folder)]
    assert losses[0] == losses[1]
    assert checkpoint.read(folder).state.start == checkpoint.read(f"{root}/whole").state.start


def test_a_checkpoint_names_the_weights_that_its_training_started_from_and_their_own_start(root: str) -> None:
    first = fine_tune(root)
    packs, config, _, _ = configured(root, f"{root}/training/second", f"{first}/step-00000004")
    loop.train(packs.shards, packs.tokenizer, config, f"{root}/training/second", packs.key)
    start = checkpoint.read(f"{root}/training/second").state.start
    assert start is not None
    assert [(one.step, one.run_key) for one in start.chain()] == [
        (4, packs.key),
        (3, checkpoint.read(f"{root}/training/one").state.run_key),
    ]
    words = ["export", f"{root}/training/second", "--format", "transformers", "--out", f"{root}/hf", "--root", root]
    assert CliRunner().invoke(app, words).exit_code == 0
    card = Path(root, "hf/README.md").read_text()
    assert all(f"{one}" in card for one in start.chain()) and root not in card
    assert card.count("Corpus of the model that the training started from") == 2
    assert "generated_arithmetic" in card


def test_a_transformers_folder_is_fine_tuned_like_the_checkpoint_that_it_was_exported_from(root: str) -> None:
    exported = to_transformers(f"{root}/training/one", f"{root}/hf")
    folders = [fine_tune(root, f"{root}/training/{name}", start) for name, start in
               (("a", f"{root}/training/one"), ("b", exported))]  # fmt: skip
    states = [checkpoint.read(folder).state for folder in folders]
    assert states[1].config.precision == "bf16" and states[0].config.precision == "fp32"
    assert states[0].config.model == states[1].config.model
    first = [journal.read_metrics(folder)[0]["loss"] for folder in folders]
    assert first[0] == pytest.approx(first[1], rel=5e-3)  # bf16
    assert states[1].start is not None and states[1].start.run_key is None


class TestRefusals:
    def test_another_tokenizer_with_the_mend(self, root: str, made: Path) -> None:
        build(str(made / "mine.yaml"), root, "local", 1, ("tokenizer={vocab_size: 512}", "name=other"))
        with pytest.raises(WinnowError, match=r"another tokenizer; build the packs with `tokenizer: \{path: .*step-0"):
            configure_training("other", "sft", root, None, 5, SETTINGS, "latest")

    def test_rows_longer_than_the_model_reads(self, root: str, made: Path) -> None:
        settings = ("sampling.context=200", "name=long", "near_duplicates=false")
        build(str(made / "mine.yaml"), root, "local", 1, settings)
        with pytest.raises(WinnowError, match=r"reads at most 129 tokens.*`sampling: \{context: 129\}`"):
            configure_training("long", "sft", root, None, 5, SETTINGS, "latest")

    def test_another_shape(self, root: str) -> None:
        with pytest.raises(WinnowError, match=r"another model: blocks 2, not 3; `--config sft` has the shape"):
            configured(root, None, "latest", "model.blocks=3")

    def test_a_start_among_the_settings(self, root: str) -> None:
        with pytest.raises(WinnowError, match=r"--set start=x: name the model to start from with --from"):
            configured(root, None, "latest", "start=x")

    def test_a_folder_that_is_no_model(self, root: str, tmp_path: Path) -> None:
        with pytest.raises(WinnowError, match="no checkpoint there"):
            configured(root, None, str(tmp_path))
        with pytest.raises(WinnowError, match="neither a checkpoint nor a transformers folder"):
            packing_for(str(tmp_path))

    def test_a_folder_of_a_training_from_another_model(self, root: str) -> None:
        folder = fine_tune(root)
        packs, config, _, _ = configured(root, folder, f"{root}/training/one/step-00000002")
        with pytest.raises(WinnowError, match=r"a run with another configuration \(start "):
            loop.train(packs.shards, packs.tokenizer, config, folder, packs.key)


def a_row(root: str, steps: tuple[int, ...]) -> str:
    """The id of a row of the run `base` that its training reads at one of these steps alone."""
    run = open_run(root, "base")
    packs = Packs(find_packs(run.id, root).shards)
    at: dict[str, set[int]] = {}
    for step in range(1, len(packs) // 4 + 1):
        for name in batch_of_step(packs, step, 4).ids:
            at.setdefault(name, set()).add(step)
    return next(name for name, read in sorted(at.items()) if read <= set(steps))


class TestForget:
    def test_names_the_models_that_were_made_from_one_that_read_the_row(self, root: str) -> None:
        folder = fine_tune(root)
        saved = [f"{folder}/step-0000000{step}" for step in (2, 4, 5)]
        answer = forget(Selection(ids=(a_row(root, (1, 2, 3)),)), run="base", root=root)
        uses = {use.training: use for use in answer.trainings}
        assert set(uses) == {f"{root}/training/one", folder} and not answer.unknown_trainings
        assert uses[folder].started_from == f"{root}/training/one/step-00000003"
        assert list(uses[folder].checkpoints) == saved and uses[folder].read_at == ()
        scored = evaluate(ModelSpec(folder), ("generated",), (How(max_tokens=1),), root, limit=2).scores[0].evaluation
        again = forget(Selection(ids=(a_row(root, (1, 2, 3)),)), run="base", root=root)
        assert answer.evaluations == () and again.evaluations == (scored,)
        done = CliRunner().invoke(app, ["why", a_row(root, (1, 2, 3)), "--run", "base", "--root", root])
        assert f"started from {root}/training/one/step-00000003, which had read it" in done.output

    def test_does_not_name_those_made_before_the_row_was_read(self, root: str) -> None:
        folder = fine_tune(root, f"{root}/training/early", f"{root}/training/one/step-00000002")
        answer = forget(Selection(ids=(a_row(root, (3,)),)), run="base", root=root)
        assert [use.training for use in answer.trainings] == [f"{root}/training/one"]
        assert folder not in answer.unknown_trainings

    def test_still_names_them_when_the_model_they_were_made_from_is_gone(self, root: str) -> None:
        folder = fine_tune(root)
        shutil.rmtree(f"{root}/training/one")
        answer = forget(Selection(ids=(a_row(root, (1, 2, 3)),)), run="base", root=root)
        assert [use.training for use in answer.trainings] == [folder]

    def test_may_have_seen_it_if_the_data_of_the_first_model_is_unknown(self, root: str) -> None:
        folder = fine_tune(root, None, to_transformers(f"{root}/training/one", f"{root}/hf"))
        answer = forget(Selection(ids=(a_row(root, (1, 2, 3)),)), run="base", root=root)
        assert answer.unknown_trainings == (folder,)


def test_gc_keeps_the_packs_of_a_model_that_others_were_made_from(root: str) -> None:
    fine_tune(root)
    key = open_run(root, "base").product("packs").key
    shutil.rmtree(f"{root}/training/one")
    shutil.rmtree(open_run(root, "base").folder)
    garbage = {one.folder.partition("-")[0] for one in gc(root, dry_run=True, min_age_hours=0).garbage}
    assert "steps/ingest" in garbage and "steps/pack" not in garbage
    assert storage.is_folder(f"{root}/steps/pack-{key}")


def test_verify_of_a_run_reads_the_models_that_were_made_from_its_models(root: str) -> None:
    folder = fine_tune(root)
    assert verify("base", root).trainings == 2 and verify("mine", root).trainings == 1
    damaged = Path(folder, "step-00000004/ema.safetensors")
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(bytes(content))
    with pytest.raises(CheckFailed, match="step-00000004/ema"):
        verify("base", root)


def test_items_are_called_not_found_only_if_all_that_the_model_read_was_checked(root: str, made: Path) -> None:
    """The rows of the model that was fine-tuned are training rows too."""
    checked = ("near_duplicates=false", "contamination={benchmarks: [{name: generated, rows: 300}]}", "name=checked")
    build(str(made / "mine.yaml"), root, "local", 1, checked)
    packs, config, folder, _ = configure_training("checked", "sft", root, None, 2, SETTINGS, f"{root}/training/one")
    loop.train(packs.shards, packs.tokenizer, config, folder, packs.key)
    short = (How(max_tokens=1),)
    base, tuned = (evaluate(ModelSpec(one), (), short, root).scores[0] for one in (f"{root}/training/one", folder))
    assert base.found is not None and base.found.n > 0  # leaked items
    assert tuned.found is not None and tuned.found.n == base.found.n  # the own rows hold none of them
    exported = to_transformers(f"{root}/training/one", f"{root}/hf")
    packs, config, folder, _ = configure_training(
        "checked", "sft", root, f"{root}/training/unknown", 2, SETTINGS, exported
    )
    loop.train(packs.shards, packs.tokenizer, config, folder, packs.key)
    unknown = evaluate(ModelSpec(folder), (), short, root).scores[0]
    assert unknown.all.n == 300 and unknown.found is None and unknown.not_found is None


def test_a_plan_has_the_shape_of_the_model(root: str, made: Path) -> None:
    words = ["plan", str(made / "mine.yaml"), "--train", "sft", "--from", "latest", "--root", root, "--json"]
    done = CliRunner().invoke(app, words)
    cost = json.loads(done.stdout)["training"]
    state = checkpoint.read(f"{root}/training/one").state
    assert cost["parameters"] == sum(p.numel() for p in loop.build(state.config.model, 0).parameters())
    low = json.loads(CliRunner().invoke(app, [*words, "--train-set", "lora_rank=4"]).stdout)["training"]
    assert low["state_bytes"] < cost["state_bytes"] / 2 and low["flops"] < cost["flops"]

"""A training folder on an object store: the same bytes as a local one, and a run that resumes from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flows.configure import configure
from pipelines.ledger import storage
from tests.object_store import ObjectStore
from training import checkpoint, journal, loop
from training.configs import TrainConfig
from training.export import from_transformers, to_transformers
from training.folders import checkpoints, find_checkpoint
from training.inference.generate import load_text_generator
from training.model import ModelConfig
from training.start import packing_for

SMALL = TrainConfig(
    name="small",
    model=ModelConfig(vocab_size=512, hidden=32, heads=2, feed_forward=64, blocks=1, max_positions=64),
    batch_packs=4, steps=6, lr=3e-3, warmup_steps=5, ema_decay=0.9, precision="fp32", checkpoint_steps=2, keep=2,
)  # fmt: skip


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def root(s3_server: ObjectStore) -> str:
    return f"{s3_server.bucket()}/root"


@pytest.fixture(scope="module")
def run(shards, tokenizer, tmp_path_factory, root: str) -> tuple[Path, str]:
    """The same run twice: in a local folder, and on an object store, there stopped after step 5 and resumed."""
    local, remote = tmp_path_factory.mktemp("run"), f"{root}/training/one"
    loop.train(shards, str(tokenizer), SMALL, str(local))

    def stop(metrics: journal.Metrics) -> None:
        if metrics["step"] == 5:
            raise Stop

    with pytest.raises(Stop):
        loop.train(shards, str(tokenizer), SMALL, remote, on_step=stop)
    summary = loop.train(shards, str(tokenizer), SMALL, remote)
    assert summary["resumed_from"] == 4 and summary["checkpoint"] == f"{remote}/step-00000006"
    return local, remote


def test_the_checkpoints_are_the_same_bytes(run: tuple[Path, str]) -> None:
    local, remote = run
    assert checkpoints(remote) == [f"{remote}/step-{step:08d}" for step in (4, 6)]
    for path in sorted((local / "step-00000006").iterdir()):
        assert storage.read_bytes(f"{remote}/step-00000006/{path.name}") == path.read_bytes(), path.name


def test_the_record_is_complete(run: tuple[Path, str]) -> None:
    remote = run[1]
    lines = [[journal.without_measured(line) for line in journal.read_metrics(str(out))] for out in run]
    assert lines[0] == lines[1] and len(lines[0]) == 6
    assert journal.last_metrics(remote) == journal.read_metrics(remote)[-1]
    assert storage.read_bytes(f"{remote}/{journal.CURVE}").startswith(b"\x89PNG")
    assert storage.files(f"{remote}/{journal.EVENTS}")


def test_a_remote_checkpoint_answers_and_is_exported_like_a_local_one(
    run: tuple[Path, str], root: str, tmp_path: Path
) -> None:
    local, remote = run
    answers = [load_text_generator(str(out), device="cpu").answer(["What is the sum of 3 and 4?"]) for out in run]
    assert answers[0] == answers[1]
    assert find_checkpoint("latest", root) == f"{remote}/step-00000006"
    assert find_checkpoint(remote, root) == remote
    exports = [to_transformers(str(local), str(tmp_path / "hf")), to_transformers(remote, f"{root}/hf")]
    for name in storage.files(exports[0]):
        assert storage.read_bytes(f"{exports[0]}/{name}") == storage.read_bytes(f"{exports[1]}/{name}")
    assert storage.files(exports[0]) == storage.files(exports[1])
    models = [from_transformers(folder).state_dict() for folder in exports]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_a_training_starts_from_a_remote_checkpoint_as_from_a_local_one(
    run: tuple[Path, str], shards, tokenizer, tmp_path: Path
) -> None:
    states = []
    for number, out in enumerate(run):
        config = configure("sft", shards, 2, ["batch_packs=4", "lora_rank=2"], str(out), str(tokenizer))
        loop.train(shards, str(tokenizer), config, str(tmp_path / str(number)))
        states.append(checkpoint.read(str(tmp_path / str(number))).state)
    starts = [state.start for state in states]
    assert starts[1] is not None and starts[1].folder == f"{run[1]}/step-00000006"
    assert starts[0] is not None and starts[0].identity == starts[1].identity
    files = [{name: digest for name, digest in state.digests.items() if name != "rng.safetensors"} for state in states]
    assert files[0] == files[1]
    assert packing_for(run[1]) == (f"{run[1]}/step-00000006/tokenizer.json", 65)


def test_an_upload_without_its_manifest_is_no_checkpoint(run: tuple[Path, str]) -> None:
    _, remote = run
    storage.write_bytes(f"{remote}/step-00000009/model.safetensors", b"")
    assert checkpoint.read(remote).state.step == 6
    storage.remove(f"{remote}/step-00000009")


def test_a_checkpoint_written_again_has_no_file_of_the_former(root: str) -> None:
    for names in (["a", "b", "last"], ["a", "last"]):
        with storage.write_folder(f"{root}/again", last="last") as aside:
            for name in names:
                (aside / name).write_text(f"{names}")
    assert {name: storage.read_bytes(f"{root}/again/{name}") for name in storage.files(f"{root}/again")} == {
        "a": b"['a', 'last']",
        "last": b"['a', 'last']",
    }

"""The losses of rows are those of torch and of transformers, in order, whatever the batch, and survive a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from typer.testing import CliRunner

import flows.score
from flows.cli.app import app
from flows.score import ScoreAnswer, score
from pipelines.errors import RunError, WinnowError
from pipelines.ledger.runs import open_run
from pipelines.ledger.score_tables import open_scores
from pipelines.ledger.storage import files_below, read_parquet
from tests.trainings import train_on
from training.folders import checkpoints
from training.inference.generate import load_text_generator
from training.inference.prompt import token_ids

RECIPE = """
name: sums
sources:
  - {name: sums, adapter: generated_arithmetic, rows: 60}
  - {name: mine, path: mine.jsonl, columns: {instruction: q, response: a}, condition: direct}
exact_duplicates: false
near_duplicates: false
tokenizer: {vocab_size: 600}
sampling: {epochs: 2, context: 65}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("root")
    rows = [
        {"q": "What is the sum of 3 and 4?", "a": "7"},
        {"q": "Say nothing.", "a": ""},
        {"q": "No.", "a": "Yes. " * 90},
    ]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train_on(folder, RECIPE, steps=3, checkpoint_steps=2)
    return str(folder)


@pytest.fixture(scope="module")
def both(root: str) -> list[str]:
    return checkpoints(f"{root}/training/one")


@pytest.fixture(scope="module")
def made(root: str, both: list[str]) -> ScoreAnswer:
    return score(checkpoints=both, root=root, device="cpu")


def records(root: str) -> pa.Table:
    return pa.concat_tables([read_parquet(shard.path) for shard in open_run(root, "latest").records.shards])


def test_losses_are_those_of_torch_with_and_without_the_instruction(
    root: str, both: list[str], made: ScoreAnswer
) -> None:
    rows = records(root)
    table = open_scores(made.path).lookup(rows["id"])
    for number, folder in enumerate(both, 1):
        generator = load_text_generator(folder, device="cpu")
        for row, own, alone, ifd, worst in zip(
            rows.to_pylist(),
            *(table[f"score_loss{kind}_{number}"].to_pylist() for kind in ("", "_alone", "_ifd")),
            table["score_loss_worst"].to_pylist(),
            strict=True,
        ):
            ids = [*generator.tokenizer.encode(row["response"]).ids, generator.special["eoa"]]
            expected = []
            for instruction in (row["instruction"], ""):
                prompt = generator.prompt(row["condition"], instruction)
                if len(ids) == 1 or len(token_ids(prompt)) + len(ids) > generator.context:
                    continue
                (logits_MV,) = generator.runner.logits([(prompt, ids)])
                expected.append(float(torch.nn.functional.cross_entropy(logits_MV.float(), torch.tensor(ids))))
                if instruction and number == len(both):
                    margin_M = logits_MV.max(-1).values - logits_MV.gather(-1, torch.tensor(ids)[:, None])[:, 0]
                    assert worst == pytest.approx(float(margin_M.max()), abs=1e-4)
            if len(expected) == 2:
                assert (own, alone) == pytest.approx(expected, abs=2e-5)
                assert ifd == pytest.approx(np.exp(own - alone), rel=1e-5)
    assert table["score_loss"].equals(table["score_loss_2"])
    names, numbers = table["loss_class"].to_pylist(), table["score_loss_class"].to_pylist()
    assert all((name is None) == (number is None) for name, number in zip(names, numbers, strict=True))
    assert sum(made.classes.values()) == len(names) - names.count(None) and made.noise[""].rows < len(names)
    fall = pc.subtract(table["score_loss_1"], table["score_loss_2"])
    assert table["score_loss_fall"].equals(fall)


def test_an_empty_response_has_no_loss_and_a_long_one_is_measured_in_windows(root: str, made: ScoreAnswer) -> None:
    rows = records(root)
    mine = rows.filter(pc.equal(rows["source"], "mine"))
    table = open_scores(made.path).lookup(mine["id"])
    losses = dict(zip(mine["response"].to_pylist(), table["score_loss"].to_pylist(), strict=True))
    assert losses[""] is None and losses["7"] > 0 and losses["Yes. " * 90] > 0
    assert made.skipped == {"empty response": 1} and made.rows == rows.num_rows


def test_a_transformers_folder_has_the_loss_of_transformers(root: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    plain = PreTrainedTokenizerFast(
        tokenizer_object=load_text_generator(f"{root}/training/one", device="cpu").tokenizer, eos_token="<|endoftext|>"
    )
    plain.save_pretrained(tmp_path)
    config = GPT2Config(
        vocab_size=len(plain), n_positions=128, n_embd=32, n_layer=2, n_head=2, eos_token_id=plain.eos_token_id
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    answer = score(model=str(tmp_path), root=root, device="cpu", limit=20, batch=3)
    scored = open_scores(answer.path)
    rows = records(root)
    rows = rows.filter(pc.is_in(rows["id"], value_set=scored.read()["id"].combine_chunks()))
    assert rows.num_rows == 20
    assert len(pc.unique(rows["source"])) == len(pc.unique(records(root)["source"])), "of each source some"
    table = scored.lookup(rows["id"])
    theirs, tokenizer = GPT2LMHeadModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for row, own, alone in zip(
        rows.to_pylist(), *(table[name].to_pylist() for name in ("score_loss", "score_loss_alone")), strict=True
    ):
        response = [*tokenizer.encode(row["response"]), tokenizer.eos_token_id]
        for given, loss in ((tokenizer.encode(row["instruction"]), own), ([tokenizer.eos_token_id], alone)):
            labels = torch.tensor([[-100] * len(given) + response])
            with torch.no_grad():
                expected = theirs(input_ids=torch.tensor([given + response]), labels=labels).loss
            assert loss == pytest.approx(float(expected), abs=2e-5)


def test_the_batch_changes_values_by_rounding_alone_and_the_same_call_makes_nothing_again(
    root: str, both: list[str], made: ScoreAnswer, tmp_path: Path
) -> None:
    again = score(checkpoints=both, root=root, device="cpu", batch=1)
    assert again.reused and again.path == made.path and not again.tokens
    one = score(checkpoints=both, root=root, device="cpu", batch=1, name="other")
    values = [open_scores(path).read() for path in (made.path, one.path)]
    assert values[0]["id"].equals(values[1]["id"])
    for name in ("", "_alone", "_1"):
        first, second = (
            np.asarray(table[f"score_{kind}{name}"].to_numpy())
            for table, kind in zip(values, ("loss", "other"), strict=True)
        )
        np.testing.assert_allclose(first, second, rtol=1e-5)


@pytest.mark.fault("kill -9 of winnow score", "carries on to the same bytes")
def test_a_killed_command_carries_on_to_the_same_bytes(
    root: str, both: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.score, "CHUNK_ROWS", 5)
    call = f"score(checkpoints={both!r}, root={root!r}, device='cpu', name='killed')"
    code = f"import torch, flows.score; torch.set_num_threads(1); flows.score.CHUNK_ROWS = 5; flows.score.{call}"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    pattern = "scores/killed-*/chunks/*.parquet"
    deadline = time.monotonic() + 120
    while len(list(Path(root).glob(pattern))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = {path.name: path.stat().st_mtime_ns for path in Path(root).glob(pattern)}
    assert len(written) >= 3
    resumed = score(checkpoints=both, root=root, device="cpu", name="killed")
    whole = score(checkpoints=both, root=root, device="cpu", name="whole")
    assert 0 < resumed.tokens < whole.tokens
    assert open_scores(resumed.path).columns.names == [
        n.replace("whole", "killed") for n in open_scores(whole.path).columns.names
    ]
    contents = [
        [(Path(a.path) / f).read_bytes() for f in files_below(a.path) if f.endswith("parquet")]
        for a in (resumed, whole)
    ]
    first, second = (read_parquet(f"{a.path}/part-00000.parquet") for a in (resumed, whole))
    assert first.rename_columns(second.column_names).equals(second) and len(contents[0]) == len(contents[1]) == 1


def test_models_of_other_tokens_and_wrong_names_are_refused_by_name(root: str, both: list[str], tmp_path: Path) -> None:
    other = tmp_path / "step-00000002"
    subprocess.run(["cp", "-r", both[0], str(other)], check=True)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(
        {
            "id": 600,
            "content": "<|new|>",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
    )
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(WinnowError, match=r"step-00000002: its tokenizer is not that of .*step-00000003"):
        score(checkpoints=[both[1], str(other)], root=root, device="cpu", name="refused")
    with pytest.raises(RunError, match=r"--records ingst: no step .* did you mean 'ingest'"):
        score(checkpoints=both, root=root, records="ingst")
    for names, model in (((), None), (both, "folder")):
        with pytest.raises(WinnowError, match="--checkpoint FOLDER"):
            score(checkpoints=names, model=model, root=root)


def test_the_command_scores_a_run_by_default_and_prints_where_the_table_is(
    root: str, both: list[str], made: ScoreAnswer
) -> None:
    words = [
        "latest",
        *(word for folder in both for word in ("--checkpoint", folder)),
        "--root",
        root,
        "--device",
        "cpu",
    ]
    for command in (["score", *words], ["score", "run", *words], ["score", *words[1:]]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0 and made.path in done.stdout and "nats per token" in done.stdout
    answer = ScoreAnswer.model_validate_json(CliRunner().invoke(app, ["score", *words, "--json"]).stdout)
    assert answer.path == made.path and len(answer.models) == 2
    ingest = ScoreAnswer.model_validate_json(
        CliRunner().invoke(app, ["score", *words, "--records", "ingest", "--limit", "4", "--json"]).stdout
    )
    assert (ingest.records, ingest.rows) == ("ingest", 4)
    text = CliRunner().invoke(app, ["score", "--help"]).stdout
    assert "Example: `winnow score latest" in text and "run" in text

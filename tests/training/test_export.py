"""An export loads in transformers with equal logits, and can be read back bit for bit."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from flows.cli.app import app
from pipelines.errors import InputError, WinnowError
from pipelines.steps.chat_tokenizer import ESCAPE, with_chat, without_chat
from training import checkpoint, journal, loop
from training.attention import attend, plan_attention
from training.batches import Packs, batch_of_step
from training.checkpoint import CheckpointError
from training.configs import TrainConfig
from training.export import from_transformers, is_transformers, to_transformers
from training.inference.chat import read_messages
from training.inference.generate import TextGenerator, load_text_generator
from training.inference.prompt import token_ids
from training.model import HrmText, ModelConfig, build


@pytest.fixture(scope="module")
def run(shards, tokenizer, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    config = TrainConfig(
        name="small", batch_packs=2, steps=5, lr=5e-3, warmup_steps=2, ema_decay=0.5, precision="fp32",
        model=ModelConfig(vocab_size=512, hidden=48, heads=3, feed_forward=128, blocks=2, max_positions=64),
    )  # fmt: skip
    loop.train(shards, str(tokenizer), config, str(out))
    return out


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory) -> Path:
    return Path(to_transformers(str(run), str(tmp_path_factory.mktemp("export") / "hf")))


def load(folder: Path) -> TextGenerator:
    return load_text_generator(str(folder), device="cpu")


def logits(model: HrmText, ids: list[int], prefix: int) -> torch.Tensor:
    plan = plan_attention([prefix], [len(ids) - prefix])
    return model(torch.tensor(ids), torch.arange(len(ids)), lambda slot, q, k, v: attend(plan, q, k, v))


def test_transformers_loads_it_with_equal_logits(run: Path, exported: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    ours = load(run).runner.model
    ids = list(range(8, 40))
    types = (torch.arange(32) < 20).long()[None]
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor([ids]), token_type_ids=types).logits[0]
    assert (logits(ours, ids, 20) - expected).norm() / expected.norm() < 1e-5
    assert theirs.config.L_bp_cycles == [0, 3]
    assert type(theirs).__name__ == "HrmTextForCausalLM"


def test_transformers_generates_the_same_tokens(run: Path, exported: Path) -> None:
    generator = load(run)
    theirs = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    for text in ("What is the sum of 3 and 4?", "What is the sum of 9 and 9?"):
        prompt = generator.prompt("direct", text)
        ids = token_ids(prompt)
        made = theirs.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            token_type_ids=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=8, do_sample=False,
        )[0, len(ids) :].tolist()  # fmt: skip
        eoa = generator.special["eoa"]
        assert generator.generate([prompt], 8)[0] == (made[: made.index(eoa)] if eoa in made else made)


def test_the_tokenizer_loads_with_its_control_tokens(run: Path, exported: Path, special: dict[str, int]) -> None:
    theirs = AutoTokenizer.from_pretrained(exported)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (
        special["boq"], special["eoa"], special["pad"],
    )  # fmt: skip
    text = "What is the sum of 3 and 4?"
    assert theirs(text, add_special_tokens=False)["input_ids"] == load(run).tokenizer.encode(text).ids


# ------------------------------------------------------------------------------------------------------ chat template


def chat(tokenizer: Any, *texts: str, **options: Any) -> Any:
    conversations = [[{"role": "user", "content": text}] for text in texts]
    return tokenizer.apply_chat_template(
        conversations, add_generation_prompt=True, return_dict=True, padding=True, **options
    )


@pytest.fixture(scope="module")
def varied(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export with random weights, so that answers vary and some of them end."""
    folder = Path(shutil.copytree(exported, tmp_path_factory.mktemp("varied") / "hf"))
    tensors = load_file(folder / "model.safetensors")
    model = build(from_transformers(str(exported)).config, seed=5)
    state = {
        f"model.{name}" if f"model.{name}" in tensors else name: value for name, value in model.state_dict().items()
    }
    state["lm_head.weight"][load(exported).special["eoa"]] *= 2.5
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_chat_template_answers_like_the_checkpoint_alone_and_in_a_batch(varied: Path) -> None:
    questions = [f"What is the sum of {a} and {b}?" for a in range(6) for b in range(6)] + ["Why? é", "<|im_end|>"]
    expected = load(varied).answer(questions, max_new_tokens=8)
    assert len(set(expected)) > 20
    tokenizer = AutoTokenizer.from_pretrained(varied)
    model = AutoModelForCausalLM.from_pretrained(varied, dtype=torch.float32)

    def answer(texts: list[str]) -> list[str]:
        inputs = chat(tokenizer, *texts, return_tensors="pt")
        made = model.generate(**inputs, max_new_tokens=8)[:, inputs["input_ids"].shape[1] :]
        return [tokenizer.decode(row, skip_special_tokens=True) for row in made]

    assert answer(questions) == expected
    assert [answer([question])[0] for question in questions] == expected


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from([*"<|> \n01é", "e\u0301", ESCAPE, "im_end", "<|im_end|>", "<|PAD|>", "sum"]), max_size=12),
    st.sampled_from(["direct", "synth,cot"]),
)
def test_a_template_encodes_any_text_as_winnow_does(
    loaded: tuple[TextGenerator, Any], parts: list[str], condition: str
) -> None:
    generator, tokenizer = loaded
    (ids,), (types,) = (
        chat(tokenizer, "".join(parts), condition=condition)[name] for name in ("input_ids", "token_type_ids")
    )
    assert ids == token_ids(generator.prompt(condition, "".join(parts)))
    assert set(types) == {1}


@pytest.fixture(scope="module")
def loaded(run: Path, exported: Path) -> tuple[TextGenerator, Any]:
    return load(run), AutoTokenizer.from_pretrained(exported)


@pytest.mark.parametrize(
    ("messages", "condition"),
    [
        ([("user", "Why?")], "direct"),
        ([("system", "synth,cot"), ("user", "Why?")], "synth,cot"),
        ([("developer", " cot "), ("user", "Why?")], "cot"),
        ([("user", [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}])], "direct"),
        ([("system", "You are helpful."), ("user", "Why?")], None),
        ([("user", "Why?"), ("assistant", "So."), ("user", "And?")], None),
        ([("system", "direct")], None),
        ([("user", [{"type": "image_url", "image_url": {"url": "x"}}])], None),
    ],
)
def test_template_and_server_read_the_same_messages(
    loaded: tuple[TextGenerator, Any], messages: list[tuple[str, Any]], condition: str | None
) -> None:
    generator, tokenizer = loaded
    chat = [{"role": role, "content": content} for role, content in messages]
    if condition is None:
        with pytest.raises(TemplateError) as theirs:
            tokenizer.apply_chat_template(chat)
        with pytest.raises(WinnowError) as ours:
            read_messages(chat)
        assert theirs.value.message and theirs.value.message in str(ours.value)
        return
    assert read_messages(chat) == (condition, "Why?")
    assert tokenizer.apply_chat_template(chat)["input_ids"] == token_ids(generator.prompt(condition, "Why?"))


def test_the_second_text_of_a_pair_is_a_response(loaded: tuple[TextGenerator, Any]) -> None:
    encoded = loaded[1]("What is", " 7")
    counts = [len(loaded[1](text)["input_ids"]) for text in ("What is", " 7")]
    assert encoded["token_type_ids"] == [1] * counts[0] + [0] * counts[1]


def test_what_an_export_adds_to_a_tokenizer_can_be_removed(tokenizer: Path) -> None:
    spec = json.loads(tokenizer.read_text())
    for original in (spec, spec | {"normalizer": None, "post_processor": None}):
        assert with_chat(original) != original
        assert without_chat(with_chat(original)) == original == without_chat(original)


# ----------------------------------------------------------------------------------------------------------------- card


def test_two_exports_are_the_same_bytes_with_a_readable_card(run: Path, exported: Path, tmp_path: Path) -> None:
    again = Path(to_transformers(str(run), str(tmp_path / "again")))
    files = sorted(path.name for path in exported.iterdir())
    assert [(again / name).read_bytes() for name in files] == [(exported / name).read_bytes() for name in files]
    assert {path.stat().st_mode & 0o777 for path in exported.iterdir()} == {0o666 & ~umask()}
    card = ModelCard((exported / "README.md").read_text())
    assert (card.data.library_name, card.data.pipeline_tag, card.data.license) == (
        "transformers", "text-generation", "other",
    )  # fmt: skip
    state = checkpoint.read(str(run)).state
    assert all(digest in card.text for digest in state.digests.values())
    assert f"at most {state.context} tokens" in card.text and "not at hand" in card.text


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --------------------------------------------------------------------------------------------------------- read it back


def test_reading_an_export_back_is_exact(run: Path, exported: Path, tmp_path: Path) -> None:
    ours = load(run).runner.model.state_dict()
    AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32).save_pretrained(tmp_path / "again")
    for folder in (exported, tmp_path / "again"):
        back = from_transformers(str(folder))
        assert back.config == checkpoint.read(str(run)).state.config.model
        for name, tensor in back.state_dict().items():
            assert torch.equal(tensor, ours[name]), name


def test_an_export_answers_like_its_checkpoint(run: Path, exported: Path, tmp_path: Path) -> None:
    ours, back = load(run), load(exported)
    assert (back.special, back.context, back.causal) == (ours.special, ours.context, ours.causal)
    prompt = back.prompt("direct", "What is the sum of 3 and 4?")
    assert back.generate([prompt], 8) == ours.generate([prompt], 8)
    foreign = shutil.copytree(exported, tmp_path / "foreign")
    (foreign / "winnow.json").unlink()
    with pytest.raises(InputError, match="lacks HRM-Text's control tokens"):
        load(foreign)  # this tokenizer has other control tokens than HRM-Text's


def test_training_starts_from_the_weights_of_a_checkpoint_or_of_its_export(
    run: Path, exported: Path, shards, tokenizer, tmp_path: Path
) -> None:
    begun = checkpoint.read(str(run)).state.config.model_copy(update={"steps": 2, "checkpoint_steps": 1})
    copy = shutil.copytree(exported, tmp_path / "copy")
    for name, start in (("checkpoint", run), ("export", copy)):
        again = begun.model_copy(update={"start": str(start)})
        loop.train(shards, str(tokenizer), again, str(tmp_path / name))
    said = [[line["loss"] for line in journal.read_metrics(str(tmp_path / name))] for name in ("checkpoint", "export")]
    assert said[0] == said[1]
    batch = batch_of_step(Packs(shards), 1, begun.batch_packs)
    loss_M, _ = loop.losses(from_transformers(str(exported)), batch, 2, torch.float32)
    assert said[0][0] == pytest.approx(loss_M.mean().item(), rel=1e-5)
    shutil.rmtree(copy)  # a resumed run does not read it again
    shutil.rmtree(tmp_path / "export" / "step-00000002")
    for step in (1, 2):
        carried_on = loop.train(shards, str(tokenizer), again, str(tmp_path / "export"))
        assert carried_on["resumed_from"] == step
    assert [line["loss"] for line in journal.read_metrics(str(tmp_path / "export"))] == said[0]


def test_initial_weights_that_do_not_fit_are_refused(
    run: Path, exported: Path, shards, tokenizer, tmp_path: Path
) -> None:
    config = checkpoint.read(str(run)).state.config.model_copy(update={"steps": 2, "start": str(exported)})
    wide = config.model_copy(update={"model": config.model.model_copy(update={"feed_forward": 64})})
    with pytest.raises(InputError, match=r"another model: feed_forward 128, not 64"):
        loop.train(shards, str(tokenizer), wide, str(tmp_path / "a"))
    other = tmp_path / "tokenizer.json"
    other.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"version": "0"}))
    with pytest.raises(InputError, match="another tokenizer; build the packs with"):
        loop.train(shards, str(other), config, str(tmp_path / "b"))
    nothing = config.model_copy(update={"start": str(tmp_path / "nothing")})
    with pytest.raises(WinnowError, match="no checkpoint there"):
        loop.train(shards, str(tokenizer), nothing, str(tmp_path / "c"))


def test_the_command_exports_a_checkpoint(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["export", str(run), "--format", "transformers", "--out", str(tmp_path / "hf"), "--json"]
    )
    assert done.exit_code == 0 and json.loads(done.stdout) == {"folder": str(tmp_path / "hf")}
    assert is_transformers(str(tmp_path / "hf"))


def test_the_last_weights_can_be_exported_too(run: Path, exported: Path, tmp_path: Path) -> None:
    last = from_transformers(str(to_transformers(str(run), str(tmp_path / "last"), average=False)))
    assert not torch.equal(last.lm_head.weight, from_transformers(str(exported)).lm_head.weight)


def test_mistakes_are_named(run: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not empty"):
        to_transformers(str(run), str(exported))
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        to_transformers(str(tmp_path), str(tmp_path / "hf"))
    with pytest.raises(InputError, match="not a model folder"):
        from_transformers(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(InputError, match="'llama'"):
        from_transformers(str(tmp_path))

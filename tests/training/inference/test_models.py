"""Folders of transformers are models like checkpoints: equal to transformers itself, whatever is beside in a batch."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from pipelines.errors import InputError, WinnowError
from training import loop
from training.configs import TrainConfig
from training.export import to_transformers
from training.inference.checkpoint_model import CheckpointModel
from training.inference.language_model import LogLikelihood, Request
from training.inference.models import open_model
from training.inference.transformers_model import TransformersModel
from training.model import ModelConfig

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
REQUESTS = [
    Request("direct", text) for text in ("What is the sum of 3 and 4?", "Why?", "The answer is 12, not 13. " * 2)
]


@pytest.fixture(scope="module")
def llama(tokenizer: Path, special: dict[str, int], tmp_path_factory) -> Path:
    """A small random Llama with the tests' tokenizer; some of its answers end."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=320, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=96, eos_token_id=special["eoa"], pad_token_id=special["pad"], initializer_range=0.2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[special["eoa"]] *= 2.5
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer), eos_token="<|box_end|>", pad_token="<|PAD|>", bos_token="<|im_start|>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(llama: Path) -> TransformersModel:
    opened = open_model(str(llama))
    assert isinstance(opened, TransformersModel)
    return opened


def test_greedy_answers_are_those_of_transformers_with_its_log_probabilities(
    model: TransformersModel, llama: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, reference = AutoTokenizer.from_pretrained(llama), AutoModelForCausalLM.from_pretrained(llama)
    for request, (completion,) in zip(REQUESTS, model.generate(REQUESTS, max_tokens=20), strict=True):
        ids = tokenizer(request.instruction, return_tensors="pt").input_ids
        out = reference.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :]
        ended = int(out[-1]) == tokenizer.eos_token_id
        assert completion.finish == ("stop" if ended else "length")
        assert completion.tokens == len(out) - ended and completion.prompt_tokens == ids.shape[1]
        assert completion.text == tokenizer.decode(out, skip_special_tokens=True)
        logits = reference(torch.cat([ids[0], out])[None]).logits[0, ids.shape[1] - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, out[:, None]).sum()
        assert completion.log_prob == pytest.approx(float(expected.detach()), abs=1e-3)


def test_a_sample_depends_on_its_request_seed_and_number_alone(model: TransformersModel) -> None:
    together = model.generate(REQUESTS, 4, temperature=1.0, max_tokens=12, seed=2)
    for request, samples in zip(REQUESTS, together, strict=True):
        ((alone, second),) = model.generate([request], 2, temperature=1.0, max_tokens=12, seed=2)
        assert [s.text for s in samples[:2]] == [alone.text, second.text]
        assert alone.log_prob == pytest.approx(samples[0].log_prob, abs=1e-3)
    assert len({sample.text for samples in together for sample in samples}) > 6
    assert together != model.generate(REQUESTS, 4, temperature=1.0, max_tokens=12, seed=3)


def test_samples_have_the_frequencies_of_the_model(model: TransformersModel) -> None:
    (samples,) = model.generate(REQUESTS[:1], 300, temperature=1.0, max_tokens=1)
    # Tokens that are parts of characters decode to the same text, so tokens are told apart by their probability.
    log_prob, count = Counter(sample.log_prob for sample in samples).most_common(1)[0]
    expected = math.exp(log_prob or 0.0)
    assert count / 300 == pytest.approx(expected, abs=3 * (expected * (1 - expected) / 300) ** 0.5)


def test_the_limits_on_tokens_context_and_stop_strings_hold(model: TransformersModel) -> None:
    full = model.generate(REQUESTS, max_tokens=20)
    length = full[0][0].prompt_tokens or 0
    (short,), (room,), (none,) = (
        *model.generate(REQUESTS[:1], max_tokens=3),
        *model.generate(REQUESTS[:1], context=length + 2),
        *model.generate(REQUESTS[:1], context=length),
    )
    assert (short.tokens, short.finish, room.tokens) == (3, "length", 2)
    assert (none.text, none.tokens, none.finish) == ("", 0, "none")
    long = max((c for (c,) in full), key=lambda c: len(c.text))
    stop = long.text[4:6]
    ((cut,),) = model.generate([REQUESTS[[c for (c,) in full].index(long)]], max_tokens=20, stop=[stop])
    assert cut.text == long.text[: long.text.find(stop)] and cut.finish == "stop"


def test_likelihoods_do_not_depend_on_the_batch_and_a_pair_without_room_has_none(model: TransformersModel) -> None:
    pairs = [(request, text) for request in REQUESTS for text in ("4 and", " 17", "")]
    results = [one for one in model.log_likelihoods(pairs) if one is not None]
    alone = [one for pair in pairs for one in model.log_likelihoods([pair]) if one is not None]
    assert [one.log_prob for one in results] == pytest.approx([one.log_prob for one in alone], abs=1e-3)
    assert len(results) == len(pairs) and results[2] == LogLikelihood(0.0, True) and results[0].log_prob < 0
    assert model.log_likelihoods([(Request("direct", "Why? " * 60), "7")]) == [None]


def test_a_chat_template_is_used_where_there_is_one(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    shutil.copytree(llama, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": TEMPLATE}))
    chat, plain = open_model(str(folder)), open_model(str(llama))
    ((wrapped,),), ((bare,),) = (m.generate(REQUESTS[:1], max_tokens=1) for m in (chat, plain))
    assert (wrapped.prompt_tokens or 0) == (bare.prompt_tokens or 0) + 2
    assert chat.identity != plain.identity


def test_the_identity_is_of_the_contents_not_of_the_place(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("A copy.")
    assert open_model(str(tmp_path / "copy")).identity == open_model(str(llama)).identity


def test_folders_of_hrm_text_keep_the_prefix_mask_and_conditions(shards, tokenizer: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        name="small", batch_packs=4,
        model=ModelConfig(vocab_size=512, hidden=64, heads=2, feed_forward=128, blocks=1, max_positions=64),
        lr=6e-3, warmup_steps=5, precision="fp32", bp_warmup=0,
    )  # fmt: skip
    loop.train(list(shards)[:1], str(tokenizer), config, str(tmp_path / "run"))
    exported = open_model(to_transformers(str(tmp_path / "run"), str(tmp_path / "hf")))
    trained = open_model(str(tmp_path / "run"))
    assert isinstance(exported, CheckpointModel) and exported.conditioned
    asked = [Request("direct", "What is the sum of 3 and 4?")]
    assert exported.generate(asked, max_tokens=8)[0][0].text == trained.generate(asked, max_tokens=8)[0][0].text


def test_a_folder_that_holds_no_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InputError, match="transformers cannot load this folder"):
        open_model(str(tmp_path))
    with pytest.raises(WinnowError, match="only for a URL"):
        open_model(str(tmp_path), model="x")

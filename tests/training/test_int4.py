"""Four bits: what is stored, what is computed with it, and who can read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from flows.cli.app import app
from pipelines.errors import InputError
from training import checkpoint, loop
from training.configs import TrainConfig, xl
from training.export import from_transformers, read_weights, to_transformers
from training.inference.generate import load_text_generator
from training.inference.prompt import Segment, instruction_prompt
from training.inference.runner import Runner
from training.int4 import BYTES_PER_WEIGHT, GROUP, Int4Embedding, Int4Linear, dequantize, quantize, quantized
from training.model import HrmText, ModelConfig, build

SHAPE = ModelConfig(vocab_size=512, hidden=256, heads=2, feed_forward=384, blocks=2, max_positions=64)


@pytest.fixture(scope="module")
def run(shards, tokenizer, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    config = TrainConfig(
        name="small", batch_packs=2, steps=5, lr=5e-3, warmup_steps=2, ema_decay=0.5, precision="fp32", model=SHAPE
    )
    loop.train(shards, str(tokenizer), config, str(out))
    return out


@pytest.fixture(scope="module")
def whole(run: Path, tmp_path_factory) -> Path:
    return Path(to_transformers(str(run), str(tmp_path_factory.mktemp("int4") / "whole"), weights="int4"))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 32), spread=st.sampled_from([1e-4, 1.0, 50.0]), rows=st.integers(1, 5))
def test_an_error_is_at_most_half_a_step_or_the_weight_was_cut(seed: int, spread: float, rows: int) -> None:
    weight = torch.randn(rows, 2 * GROUP, generator=torch.Generator().manual_seed(seed)) * spread
    words, scales = quantize(weight)
    assert words.dtype == torch.int32 and words.shape == (rows, 2 * GROUP // 8)
    assert scales.dtype == torch.float16 and scales.shape == (rows, 2)
    back = dequantize(words, scales)
    scale = scales.float().repeat_interleave(GROUP, 1)
    inside = (weight / scale > -8.5) & (weight / scale < 7.5)
    assert ((weight - back).abs() <= scale.abs() / 2 * 1.001)[inside].all()
    largest = weight.reshape(rows, 2, GROUP).abs().amax(-1) / 8
    plain = (weight.reshape(rows, 2, GROUP) / largest[..., None]).round().clamp(-8, 7) * largest[..., None]
    assert (weight - back).square().sum() <= (weight - plain.reshape(rows, -1)).square().sum() * 1.01


def test_zeros_stay_zeros_and_other_lengths_are_refused() -> None:
    words, scales = quantize(torch.zeros(3, GROUP))
    assert not dequantize(words, scales).any()
    with pytest.raises(ValueError, match="a multiple of 128"):
        quantize(torch.ones(2, GROUP + 8))


def test_the_words_are_those_of_compressed_tensors() -> None:
    weight = torch.randn(7, 3 * GROUP, generator=torch.Generator().manual_seed(0))
    words, scales = quantize(weight)
    codes = (dequantize(words, scales) / scales.float().repeat_interleave(GROUP, 1)).round().to(torch.int8)
    assert torch.equal(words, pack_to_int32(codes, 4))
    assert np.array_equal(Int4Linear(words, scales).codes().astype(np.int64) - 8, codes.numpy())


def test_the_compiled_decoder_answers_as_torch_with_restored_weights() -> None:
    model = quantized(build(SHAPE, 3))
    assert isinstance(model.embed_tokens, Int4Embedding)
    dense = build(SHAPE, 3)
    dense.load_state_dict(
        {f"{name}.weight": layer.weight for name, layer in model.named_modules() if isinstance(layer, Int4Linear)},
        strict=False,
    )
    fast, plain, torch_only = (
        Runner(model),
        Runner(dense, compiled=False),
        Runner(quantized(build(SHAPE, 3)), compiled=False),
    )
    assert fast.compiled
    # 1 to 11 rows: the products of eight, four, two rows and of one.
    prompts = [instruction_prompt(list(range(5, 8 + length))) for length in range(11)]
    wanted = plain.complete(prompts, 511, 8, 64)
    for runner in (fast, torch_only):
        found = runner.complete(prompts, 511, 8, 64)
        assert [one.ids for one in found] == [one.ids for one in wanted]
        assert np.allclose([one.log_prob for one in found], [one.log_prob for one in wanted], atol=1e-3)
    alone = [fast.complete([prompt], 511, 8, 64)[0] for prompt in prompts]
    assert alone == fast.complete(prompts, 511, 8, 64), "an answer does not depend on the batch"


def test_an_export_in_four_bits_is_read_back_as_it_was_quantized(run: Path, whole: Path) -> None:
    back = from_transformers(str(whole))
    wanted = quantized(checkpoint.read_model(checkpoint.read(str(run))))
    assert {name: tensor.dtype for name, tensor in back.state_dict().items()} == {
        name: tensor.dtype for name, tensor in wanted.state_dict().items()
    }
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    weights = sum(layer.words.numel() * 8 for layer in back.modules() if isinstance(layer, Int4Linear))
    size = (whole / "model.safetensors").stat().st_size
    assert weights * BYTES_PER_WEIGHT < size < weights * BYTES_PER_WEIGHT + 16_000
    assert "four bits" in (whole / "README.md").read_text()
    generator = load_text_generator(str(whole), device="cpu")
    assert generator.runner.compiled and generator.answer(["one two"], max_new_tokens=3)


def test_transformers_loads_it_with_the_embedding_in_bf16(run: Path, tmp_path: Path) -> None:
    folder = to_transformers(str(run), str(tmp_path / "linear"), weights="int4-linear")
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = list(range(8, 30))
    types = (torch.arange(len(ids)) < 10).long()[None]
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor([ids]), token_type_ids=types).logits[0, 9:-1]
    ours = Runner(read_weights(folder), compiled=False)
    prompt = Segment(tuple(ids[:10]), True)
    (found,) = ours.logits([((prompt,), tuple(ids[10:]))])
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_xl_in_four_bits_is_smaller_than_six_tenths_of_a_gibibyte() -> None:
    with torch.device("meta"):
        model = HrmText(xl(65536, 4097).model)
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert weights > 1.18e9
    assert all(parameter.shape[-1] % GROUP == 0 for parameter in model.parameters())
    assert weights * BYTES_PER_WEIGHT < 0.6 * 2**30


def test_the_command_writes_four_bits_and_says_what_it_cannot(run: Path, shards, tokenizer, tmp_path: Path) -> None:
    out = tmp_path / "small"
    done = CliRunner().invoke(app, ["export", str(run), "--format", "int4", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads((out / "config.json").read_text())["quantization_config"]["format"] == "pack-quantized"
    odd = SHAPE.model_copy(update={"hidden": 48, "heads": 3, "feed_forward": 128})
    config = TrainConfig(name="odd", batch_packs=2, steps=1, lr=1e-3, precision="fp32", model=odd)
    loop.train(shards, str(tokenizer), config, str(tmp_path / "odd"))
    with pytest.raises(InputError, match=r"four bits: rows of 48 weights: .* a multiple of 128"):
        to_transformers(str(tmp_path / "odd"), str(tmp_path / "out"), weights="int4")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"quant_method": "gptq"}, r"its quantization \(gptq, pack-quantized\) cannot be read"),
        ({"config_groups": {"group_0": {"weights": {"num_bits": 8}}}}, "cannot be read"),
        ({"config_groups": {}}, "cannot be read"),
    ],
)
def test_another_quantization_is_refused(whole: Path, tmp_path: Path, change: dict[str, object], said: str) -> None:
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((whole / "config.json").read_text())
    config["quantization_config"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=said):
        from_transformers(str(tmp_path))

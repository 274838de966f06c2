"""Low-rank updates: the model begins as it was, factors alone are trained, and checkpoints are merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from pipelines.errors import WinnowError
from tests.distributed import together
from training import checkpoint, journal, loop, parallel
from training.batches import Packs, batch_of_step
from training.configs import TrainConfig, sft, xl
from training.cost import cost, flops_per_token, memory, parameters
from training.export import from_transformers, to_transformers
from training.lora import add_lora
from training.model import HrmText, ModelConfig, build
from training.optimizer import AdamAtan2

BASE = TrainConfig(
    name="small",
    model=ModelConfig(vocab_size=512, hidden=32, heads=2, feed_forward=64, blocks=2, max_positions=64),
    batch_packs=4, steps=4, lr=3e-3, warmup_steps=2, ema_decay=0.8, precision="fp32", checkpoint_steps=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(shards, tokenizer, tmp_path_factory) -> str:
    """The folder of a checkpoint of a training of all weights."""
    out = str(tmp_path_factory.mktemp("base"))
    return str(loop.train(shards, str(tokenizer), BASE, out)["checkpoint"])


@pytest.fixture(scope="module")
def config(base: str) -> TrainConfig:
    update = {"start": base, "lora_rank": 4, "lora_alpha": 6.0, "lr": 1e-2, "seed": 1}
    return TrainConfig.model_validate(BASE.model_dump() | update)


@pytest.fixture(scope="module")
def tuned(config: TrainConfig, shards, tokenizer, tmp_path_factory) -> Path:
    """The training folder of four steps of low-rank updates, checkpoints after 2 and 4."""
    out = tmp_path_factory.mktemp("tuned")
    loop.train(shards, str(tokenizer), config, str(out))
    return out


def losses_of(model: HrmText, shards, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return loop.losses(model, batch_of_step(Packs(shards), 1, 4, dtype=dtype), 5, dtype)[0]


def with_factors(config: TrainConfig) -> HrmText:
    model = build(config.model, config.seed)
    add_lora(model, config.lora_rank, config.lora_scale, config.seed)
    return model


def test_initial_factors_leave_every_loss_as_it_was_bit_for_bit(base: str, config: TrainConfig, shards) -> None:
    plain = checkpoint.read_model(checkpoint.read(base))
    model = with_factors(config)
    loop._set_initial_weights(plain, model, parallel.local_shards(model))
    assert torch.equal(losses_of(model, shards), losses_of(plain, shards))
    assert all(bool(parameter.any()) for name, parameter in model.named_parameters() if "lora_A" in name)


def test_a_merged_checkpoint_computes_what_the_factors_compute(config: TrainConfig, tuned: Path, shards) -> None:
    last = checkpoint.read(str(tuned))
    model = with_factors(config)
    weights = parallel.local_shards(model)
    optimizer = AdamAtan2([shard.local for shard in weights.values()], 1e-2, (0.9, 0.95), 0.1, 0.8)
    checkpoint.restore(last, model, weights, optimizer)
    for average in (False, True):
        if average:
            with torch.no_grad():
                for _, local in weights.values():
                    local.copy_(optimizer.average(local))
        merged = losses_of(checkpoint.read_model(last, average), shards)
        torch.testing.assert_close(losses_of(model, shards), merged, rtol=2e-5, atol=2e-5)
    start = losses_of(checkpoint.read_model(checkpoint.read(str(config.start))), shards)
    assert (merged - start).abs().max() > 1e-2  # something was learned


def test_a_gradient_is_in_the_factors_alone(config: TrainConfig, shards) -> None:
    model = with_factors(config)
    for parameter in (p for name, p in model.named_parameters() if name.endswith("lora_B")):
        torch.nn.init.normal_(parameter, std=0.1)
    losses_of(model, shards).mean().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == ("lora_" in name), name
    assert (
        sum("lora_" in name for name, _ in model.named_parameters()) == 2 * 4 * 4
    )  # two for each matrix of four blocks


def test_frozen_weights_stay_and_only_factors_have_moments(base: str, tuned: Path) -> None:
    before = load_file(f"{base}/ema.safetensors")
    folder = tuned / "step-00000004"
    after, factors = load_file(folder / "model.safetensors"), load_file(folder / "lora.safetensors")
    assert after.keys() == before.keys()  # as of any checkpoint
    matrices = {name.removeprefix("base.") for name in factors if name.startswith("base.")}
    assert len(matrices) == 16
    for name, tensor in before.items():
        assert torch.equal(factors[f"base.{name}"] if name in matrices else after[name], tensor)
        assert torch.equal(after[name], tensor) == (name not in matrices)
    moments = load_file(folder / "optimizer.safetensors")
    assert moments and all("lora_" in name for name in moments)
    state = json.loads((folder / "checkpoint.json").read_text())
    assert all("lora_" in name for name in state["optimizer_steps"]) and state["config"]["lora_rank"] == 4


def test_it_resumes_to_the_same_bytes(config: TrainConfig, tuned: Path, shards, tokenizer, tmp_path: Path) -> None:
    again = shutil.copytree(tuned, tmp_path / "again")
    shutil.rmtree(again / "step-00000004")
    assert loop.train(shards, str(tokenizer), config, str(again))["resumed_from"] == 2
    for file in ("model", "ema", "optimizer", "lora"):
        one, two = (load_file(folder / f"step-00000004/{file}.safetensors") for folder in (tuned, again))
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    for changed in ({"lora_rank": 0, "lora_alpha": None}, {"lora_rank": 2}):
        with pytest.raises(WinnowError, match=r"another configuration .*lora_rank 4 -> "):
            loop.train(shards, str(tokenizer), config.model_copy(update=changed), str(again))


def test_an_export_and_a_second_fine_tuning_need_nothing_else(
    config: TrainConfig, tuned: Path, shards, tokenizer, tmp_path: Path
) -> None:
    exported = from_transformers(to_transformers(str(tuned), str(tmp_path / "hf")))
    torch.testing.assert_close(
        losses_of(exported, shards), losses_of(checkpoint.read_model(checkpoint.read(str(tuned))), shards)
    )
    whole = config.model_copy(update={"start": str(tuned), "lora_rank": 0, "lora_alpha": None})
    loop.train(shards, str(tokenizer), whole, str(tmp_path / "second"))
    assert not (tmp_path / "second/step-00000004/lora.safetensors").exists()
    state = json.loads((tmp_path / "second/step-00000004/checkpoint.json").read_text())
    assert {"lora_rank", "lora_alpha"}.isdisjoint(state["config"])


def _train(shards: list[str], tokenizer: str, config: TrainConfig, out: str) -> None:
    for sharded in (False, True):
        loop.train(shards, tokenizer, config.model_copy(update={"sharded": sharded}), f"{out}/{sharded}")


def test_two_workers_replicated_or_sharded_compute_what_one_computes(
    config: TrainConfig, tuned: Path, shards, tokenizer, tmp_path: Path
) -> None:
    together(2, _train, list(shards), str(tokenizer), config, str(tmp_path))
    expected = [line["loss"] for line in journal.read_metrics(str(tuned))]
    for sharded in (False, True):
        assert [line["loss"] for line in journal.read_metrics(f"{tmp_path}/{sharded}")] == pytest.approx(expected, 1e-4)
        one, two = (load_file(folder / "step-00000004/ema.safetensors") for folder in (tuned, tmp_path / str(sharded)))
        for name in one:
            torch.testing.assert_close(one[name].float(), two[name].float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"recompute": True}])
def test_bf16_and_recomputation_train_the_same_factors(
    change: dict, config: TrainConfig, tuned: Path, shards, tokenizer, tmp_path: Path
) -> None:
    loop.train(shards, str(tokenizer), config.model_copy(update=change), str(tmp_path))
    one, two = ([line["loss"] for line in journal.read_metrics(str(out))] for out in (tuned, tmp_path))
    assert one == pytest.approx(two, 2e-2 if "precision" in change else 1e-6)


@pytest.mark.filterwarnings("ignore")  # the compiler warns about its own code
def test_compiled_blocks_have_the_same_gradients(config: TrainConfig, shards) -> None:
    plain, compiled = with_factors(config), with_factors(config)
    for model in (plain, compiled):
        for number, parameter in enumerate(p for name, p in model.named_parameters() if name.endswith("lora_B")):
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    torch._dynamo.reset()
    parallel.compile_blocks(compiled, backend="aot_eager")
    for model in (plain, compiled):
        losses_of(model, shards).mean().backward()
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_cost_and_memory_are_those_of_frozen_weights() -> None:
    whole = sft(xl(65_536, 4097).model, 4097, "prefix_lm", "bf16")
    low = whole.model_copy(update={"start": "x", "lora_rank": 16})
    with torch.device("meta"):
        model = HrmText(whole.model)
        add_lora(model, 16, 2.0, 0)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen == parameters(whole.model)
    assert memory(low, 1, 1, True).state == 20 * trained + 4 * frozen
    assert memory(whole, 1, 1, True).state == 20 * frozen
    assert 0.6 < flops_per_token(low.model, 5, 16) / flops_per_token(low.model, 5) < 0.8
    alone = [cost(one.model_copy(update={"micro_packs": 1}), 10**9, 1, 2.0).memory_bytes for one in (low, whole)]
    assert alone[0] < alone[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"start": None}, "lora_rank freezes the weights"),
        ({"lora_rank": 0}, "lora_alpha scales low-rank updates"),
        ({"lora_rank": -1}, "greater than or equal to 0"),
    ],
)
def test_low_rank_settings_that_make_no_sense_are_refused(change: dict, told: str, config: TrainConfig) -> None:
    with pytest.raises(ValidationError, match=told):
        TrainConfig.model_validate(config.model_dump() | change)

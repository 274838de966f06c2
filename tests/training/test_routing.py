"""Selective heads and experts: what is computed for chosen parts is a plain definition, in training and inference."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from flows.configure import with_settings
from pipelines.errors import InputError, WinnowError
from tests.distributed import together
from training import checkpoint, journal, loop, parallel
from training.attention import Selected, attend, plan_attention
from training.batches import Packs, batch_of_step
from training.configs import CONFIGS, TrainConfig
from training.cost import flops_per_token, forward_flops_per_token, memory, parameters
from training.elementwise import rms_norm
from training.export import read_weights, to_transformers
from training.inference.cpu_pack import can_pack
from training.inference.language_model import Request
from training.inference.models import open_model
from training.inference.prompt import Segment, attention_among, instruction_prompt
from training.inference.runner import Runner
from training.model import Block, ExpertMatrices, HrmText, ModelConfig, build, grouped_product, rotation, schedule
from training.routing import Experts, SelectiveHeads

PLAIN = ModelConfig(vocab_size=64, hidden=40, heads=5, feed_forward=48, blocks=1, max_positions=64)
CHOICES = [(3, 1), (2, 0), (5, 4)]
"""Heads that a token uses, and how many of them are shared."""

SEQUENCES = [(4, 5), (3, 0), (1, 1), (6, 2), (1, 0)]
"""Prefix and suffix of packed sequences."""


def variant(active: int, shared: int, config: ModelConfig = PLAIN) -> ModelConfig:
    return config.model_copy(update={"selective": SelectiveHeads(active=active, shared=shared)})


MIXED = Experts(count=5, active=2, width=24)
WITH_EXPERTS = PLAIN.model_copy(update={"experts": MIXED})


def packed(sequences: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    lengths = [p + c for p, c in sequences]
    tokens = torch.randint(0, 64, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    return tokens, torch.cat([torch.arange(n) for n in lengths])


# ------------------------------------------------------------------------------------------- the definition, one by one


def rotated(x: Tensor, position: int, theta: float) -> Tensor:
    """A head's query or key [K] at a position."""
    half = len(x) // 2
    angle = position * theta ** -(torch.arange(half) * 2 / len(x))
    a, b = x[:half], x[half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()))


def attention_of_token(block: Block, config: ModelConfig, u: list[Tensor], n: int, prefix: int) -> Tensor:
    """The output of attention of token n of a sequence, head by head."""
    active, shared = config.selective.active, config.selective.shared
    K = config.hidden // config.heads
    W = block.attn.gqkv_proj.weight.view(4, config.heads, K, config.hidden)
    score = torch.sigmoid(block.attn.router.weight @ u[n])
    best = sorted(range(len(score)), key=lambda r: -score[r].item())[: active - shared]
    weights = dict.fromkeys(range(shared), 1.0) | {shared + r: 2 * score[r] for r in best}
    seen = range(prefix) if n < prefix else range(n + 1)
    out = torch.zeros(config.hidden)
    for head, weight in weights.items():
        gate, query = torch.sigmoid(W[0, head] @ u[n]), rotated(W[1, head] @ u[n], n, config.rope_theta)
        keys = torch.stack([rotated(W[2, head] @ u[m], m, config.rope_theta) for m in seen])
        values = torch.stack([W[3, head] @ u[m] for m in seen])
        a = torch.softmax(keys @ query / math.sqrt(K), 0) @ values
        out = out + block.attn.o_proj.weight[:, head * K : (head + 1) * K] @ (weight * gate * a)
    return out


def experts_of_token(block: Block, config: ModelConfig, u: Tensor) -> Tensor:
    """The output of the shared expert and of the chosen ones, one by one."""
    mlp, experts = block.mlp, config.experts

    def swiglu(gate_up: Tensor, down: Tensor) -> Tensor:
        gate, up = (gate_up @ u).chunk(2)
        return down @ (gate * torch.sigmoid(gate) * up)

    out = swiglu(mlp.gate_up_proj.weight, mlp.down_proj.weight)
    score = torch.sigmoid(mlp.router.weight @ u)
    wanted = score + experts.rate * mlp.router.tally
    for chosen in sorted(range(experts.count), key=lambda e: -wanted[e].item())[: experts.active]:
        own = mlp.experts_gate_up_proj.weight[chosen], mlp.experts_down_proj.weight[chosen]
        out = out + 2 * score[chosen] * swiglu(*own)
    return out


def logits_by_definition(model: HrmText, tokens: Tensor, sequences: list[tuple[int, int]]) -> Tensor:
    config, results, start = model.config, [], 0
    for prefix, suffix in sequences:
        x = model.embed_tokens.weight[tokens[start : start + prefix + suffix]] * math.sqrt(config.hidden)
        start += prefix + suffix
        states = {"H": x, "L": model.z_L_init.float().expand_as(x)}
        for call in schedule(config):
            u = states["H"] + states["L"]
            for block in model.get_submodule(f"{call.module}_module").layers:
                normed = [rms_norm(row) for row in u]
                if config.selective.active:
                    u = u + torch.stack([attention_of_token(block, config, normed, n, prefix) for n in range(len(u))])
                else:
                    plan, angles = plan_attention([prefix], [suffix]), rotation(torch.arange(len(u)), 8, 1e4)
                    u = u + block.attn(torch.stack(normed), angles, lambda _, *qkv, plan=plan: attend(plan, *qkv), 0)
                if config.experts.count:
                    u = u + torch.stack([experts_of_token(block, config, rms_norm(row)) for row in u])
                else:
                    u = u + block.mlp(rms_norm(u))
            states[call.into] = rms_norm(u) if call.learns else rms_norm(u).detach()
        results.append(states["H"])
    return model.lm_head(torch.cat(results))


@pytest.mark.parametrize(
    "config",
    [*(variant(*choice) for choice in CHOICES), WITH_EXPERTS, variant(3, 1, WITH_EXPERTS)],
    ids=["3-1", "2-0", "5-4", "experts", "both"],
)
def test_variants_have_the_logits_and_gradients_of_the_definition(config: ModelConfig) -> None:
    model = build(config, 0)
    if config.experts.count:
        for module in (model.H_module, model.L_module):
            module.layers[0].mlp.router.tally.copy_(torch.tensor([80, -300, 0, 200, 100]))
    tokens, positions = packed(SEQUENCES)
    plan = plan_attention(*zip(*SEQUENCES, strict=True))
    made = []
    for way in ("masked", "gathered", "definition"):
        model.train(way == "masked")
        model.zero_grad()
        if way == "definition":
            logits = logits_by_definition(model, tokens, SEQUENCES)
        else:
            logits = model(tokens, positions, lambda slot, q, k, v: attend(plan, q, k, v))
        logits.square().mean().backward()
        made.append([logits.detach(), *(p.grad for p in model.parameters())])
    for one in made[:2]:
        for ours, expected in zip(one, made[2], strict=True):
            assert (ours - expected).norm() <= 1e-5 * expected.norm()


def test_one_long_sequence_and_prompts_of_several_segments_are_the_definitions_too() -> None:
    model = build(variant(3, 1), 0).eval().requires_grad_(False)
    tokens, positions = packed([(12, 9)])
    plan = plan_attention([12], [9])
    logits = model(tokens, positions, lambda slot, q, k, v: attend(plan, q, k, v))
    torch.testing.assert_close(logits, logits_by_definition(model, tokens, [(12, 9)]), rtol=1e-5, atol=1e-5)
    # two bidirectional segments: what masked heads compute
    prompts = [
        (Segment((1, 2, 3), True), Segment((4, 5), False), Segment((6, 7, 8), True)),
        instruction_prompt([9, 10]),
    ]
    see = attention_among(prompts, torch.float32, torch.device("cpu"))
    ids, at = torch.arange(1, 11), torch.cat((torch.arange(8), torch.arange(2)))
    gathered = model(ids, at, lambda slot, q, k, v: see(q, k, v))
    torch.testing.assert_close(
        gathered, model.train()(ids, at, lambda slot, q, k, v: see(q, k, v)), rtol=1e-5, atol=1e-5
    )


def test_a_router_with_all_heads_and_equal_scores_is_the_plain_model() -> None:
    """Scores of one half weigh every head with 1."""
    model, plain = build(variant(5, 0), 3), build(PLAIN, 3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("router.weight"):
                parameter.zero_()
    tokens, positions = packed(SEQUENCES)
    plan = plan_attention(*zip(*SEQUENCES, strict=True))
    for one in (model.train(), model.eval()):
        ours, expected = (m(tokens, positions, lambda slot, q, k, v: attend(plan, q, k, v)) for m in (one, plain))
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


# ----------------------------------------------------------------------------------------------- what is not computed


@pytest.mark.parametrize(("active", "shared"), CHOICES)
def test_skipped_heads_are_not_computed_at_inference(active: int, shared: int) -> None:
    config = variant(active, shared, PLAIN.model_copy(update={"hidden": 80}))
    model, tokens = build(config, 0).eval(), 16
    queries = []

    def see(slot: int, q: Tensor | Selected, k: Tensor, v: Tensor) -> Tensor:
        queries.append(q.q_NSK.shape[0] * q.q_NSK.shape[1] + len(q.q_PK))
        return torch.cat((q.q_NSK.flatten(0, 1), q.q_PK))

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.arange(tokens), torch.arange(tokens), see)
    assert counter.get_total_flops() == pytest.approx(forward_flops_per_token(config) * tokens, rel=1e-9)
    assert queries == [tokens * active] * 8
    model.train()
    with FlopCounterMode(display=False) as counter:
        model(torch.arange(tokens), torch.arange(tokens), lambda slot, q, k, v: v).sum().backward()
    assert counter.get_total_flops() == pytest.approx(flops_per_token(config) * tokens, rel=0.06)


@pytest.mark.parametrize("active", [1, 2, 5])
def test_experts_that_are_not_chosen_are_not_computed(active: int) -> None:
    config = PLAIN.model_copy(update={"experts": Experts(count=5, active=active, width=24), "hidden": 80})
    model, tokens = build(config, 0), 16
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.arange(tokens), torch.arange(tokens), lambda slot, q, k, v: v)
    assert counter.get_total_flops() == pytest.approx(forward_flops_per_token(config) * tokens, rel=1e-9)
    with FlopCounterMode(display=False) as counter:
        model(torch.arange(tokens), torch.arange(tokens), lambda slot, q, k, v: v).sum().backward()
    assert counter.get_total_flops() == pytest.approx(flops_per_token(config) * tokens, rel=0.06)


@pytest.mark.parametrize("counts", [[3, 0, 5, 8], [16, 0, 0, 0], [0, 4, 12, 0]])
def test_the_grouped_product_is_that_of_the_loop(counts: list[int]) -> None:
    matrices = ExpertMatrices(4, 24, 40)
    torch.nn.init.normal_(matrices.weight)
    x, sizes = torch.randn(16, 40), torch.tensor(counts)
    made = []
    for product in (matrices, lambda x, sizes: grouped_product(x, matrices.weight, sizes)):
        matrices.zero_grad()
        out = product(x, sizes)
        out.square().sum().backward()
        made.append((out.detach(), matrices.weight.grad))
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_the_configuration_of_experts_has_7_05_billion_parameters_and_2_71_active() -> None:
    config = CONFIGS["experts"](65_536, 4097)
    with torch.device("meta"):
        model = HrmText(config.model)
    assert sum(p.numel() for p in model.parameters()) == parameters(config.model) == 7_048_806_400
    unused = sum(
        p[6:].numel()
        for name, p in model.named_parameters()
        if "experts_" in name  # a token uses 6 of 29
    )
    assert 7_048_806_400 - unused == parameters(config.model, "used") == 2_707_701_760


def test_levels_rise_where_an_expert_is_used_little_and_even_out_the_experts() -> None:
    router = build(WITH_EXPERTS, 0).H_module.layers[0].mlp.router
    for _ in range(2):
        router.update(torch.tensor([4, 0, 2, 2, 2]), torch.tensor(True))
    assert router.tally.tolist() == [-2, 2, 0, 0, 0]
    u = rms_norm(torch.randn(500, 40, generator=torch.Generator().manual_seed(0)) + router.weight[0].detach() * 5)
    peaks = []
    for _ in range(600):
        _, (counts, _) = router(u)
        peaks.append(counts.max().item() / 200)
        router.update(counts, torch.tensor(True))
    assert peaks[0] > 2 and max(peaks[-20:]) < 1.1


def test_costs_count_the_router_and_the_active_share() -> None:
    config = variant(3, 1)
    with torch.device("meta"):
        assert parameters(config) == sum(p.numel() for p in HrmText(config).parameters())
    D, K = 40, 8
    core = 2 * (5 * K * 2 * D + 3 * K * 3 * D + 4 * D + 3 * D * 48)  # keys and values of 5 heads, the rest of 3
    assert parameters(config, "used") == core + 2 * 64 * D
    xl = CONFIGS["xl"](65_536, 4097)
    selective = xl.model_copy(update={"model": variant(6, 2, xl.model)})
    assert memory(selective, 1, 1, True).activations > memory(xl, 1, 1, True).activations


# ----------------------------------------------------------------------------------------------------------- the plain


def test_the_plain_model_has_the_weights_and_the_configuration_it_had() -> None:
    assert "selective" not in PLAIN.model_dump() and "selective" not in json.loads(PLAIN.model_dump_json())
    plain, other = build(PLAIN, 7).state_dict(), build(variant(3, 1), 7).state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in plain.items())
    assert {name.rpartition(".router.")[2] for name in other.keys() - plain.keys()} == {"weight", "tally"}


# ------------------------------------------------------------------------------------------------------------ decoding


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_decoding_with_a_cache_gives_the_logits_of_the_whole_sequence(precision: str) -> None:
    runner = Runner(build(variant(3, 1, WITH_EXPERTS), 2), precision=precision)
    assert not runner.compiled and not can_pack(runner.model)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(0, 64, (n,), generator=generator).tolist() for n in (5, 9, 1)]
    answers = [torch.randint(0, 64, (4,), generator=generator).tolist() for _ in prompts]
    asked = [instruction_prompt(ids) for ids in prompts]
    cache = runner.new_cache(4, 16)
    rows = [2, 0, 3]
    made = [runner.prefill(cache, rows, asked)]
    made += [runner.step(cache, rows, [answer[step] for answer in answers]) for step in range(3)]
    alone = runner.new_cache(1, 16)
    first = [
        runner.prefill(alone, [0], asked[1:2]),
        *(runner.step(alone, [0], answers[1][n : n + 1]) for n in range(3)),
    ]
    expected = runner.logits(list(zip(asked, answers, strict=True)))
    together = [torch.stack([step[row] for step in made]) for row in range(3)]
    for one, logits in ((torch.cat(first), expected[1]), *zip(together, expected, strict=True)):
        if precision == "fp32":
            torch.testing.assert_close(one, logits, rtol=1e-4, atol=1e-4)
        else:  # rounding may let a token choose another head or expert
            assert ((one - logits).abs() < 0.2).float().mean() > 0.7


# ------------------------------------------------------------------------------------------------------------ training


SMALL = TrainConfig(
    name="small",
    model=variant(2, 1, ModelConfig(vocab_size=512, hidden=32, heads=4, feed_forward=64, blocks=1, max_positions=64)),
    batch_packs=4, steps=6, lr=3e-3, warmup_steps=5, ema_decay=0.9, bp_warmup=0.5, precision="fp32",
    checkpoint_steps=3, validation_steps=3, sharded=False,
)  # fmt: skip


def lines(out: Path) -> list[journal.Metrics]:
    return [journal.without_measured(line) for line in journal.read_metrics(str(out))]


EXPERTS = SMALL.model_copy(
    update={
        "model": SMALL.model.model_copy(update={"selective": SelectiveHeads(), "feed_forward": 24, "experts": MIXED})
    }
)
BOTH = EXPERTS.model_copy(
    update={"model": EXPERTS.model.model_copy(update={"selective": SMALL.model.selective}), "name": "both"}
)


@pytest.fixture(scope="module")
def alone(shards, tokenizer, tmp_path_factory) -> Path:
    """A training of a model with selective heads and experts."""
    out = tmp_path_factory.mktemp("alone")
    loop.train(shards, str(tokenizer), BOTH, str(out))
    return out


def agree(some: Path, alone: Path) -> None:
    """The same losses, weights and choices, up to the order of additions."""
    for one, other in zip(lines(some), lines(alone), strict=True):
        assert one["digest"] == other["digest"] and one["heads"] == other["heads"]
        assert one["experts"] == other["experts"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    theirs, ours = (load_file(Path(checkpoint.read(str(o)).folder, "model.safetensors")) for o in (some, alone))
    for name, tensor in ours.items():
        assert theirs[name].shape == tensor.shape
        assert (theirs[name] - tensor).float().norm() <= 1e-3 * tensor.float().norm(), name


def test_micro_batches_and_recomputed_blocks_train_the_same_model(alone: Path, shards, tokenizer, tmp_path) -> None:
    for number, update in enumerate(({"micro_packs": 1}, {"recompute": True})):
        loop.train(shards, str(tokenizer), BOTH.model_copy(update=update), str(tmp_path / str(number)))
        agree(tmp_path / str(number), alone)


def _train(shards: list[str], tokenizer: str, out: str) -> None:
    for sharded in (False, True):
        loop.train(shards, tokenizer, BOTH.model_copy(update={"sharded": sharded}), f"{out}/{sharded}")
    dist.barrier()


def test_two_workers_train_the_same_model_sharded_or_not(alone: Path, shards, tokenizer, tmp_path: Path) -> None:
    together(2, _train, shards, str(tokenizer), str(tmp_path))
    agree(tmp_path / "False", alone)
    agree(tmp_path / "True", alone)


def test_a_run_resumes_bit_for_bit_with_its_choices(alone: Path, shards, tokenizer, tmp_path: Path) -> None:
    loop.train(shards, str(tokenizer), BOTH, str(tmp_path))
    assert lines(tmp_path) == lines(alone)
    for file in sorted((tmp_path / "step-00000006").iterdir()):
        file.unlink()
    (tmp_path / "step-00000006").rmdir()
    assert loop.train(shards, str(tokenizer), BOTH, str(tmp_path))["resumed_from"] == 3
    assert lines(tmp_path) == lines(alone)
    for name in ("model", "ema", "optimizer"):
        assert (tmp_path / f"step-00000006/{name}.safetensors").read_bytes() == (
            alone / f"step-00000006/{name}.safetensors"
        ).read_bytes()


def test_the_journal_has_the_use_of_heads_in_each_call(alone: Path) -> None:
    for line in journal.read_metrics(str(alone)):
        assert len(line["heads"]) == 8 and all(len(call) == 3 for call in line["heads"])
        assert all(sum(call) == pytest.approx(1, abs=1e-3) for call in line["heads"])  # one of three heads
        assert 1 <= line["heads_peak"] <= 3
        assert [len(call) for call in line["experts"]] == [5] * 8
        assert all(sum(call) == pytest.approx(2, abs=1e-3) for call in line["experts"])  # two of five experts
    choices = load_file(alone / "step-00000006/model.safetensors")
    last = journal.read_metrics(str(alone))[-1]
    for module, calls in {"H": 2, "L": 6}.items():
        assert choices[f"{module}_module.layers.0.attn.router.tally"].sum() == calls * last["inputs"]


def test_the_balance_term_is_its_definition_and_evens_out_the_heads(shards, tokenizer, tmp_path: Path) -> None:
    model = build(SMALL.model, 0)
    batch = batch_of_step(Packs(shards), 1, 4)
    routings: list = []
    loop.losses(model, batch, 5, torch.float32, routings)
    term = loop._balance_term(model, routings, batch.inputs)
    # before the first step all heads count alike: the shares of scores add up to 1 for each token
    assert term.item() == pytest.approx(SMALL.model.selective.balance, rel=1e-5)
    assert sum(routing.penalty.requires_grad for (routing,) in routings) == 5
    peaks = []
    for balance in (0.0, 1.0):
        selective = SMALL.model.selective.model_copy(update={"balance": balance})
        config = SMALL.model_copy(
            update={"model": SMALL.model.model_copy(update={"selective": selective}), "steps": 15}
        )
        loop.train(shards, str(tokenizer), config, str(tmp_path / str(balance)))
        peaks.append(sum(line["heads_peak"] for line in lines(tmp_path / str(balance))[-5:]) / 5)
    assert peaks[1] < peaks[0] - 0.2


def test_a_step_that_is_not_finite_changes_no_choices() -> None:
    router = build(SMALL.model, 0).H_module.layers[0].attn.router
    router.update(torch.tensor([1, 2, 3]), torch.tensor(True))
    router.update(torch.tensor([7, 7, 7]), torch.tensor(False))
    assert router.tally.tolist() == [1, 2, 3]


def test_half_precision_trains_near_full_precision(shards) -> None:
    model, batch = build(BOTH.model, 0), batch_of_step(Packs(shards), 1, 4)
    full = loop.losses(model, batch, 5, torch.float32)[0].mean()
    half = batch_of_step(Packs(shards), 1, 4, dtype=torch.bfloat16)
    routings: list = []
    loss = loop.losses(model, half, 5, torch.bfloat16, routings)[0].mean()
    (loss + loop._balance_term(model, routings, half.inputs)).backward()
    assert loss.item() == pytest.approx(full.item(), rel=0.02)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.filterwarnings("ignore")  # the compiler warns about its own code
def test_compiled_blocks_compute_the_same(shards) -> None:
    batch = batch_of_step(Packs(shards), 1, 2)
    models = build(SMALL.model, 0), build(SMALL.model, 0)  # experts are compiled only on GPUs
    torch._dynamo.reset()
    parallel.compile_blocks(models[1], backend="aot_eager")
    u = torch.randn(len(batch.tokens_N), SMALL.model.hidden)
    angles = rotation(batch.positions_N, 8, 1e4)
    made = []
    for model in models:
        block = model.H_module.layers[0]
        out, (routing,) = block(u, angles, loop.BatchAttention(batch), 0)
        (out.square().mean() + routing.penalty / len(u)).backward()
        made.append([out.detach(), routing.counts, *(parameter.grad for parameter in block.parameters())])
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------ refusals


def test_settings_reach_the_heads_the_base_of_rope_and_the_context() -> None:
    settings = ("model.selective.active=1", "model.rope_theta=500000", "model.max_positions=8192")
    model = with_settings(CONFIGS["tiny"](512, 257), settings, None).model
    assert model.selective == SelectiveHeads(active=1) and (model.rope_theta, model.max_positions) == (500_000, 8192)
    with pytest.raises(WinnowError, match=r"a token uses 3 heads, 0 of them shared; .* at most the model's 2"):
        with_settings(CONFIGS["tiny"](512, 257), ("model.selective.active=3",), None)


def test_what_the_variant_cannot_do_is_refused_with_what_to_do(alone: Path, shards, tokenizer, tmp_path) -> None:
    with pytest.raises(
        ValidationError, match="selective heads and experts has no low-rank updates; train all its weights"
    ):
        TrainConfig.model_validate(BOTH.model_dump() | {"lora_rank": 4, "start": str(alone)})
    with pytest.raises(InputError, match="selective heads and experts is not stored in four bits; export it with"):
        to_transformers(str(alone), str(tmp_path / "out"), weights="int4")
    plain = BOTH.model.model_copy(update={"selective": SelectiveHeads(), "experts": Experts()})
    config = BOTH.model_copy(update={"model": plain, "start": str(alone)})
    with pytest.raises(InputError, match="is another model: selective active=2 shared=1"):
        loop.train(shards, str(tokenizer), config, str(tmp_path / "other"))
    same = BOTH.model_copy(update={"start": str(alone), "steps": 1})
    assert loop.train(shards, str(tokenizer), same, str(tmp_path / "same"))["steps"] == 1


# -------------------------------------------------------------------------------------------------------------- export


@pytest.mark.parametrize("model", [SMALL.model, EXPERTS.model, BOTH.model], ids=["heads", "experts", "both"])
def test_transformers_computes_an_export_as_its_checkpoint_is_computed(
    model: ModelConfig, shards, tokenizer, tmp_path: Path
) -> None:
    config = BOTH.model_copy(update={"model": model, "lr": 0.05})  # far from even use: levels decide
    loop.train(shards, str(tokenizer), config, str(tmp_path / "run"))
    out = Path(to_transformers(str(tmp_path / "run"), str(tmp_path / "hf")))
    ours = read_weights(str(tmp_path / "run"))
    theirs = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True, dtype=torch.float32).eval()
    rows = torch.tensor([[2, 17, 300, 41, 5, 90, 11], [7, 8, 9, 101, 250, 33, 12]])
    prefix = torch.tensor([[1, 1, 1, 1, 0, 0, 0]] * 2)
    with torch.inference_mode():
        logits = theirs(input_ids=rows, token_type_ids=prefix).logits
        first = theirs(input_ids=rows[:, :5], token_type_ids=prefix[:, :5], use_cache=True)
        later = theirs(input_ids=rows[:, 5:], past_key_values=first.past_key_values)
        for row, expected in zip(rows, logits, strict=True):
            plan = plan_attention([4], [3])
            own = ours(row, torch.arange(7), lambda slot, q, k, v, plan=plan: attend(plan, q, k, v))
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(later.logits, logits[:, 5:], rtol=1e-4, atol=1e-4)


def test_an_export_of_a_variant_is_read_back_and_answers_like_its_checkpoint(alone: Path, tmp_path: Path) -> None:
    out = to_transformers(str(alone), str(tmp_path / "hf"))
    theirs = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True, dtype=torch.float32)
    theirs.save_pretrained(tmp_path / "again")
    ours = read_weights(str(alone))
    for folder in (out, str(tmp_path / "again")):
        back = read_weights(folder)
        assert back.config == ours.config == BOTH.model
        for name, tensor in back.state_dict().items():
            assert torch.equal(tensor, ours.state_dict()[name]), name
    prompt = Request("direct", "What is 7 + 5?")
    answers = [
        open_model(folder, device="cpu").generate([prompt], max_tokens=12)[0][0].text for folder in (str(alone), out)
    ]
    assert answers[0] == answers[1]
    half = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True, dtype=torch.bfloat16)
    kept = {name: tensor for name, tensor in half.state_dict().items() if name.endswith(".tally")}
    assert len(kept) == 4 and all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in kept.items())
    assert "trust_remote_code=True" in (Path(out) / "README.md").read_text()

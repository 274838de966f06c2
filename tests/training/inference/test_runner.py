"""A Runner computes what a full forward pass computes, in any batch, with torch and with the compiled decoder."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from pipelines.errors import WinnowError
from training.attention import plan_attention, reference
from training.inference.cache import Cache
from training.inference.cpu_decode import decode, prefill
from training.inference.cpu_pack import MATRICES, can_pack, pack
from training.inference.language_model import LogLikelihood
from training.inference.prompt import (
    Prompt,
    Segment,
    attention_among,
    instruction_prompt,
    token_ids,
    visible_positions,
)
from training.inference.runner import Runner, find_device
from training.inference.scheduler import sample
from training.model import Architecture, Block, HrmText, ModelConfig, Norm, build

SMALL = ModelConfig(vocab_size=512, hidden=64, heads=4, feed_forward=128, blocks=2, max_positions=48)
CONTEXT, END = 49, 7
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> HrmText:
    model = build(SMALL, seed=5)
    with torch.no_grad():  # so that greedy answers vary and some of them end
        model.lm_head.weight[END] *= 2.5
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[False, True], ids=["torch", "compiled"])
def runner(request, model: HrmText) -> Runner:
    return Runner(model, compiled=request.param)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def random_ids(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(8, 300, (n,), generator=generator).tolist() for n in lengths]


def all_logits(model: HrmText, prompt: Prompt, continuation: list[int]) -> Tensor:
    """Logits of a prompt and its continuation, [tokens, V], with the mask written out."""
    ids = [*token_ids(prompt), *continuation]
    visible = visible_positions((*prompt, Segment(tuple(continuation), False)))
    allowed = torch.arange(len(ids)) < torch.from_numpy(visible)[:, None]

    def see(slot: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.einsum("qhk,phk->hqp", q, k) / q.shape[-1] ** 0.5
        return torch.einsum("hqp,phk->qhk", scores.masked_fill(~allowed, -torch.inf).softmax(-1), v)

    return model(torch.tensor(ids), torch.arange(len(ids)), see)


def greedy_by_definition(model: HrmText, prompt: Prompt, most: int) -> list[int]:
    """Greedy decoding that computes the full sequence anew for every token."""
    answer: list[int] = []
    while len(answer) < most and len(token_ids(prompt)) + len(answer) < CONTEXT:
        token = int(all_logits(model, prompt, answer)[-1].argmax())
        if token == END:
            break
        answer.append(token)
    return answer


# ------------------------------------------------------------------------------------------------------------- greedy


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_cached_batches_with_refill_give_what_full_forward_passes_give(runner: Runner, batch: int) -> None:
    prompts = [instruction_prompt(ids) for ids in random_ids([3, 17, 5, 5, 30, 1, 9, 45, 12])]
    expected = [greedy_by_definition(runner.model, prompt, 12) for prompt in prompts]
    assert len({len(ids) for ids in expected}) > 3  # some end early, some are cut
    assert runner.generate(prompts, END, 12, CONTEXT, batch) == expected


class CountingRunner(Runner):
    """A Runner that records how many sequences each step decodes."""

    steps: list[int]

    def step(self, cache: Cache, rows: Sequence[int], tokens: Sequence[int]) -> Tensor:
        self.steps.append(len(rows))
        return super().step(cache, rows, tokens)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_free_row_is_refilled_before_the_batch_has_ended(model: HrmText, compiled: bool) -> None:
    prompts = [instruction_prompt(ids) for ids in random_ids([6] * 24, seed=3)]
    lengths = [len(ids) for ids in Runner(model, compiled=compiled).generate(prompts, END, 20, CONTEXT, batch=24)]
    runner = CountingRunner(model, compiled=compiled)
    steps = runner.steps = []
    assert [len(ids) for ids in runner.generate(prompts, END, 20, CONTEXT, batch=4)] == lengths
    assert len(set(lengths)) > 3
    # Without refill, each batch of four takes as many steps as its longest answer.
    waiting = sum(max(lengths[first : first + 4]) for first in range(0, 24, 4))
    assert len(steps) < 0.85 * waiting
    assert sum(steps) > 0.8 * 4 * len(steps)


def test_progress_is_reported_after_every_batch_of_answers_and_at_the_end(runner: Runner) -> None:
    prompts = [instruction_prompt(ids) for ids in [[], *random_ids([4] * 10)]]
    reported: list[int] = []
    runner.generate(prompts, END, 5, CONTEXT, batch=4, on_done=reported.append)
    assert reported[-1] == 11 and len(reported) == 3 and reported == sorted(reported)


def test_prompts_without_room_get_empty_answers(runner: Runner) -> None:
    def generate(ids: list[list[int]], most: int) -> list[list[int]]:
        return runner.generate([instruction_prompt(tokens) for tokens in ids], END, most, CONTEXT)

    assert generate([[], [9] * 49, [9] * 60], 5) == [[], [], []]
    assert generate([[9, 10]], 0) == [[]]
    assert len(generate([[9] * 48], 5)[0]) <= 1


def test_bf16_gives_nearly_the_same_tokens(model: HrmText) -> None:
    prompts = [instruction_prompt(ids) for ids in random_ids([4, 9, 20, 7, 13, 30], seed=1)]
    for compiled in (False, True):
        full = Runner(model, compiled=compiled)
        half = Runner(copy.deepcopy(model), precision="bf16", compiled=compiled)
        first, second = (runner.generate(prompts, END, 1, CONTEXT) for runner in (full, half))
        assert sum(a == b for a, b in zip(first, second, strict=True)) >= 5


# ----------------------------------------------------------------------------------------------- the compiled decoder


@pytest.mark.parametrize("architecture", ["hrm", "transformer", "universal", "rins", "trm", "trm_half"])
@pytest.mark.parametrize("norm", ["magic", "pre", "post"])
def test_the_compiled_step_computes_what_the_model_does(architecture: Architecture, norm: Norm) -> None:
    config = SMALL.model_copy(update={"architecture": architecture, "norm": norm, "hidden": 40, "feed_forward": 72})
    model = build(config, 3).requires_grad_(False)
    lengths, steps = [5, 1, 9, 4, 12, 3, 3, 7, 2, 8, 6], 4  # eleven sequences: eight, two and one at a time
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(0, 512, (n,), generator=generator).tolist() for n in lengths]
    asked = [instruction_prompt(ids, causal=True) for ids in prompts]
    caches = [Cache(config, 11, 12 + steps, CPU, torch.float32, compiled) for compiled in (False, True)]
    rows = list(range(11))
    for cache in caches:
        attend = cache.prefill_attention(rows, lengths, attention_among(asked, torch.float32, CPU))
        tokens = torch.tensor([token for ids in prompts for token in ids])
        model(tokens, torch.cat([torch.arange(n) for n in lengths]), attend)
    weights = pack(model)
    for _ in range(steps):
        tokens = torch.randint(0, 512, (len(lengths),), generator=generator)
        positions = list(caches[1].lengths)
        expected = model(tokens, *caches[0].step_attention(rows))
        logits = decode(weights, caches[1].keys, caches[1].values, rows, tokens.tolist(), positions)
        caches[1].lengths = [length + 1 for length in positions]
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    agree(caches, caches[0].lengths)


def agree(caches: list[Cache], lengths: list[int]) -> None:
    """The caches hold the same keys and values in the positions that are filled."""
    for row, filled in enumerate(lengths):
        for part in ("keys", "values"):
            expected, computed = (getattr(cache, part)[:, row, :, :filled] for cache in caches)
            torch.testing.assert_close(computed, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_the_compiled_decoder_reads_prompts_as_the_model_does(count: int, causal: bool, threads: None) -> None:
    config = SMALL.model_copy(update={"hidden": 40, "max_positions": 700})
    model = build(config, 3).requires_grad_(False)
    lengths = [5, 1, 300, 9, 260, 12, 600, 3]  # shares of at most 512 tokens, except for the longer prompt
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(0, 512, (n,), generator=generator).tolist() for n in lengths]
    asked = [instruction_prompt(ids, causal) for ids in prompts]
    positions, ends = torch.cat([torch.arange(n) for n in lengths]), torch.tensor(lengths).cumsum(0) - 1
    caches = [Cache(config, 8, 602, CPU, torch.float32, compiled) for compiled in (False, True)]
    attend = caches[0].prefill_attention(range(8), lengths, attention_among(asked, torch.float32, CPU))
    expected = model(torch.tensor([token for ids in prompts for token in ids]), positions, attend, rows_M=ends)
    torch.set_num_threads(count)
    logits = prefill(pack(model), caches[1].keys, caches[1].values, range(8), asked)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    agree(caches, lengths)


@pytest.mark.parametrize("count", [1, 2])
def test_the_compiled_decoder_gives_the_tokens_of_torch(model: HrmText, count: int, threads: None) -> None:
    prompts = [instruction_prompt(ids) for ids in random_ids([3, 17, 5, 5, 30, 1, 9, 45, 12, 8], seed=2)]
    expected = Runner(model, compiled=False).generate(prompts, END, 12, CONTEXT, 16)
    torch.set_num_threads(count)
    compiled = Runner(model)
    assert [compiled.generate(prompts, END, 12, CONTEXT, batch) for batch in (16, 3)] == [expected] * 2


def test_the_compiled_decoder_runs_models_on_the_cpu_with_its_matrices(model: HrmText) -> None:
    assert can_pack(model)
    assert not can_pack(HrmText(SMALL).to("meta"))
    assert tuple(matrix.name for matrix in Block.matrices(SMALL)) == MATRICES


# ---------------------------------------------------------------------------------------------------- prompts in parts


CONVERSATION = (Segment((9, 10, 11, 12), True), Segment((20, 21, 22), False), Segment((30, 31, 32, 33, 34), True))


def test_a_token_sees_its_bidirectional_segment_and_everything_before_it() -> None:
    assert visible_positions(CONVERSATION).tolist() == [4, 4, 4, 4, 5, 6, 7, 12, 12, 12, 12, 12]
    assert visible_positions(instruction_prompt([1, 2, 3], causal=True)).tolist() == [1, 2, 3]
    assert visible_positions(()).tolist() == []


def test_one_bidirectional_segment_is_the_mask_of_training(model: HrmText) -> None:
    prompt, response = instruction_prompt(random_ids([7])[0]), random_ids([5], seed=1)[0]
    plan = plan_attention([7], [5])
    expected = model(
        torch.tensor([*token_ids(prompt), *response]), torch.arange(12), lambda slot, *qkv: reference(plan, *qkv)
    )
    torch.testing.assert_close(all_logits(model, prompt, response), expected)


def test_prompts_of_several_segments_are_read_and_continued(runner: Runner) -> None:
    start = (Segment((9, 10, 11, 12), True), Segment((20, 21), False))  # an instruction and the beginning of its answer
    prompts = [CONVERSATION, start, instruction_prompt([9, 10, 11])]
    expected = [greedy_by_definition(runner.model, prompt, 10) for prompt in prompts]
    assert any(expected)
    assert runner.generate(prompts, END, 10, CONTEXT, batch=2) == expected
    given = [([31, 32, 33], CONVERSATION), ([40], start)]
    logits = runner.logits([(prompt, continuation) for continuation, prompt in given])
    for (continuation, prompt), found in zip(given, logits, strict=True):
        wanted = all_logits(runner.model, prompt, continuation)[-len(continuation) - 1 : -1]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------------------------------------------- likelihoods


def test_log_likelihoods_are_those_of_a_full_forward_pass(runner: Runner) -> None:
    prompts = [instruction_prompt(ids) for ids in random_ids([3, 17, 5, 30, 1])]
    requests = list(zip(prompts, random_ids([4, 1, 9, 2, 6], seed=1), strict=True))
    for (prompt, continuation), found in zip(requests, runner.log_likelihoods(requests), strict=True):
        rows = all_logits(runner.model, prompt, continuation)[-len(continuation) - 1 : -1].log_softmax(-1)
        wanted = rows[range(len(continuation)), continuation].sum().item()
        assert found.log_prob == pytest.approx(wanted, rel=1e-4)
        assert not found.is_greedy
    alone = [runner.log_likelihoods([request])[0].log_prob for request in requests]
    assert [found.log_prob for found in runner.log_likelihoods(requests)] == pytest.approx(alone, rel=1e-5)


def test_a_greedy_answer_is_greedy_and_more_likely_than_another(runner: Runner) -> None:
    prompt = instruction_prompt(random_ids([17])[0])
    (answer,) = runner.generate([prompt], end=-1, max_new_tokens=6, context=CONTEXT)
    other = [*answer[:-1], (answer[-1] + 1) % 512]
    greedy, changed = runner.log_likelihoods([(prompt, answer), (prompt, other)])
    assert greedy.is_greedy and not changed.is_greedy
    assert greedy.log_prob > changed.log_prob


def test_an_empty_continuation_is_certain_and_an_empty_prompt_is_refused(runner: Runner) -> None:
    assert runner.log_likelihoods([(instruction_prompt([9]), [])]) == [LogLikelihood(0.0, True)]
    with pytest.raises(ValueError, match="at least one token"):
        runner.log_likelihoods([(instruction_prompt([]), [9])])


# --------------------------------------------------------------------------------------------------------- temperature


def test_a_seed_determines_the_samples_whatever_the_batch(model: HrmText) -> None:
    prompts = [instruction_prompt(ids) for ids in random_ids([3, 17, 5, 5, 30, 1, 9])]
    runner = Runner(model)  # compiled: a row's logits do not depend on its batch

    def generate(seed: int, batch: int, temperature: float = 1.0) -> list[list[int]]:
        return runner.generate(prompts, END, 10, CONTEXT, batch, temperature, seed)

    assert generate(1, 2) == generate(1, 7) != generate(2, 2)
    assert generate(1, 2, temperature=1e-6) == generate(1, 2, temperature=0)
    with pytest.raises(ValueError, match="negative"):
        generate(1, 2, temperature=-0.1)


def test_the_same_prompt_twice_gets_different_samples(runner: Runner) -> None:
    prompts = [instruction_prompt([9, 10, 11])] * 8
    assert len({tuple(ids) for ids in runner.generate(prompts, END, 6, CONTEXT, temperature=1.5)}) > 4


def test_tokens_are_drawn_with_their_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, -torch.inf, 2.0, 0.5]])
    count = 4000
    uniform = [(i + 0.5) / count for i in range(count)]
    tokens = sample(logits.expand(count, -1), 0.7, uniform)
    frequency = torch.bincount(tokens, minlength=5) / count
    assert frequency.tolist() == pytest.approx((logits[0] / 0.7).softmax(-1).tolist(), abs=1 / count)
    assert sample(logits, 0.7, [0.0]).tolist() == [0] and sample(logits, 0.7, [1 - 1e-16]).tolist() == [4]
    assert sample(torch.tensor([[-torch.inf, 0.0]]), 1.0, [0.0]).tolist() == [1]


# -------------------------------------------------------------------------------------------------------------- device


def test_auto_is_a_gpu_where_torch_sees_one() -> None:
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_an_unknown_device_is_an_error_with_the_choices(name: str) -> None:
    with pytest.raises(WinnowError, match=r"use (auto, cpu, cuda|cpu)"):
        find_device(name)

"""Strategies: parameters, votes, stopping rules, backtracking. An answer does not depend on other questions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import WinnowError
from training import loop
from training.configs import TrainConfig
from training.inference.checkpoint_model import CheckpointModel, load_checkpoint_model
from training.inference.language_model import Completion, LogLikelihood, Request
from training.inference.strategies import STRATEGIES, Question, Sampling, parse
from training.inference.strategies.adaptive_consistency import lead_over_all, lead_over_second
from training.inference.strategies.self_consistency import vote
from training.inference.strategies.self_refine import finds_nothing
from training.inference.strategies.spiral import sub_questions
from training.model import ModelConfig

EVERY = ("greedy", "self-consistency:n=5", "adaptive-consistency:n=6", "self-refine", "spiral")


class Script:
    """A model that says what a function of (request, sample number, temperature) returns; a word is a token."""

    name = identity = "script"

    def __init__(self, say: Callable[[Request, int], str], conditioned: bool = True) -> None:
        self.say, self.conditioned = say, conditioned
        self.requests: list[Request] = []

    def generate(self, requests, n=1, *, temperature=0.0, max_tokens=None, context=None, stop=(), seed=0, on_done=None):
        self.requests += requests
        texts = [[self.say(request, (seed if temperature else 0) + i) for i in range(n)] for request in requests]
        return [
            [Completion(text, len(text.split()), -0.5 * (len(text.split()) + 1), "stop", 3) for text in row]
            for row in texts
        ]

    def log_likelihoods(self, pairs: Sequence[tuple[Request, str]]) -> list[LogLikelihood]:
        raise NotImplementedError

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def last_word(text: str) -> str | None:
    return text.split()[-1] if text.split() else None


def ask(instruction: str = "What is the sum of 3 and 4?") -> Question:
    return Question("direct", instruction, last_word)


@pytest.fixture(scope="module")
def model(write_packs, sums, tokenizer: Path, tmp_path_factory) -> CheckpointModel:
    """A checkpoint that was trained on small sums for a short while, so that it is often but not always right."""
    out = tmp_path_factory.mktemp("strategies")
    config = TrainConfig(
        name="small", batch_packs=4,
        model=ModelConfig(vocab_size=512, hidden=64, heads=2, feed_forward=128, blocks=1, max_positions=512),
        lr=6e-3, warmup_steps=5, ema_decay=0.9, precision="fp32", bp_warmup=0,
    )  # fmt: skip
    # A context that has room for the prompts of later rounds.
    shards = write_packs(tmp_path_factory.mktemp("long"), sums, context=513, packs_per_shard=2)
    loop.train(shards * 3, str(tokenizer), config, str(out))
    return load_checkpoint_model(str(out))


QUESTIONS = [ask(f"What is the sum of {a} and {b}?") for a, b in ((3, 4), (9, 9), (0, 5), (7, 6), (3, 4))]


@pytest.mark.parametrize("text", EVERY)
def test_on_a_checkpoint_answers_are_determined_by_question_and_seed_and_not_by_the_chunk(
    model: CheckpointModel, text: str
) -> None:
    strategy, sampling = parse(text), Sampling(max_tokens=8, seed=3)
    together = strategy.run(QUESTIONS, model, sampling)
    assert together == [strategy.run([question], model, sampling)[0] for question in QUESTIONS]
    assert together == strategy.run(QUESTIONS, model, sampling)
    assert together[0] == together[4]  # the same question
    for answer in together:
        if answer.trace:
            assert answer.tokens == sum(call.tokens for call in answer.trace)
        assert answer.prompt_tokens and answer.finish in ("stop", "length")
    rounds = {"self-refine": "critique", "spiral": "sub-answer"}.get(strategy.name)
    if rounds:
        assert any(call.role == rounds and call.tokens for answer in together for call in answer.trace)


def test_another_seed_draws_other_samples_and_a_higher_n_keeps_the_first_ones(model: CheckpointModel) -> None:
    def samples(n: int, seed: int) -> list[str]:
        strategy = parse(f"self-consistency:n={n},temperature=2")
        (answer,) = strategy.run([ask()], model, Sampling(max_tokens=8, seed=seed))
        return [call.text for call in answer.trace if call.role == "sample"]

    assert samples(6, 0)[:4] == samples(4, 0)
    assert samples(6, 0) != samples(6, 1)


@pytest.mark.parametrize("text", EVERY)
def test_a_prompt_without_room_is_answered_with_nothing(model: CheckpointModel, text: str) -> None:
    (answer,) = parse(text).run([ask()], model, Sampling(max_tokens=8, context=4))
    assert (answer.text, answer.tokens, answer.finish) == ("", 0, "none")


@pytest.mark.parametrize("text", EVERY)
def test_no_questions_have_no_answers(model: CheckpointModel, text: str) -> None:
    assert parse(text).run([], model, Sampling()) == []


@pytest.mark.parametrize("text", EVERY)
def test_the_canonical_form_parses_to_the_same_strategy_and_has_every_parameter(text: str) -> None:
    strategy = parse(text)
    assert parse(str(strategy)) == strategy
    assert all(f"{key}=" in str(strategy) for key in type(strategy).model_fields)
    assert str(strategy) in strategy.identity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spirall", "did you mean 'spiral'"),
        ("vote", "known: adaptive-consistency, greedy"),
        ("", "known:"),
        ("self-consistency:m=3", "unknown key 'm'"),
        ("self-consistency:n=many", "expected a whole number"),
        ("self-consistency:n=0", "at least 1"),
        ("self-consistency:n", "expected parameter=value"),
        ("self-consistency:n=1,n=2", "given twice"),
        ("self-consistency:temperature=nan", "temperature"),
        ("adaptive-consistency:confidence=1", "below 1"),
        ("greedy:n=3", "has no parameters"),
        ("spiral:min_rounds=4,max_rounds=3", "min_rounds 4 is above max_rounds 3"),
    ],
)
def test_a_mistake_in_a_strategy_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(WinnowError, match=message):
        parse(text)


def test_the_registry_has_one_strategy_per_name() -> None:
    assert set(STRATEGIES.own) == {text.partition(":")[0] for text in EVERY}


def test_votes_go_to_the_most_frequent_answer_and_ties_to_the_first() -> None:
    def completions(log_probs: Sequence[float]) -> list[Completion]:
        return [Completion("", 1, log_prob, "stop") for log_prob in log_probs]

    assert vote(completions([-1] * 5), ["a", "b", None, "b", "a"]) == 0
    assert vote(completions([-1] * 5), ["a", "b", None, "b", "c"]) == 1
    assert vote(completions([-1] * 5), [None, "b", "a", "a", "b"], "first") == 1
    assert vote(completions([-1, -9, -1, -1, -1]), [None, "b", "a", "a", "b"], "log_prob") == 2
    assert vote(completions([-1, -1]), [None, None]) == 0


def test_the_stopping_probabilities_are_those_of_the_posterior() -> None:
    # by simulation, and where both rules mean the same: one answer against one other
    rng = np.random.default_rng(0)
    for votes in ((3, 1), (5, 0), (2, 2, 1), (4, 3, 1, 1)):
        draws = rng.gamma(np.asarray([*votes, 0]) + 1.0, size=(200_000, len(votes) + 1))
        assert lead_over_all(votes) == pytest.approx((draws.argmax(1) == 0).mean(), abs=0.005)
        pair = rng.beta(votes[0] + 1, votes[1] + 1, 200_000)
        assert lead_over_second(votes) == pytest.approx((pair > 0.5).mean(), abs=0.005)
    assert lead_over_second(()) == lead_over_second((1, 1)) == pytest.approx(0.5)
    assert lead_over_second((4,)) == pytest.approx(31 / 32)  # 1 - 0.5^5


def test_adaptive_consistency_stops_when_the_leader_is_safe_and_counts_what_it_drew() -> None:
    (sure,) = parse("adaptive-consistency:n=20").run([ask()], Script(lambda request, i: "it is 7"), Sampling())
    assert sure.tokens == 4 * 3 and "'7' 4" in sure.trace[-1].text
    counter = itertools.count()
    unsure = Script(lambda request, i: f"it is {next(counter)}")
    (answer,) = parse("adaptive-consistency:n=10,step=3").run([ask()], unsure, Sampling())
    assert answer.tokens == 10 * 3 and answer.text == "it is 0"


@pytest.mark.parametrize(
    ("critique", "nothing"),
    [("CORRECT", True), ("3 + 4 = 7.\nCorrect.", True), ("The answer is correct.", True), ("", True),
     ("Correct the sum.", False), ("The answer is not correct.", False), ("Incorrect", False)],
)  # fmt: skip
def test_a_critique_that_finds_nothing_ends_the_refinement(critique: str, nothing: bool) -> None:
    assert finds_nothing(critique) is nothing


def test_self_refine_writes_again_what_the_critique_finds_until_the_answer_repeats() -> None:
    def say(request: Request, i: int) -> str:
        if "Check the proposed answer" in request.instruction:
            return "The sum is wrong."
        return "it is 8" if "Critique:\nThe sum is wrong." in request.instruction else "it is 6"

    (answer,) = parse("self-refine:rounds=5").run([ask()], Script(say), Sampling())
    assert answer.text == "it is 8"
    roles = [call.role for call in answer.trace]
    assert roles == ["sample", "critique", "refine", "critique", "refine", "decision"]
    assert answer.tokens == 3 * 3 + 2 * 4 and answer.prompt_tokens == 5 * 3


def spiral_says(final: Callable[[str, str], str], questions: Callable[[int], str]) -> Callable[[Request, int], str]:
    """A script of the spiral: the text of an answer given condition and notes, and the sub-questions of a sample."""

    def say(request: Request, i: int) -> str:
        if "short questions" in request.instruction:
            return questions(i)
        if "Answer only this:" in request.instruction:
            return "a fact"
        return final(request.condition, request.instruction.partition("Notes:")[2])

    return say


def test_spiral_keeps_a_better_state_goes_back_from_a_worse_one_and_ends_when_the_answer_repeats() -> None:
    asked = itertools.count()

    def final(condition: str, notes: str) -> str:
        # Without notes the two answers differ. With the first note they agree; with a second one they differ again.
        count = notes.count("a fact")
        return {0: {"direct": "6", "synth,cot": "it is 5"}, 1: {"direct": "7", "synth,cot": "it is 7"}}.get(
            count, {"direct": "9", "synth,cot": "it is 8"}
        )[condition]

    model = Script(spiral_says(final, lambda i: f"1. Why {next(asked)}?"))
    (answer,) = parse("spiral:questions=1,max_rounds=4").run([ask()], model, Sampling())
    assert answer.text == "it is 7"
    decisions = [call.text for call in answer.trace if call.role == "decision"]
    assert [decision.partition(";")[0] for decision in decisions] == [
        "round 1: answer '5', score -0.500", "round 2: keep", "round 3: backtrack", "round 4: backtrack",
    ]  # fmt: skip
    # After going back, the notes of the state before are used, not those that were dropped.
    assert [request.instruction.count("a fact") for request in model.requests if request.condition == "synth,cot"] == [
        0, 1, 2, 2,
    ]  # fmt: skip
    steady = Script(spiral_says(lambda condition, notes: "it is 7", lambda i: f"Why {next(asked)}?"))
    (answer,) = parse("spiral").run([ask()], steady, Sampling())
    assert [call.role for call in answer.trace].count("integrate") == 3  # min_rounds


def test_spiral_tells_a_model_without_conditions_to_give_only_the_final_answer() -> None:
    for conditioned in (True, False):
        model = Script(spiral_says(lambda condition, notes: "7", lambda i: "Why?"), conditioned)
        parse("spiral").run([ask()], model, Sampling())
        assert (
            any("Give only the final answer." in request.instruction for request in model.requests) is not conditioned
        )


def test_sub_questions_are_lines_without_numbers_and_without_those_asked_before() -> None:
    text = "1. How many?\n- Why so?\n\n(3) how many?\nQ: Where?\n---\n12 eggs per what?"
    assert sub_questions(text, {"where?"}) == ["How many?", "Why so?", "12 eggs per what?"]

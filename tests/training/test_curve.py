"""Strategies are compared at equal tokens: votes of the first samples, paired by item, with flips both ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.evaluation.curve import (
    StrategyRun,
    curve_lines,
    draw,
    first_samples,
    make_curve,
    samples_for_equal_tokens,
)
from training.evaluation.task import Answer, Call, Item
from training.evaluation.tasks import TASKS
from training.inference.strategies import parse

TASK = TASKS["generated"]
ITEMS: list[Item] = [{"id": f"generated/sums/{n}", "question": "?", "answer": "7"} for n in range(4)]


def voted(*texts: str) -> Answer:
    """An answer of self-consistency with these samples of two tokens each."""
    calls = tuple(Call("sample", "direct", "?", text, 2, -1.0) for text in texts)
    return Answer(max(texts, key=texts.count), 2 * len(texts), "stop", -1.0, trace=calls, prompt_tokens=5)


VOTES = StrategyRun(
    str(parse("self-consistency:n=3")),
    [voted("7", "7", "6"), voted("6", "7", "7"), voted("6", "6", "7"), voted("7", "6", "6")],
)
GREEDY = StrategyRun("greedy", [Answer(text, 2, "stop", prompt_tokens=5) for text in ("7", "7", "6", "6")])
SPIRAL = StrategyRun(str(parse("spiral")), [Answer(text, 5, "stop", prompt_tokens=40) for text in ("6", "7", "7", "7")])


def test_the_first_samples_are_those_of_a_smaller_number() -> None:
    run = first_samples(TASK, ITEMS, VOTES, 1)
    assert [answer.text for answer in run.answers] == ["7", "6", "6", "7"]
    assert [answer.tokens for answer in run.answers] == [2] * 4 and "n=1," in run.strategy
    assert [answer.text for answer in first_samples(TASK, ITEMS, VOTES, 3).answers] == [a.text for a in VOTES.answers]


def test_a_strategy_is_paired_with_the_votes_of_nearest_tokens_and_with_greedy() -> None:
    curve = make_curve(TASK, ITEMS, [GREEDY, VOTES, SPIRAL], "model")
    greedy, votes, spiral = curve.points
    assert (greedy.score, greedy.tokens, greedy.against_greedy) == (0.5, 2.0, None)
    assert (votes.score, votes.tokens, votes.equal_tokens) == (0.5, 6.0, None)
    assert (spiral.score, spiral.tokens, spiral.prompt_tokens) == (0.75, 5.0, 40.0)
    assert spiral.against_greedy is not None and spiral.against_equal_tokens is not None
    assert (spiral.against_greedy.improved, spiral.against_greedy.worsened) == (2, 1)
    assert spiral.equal_tokens is not None and spiral.equal_tokens_tokens in (4.0, 6.0)
    assert [point.tokens for point in curve.votes] == [2.0, 4.0, 6.0]
    text = "\n".join(curve_lines(curve))
    assert "flips: 2 wrong to right, 1 right to wrong" in text and "score 75.0%" in text


def test_the_score_of_a_task_by_subsets_is_their_mean() -> None:
    task = TASK._replace(macro=True, subset=lambda item: "a" if item["id"] == ITEMS[0]["id"] else "b")
    greedy, spiral = make_curve(task, ITEMS, [GREEDY, SPIRAL], "model").points
    assert (greedy.score, spiral.score) == pytest.approx((2 / 3, 0.5))
    assert spiral.against_greedy is not None and abs(spiral.against_greedy.difference + 1 / 6) < 1e-9


def test_without_votes_there_is_no_comparison_at_equal_tokens() -> None:
    curve = make_curve(TASK, ITEMS, [GREEDY, SPIRAL], "model")
    assert curve.votes == [] and all(point.against_equal_tokens is None for point in curve.points)


def test_the_number_of_samples_covers_the_most_expensive_strategy() -> None:
    assert samples_for_equal_tokens([GREEDY, SPIRAL]) == 4  # 20 tokens of 8, and one more
    assert samples_for_equal_tokens([GREEDY, SPIRAL], most=2) == 2
    assert samples_for_equal_tokens([GREEDY]) == samples_for_equal_tokens([SPIRAL]) == 0


def test_the_curve_is_a_picture(tmp_path: Path) -> None:
    for runs in ([GREEDY, VOTES, SPIRAL], [GREEDY], [VOTES]):
        draw(make_curve(TASK, ITEMS, runs, "model"), str(tmp_path / "curve.png"))
        assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")

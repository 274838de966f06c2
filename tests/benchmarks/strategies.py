"""`python -m tests.benchmarks.strategies CHECKPOINT...`: strategies at equal tokens on the generated benchmark.

Each checkpoint answers the same held-out items, with its number as the seed of the sampling. Self-consistency has the
condition of the benchmark (`direct`) and that of shown work (`synth,cot`), because the Spiral uses both. Answers go to
--out, one file per checkpoint and strategy, so that an interrupted measurement carries on.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import hashlib
import json
import random
import time
from pathlib import Path

from pipelines.benchmarks.generated import items as generated_items
from tests.benchmarks.__main__ import ROOT, Row, table
from training.evaluation.curve import Curve, Point, StrategyRun, draw, make_curve
from training.evaluation.task import Answer, Call, Item
from training.evaluation.tasks.generated import GENERATED
from training.inference.models import open_model
from training.inference.strategies import Question, Sampling, parse
from training.inference.strategies.adaptive_consistency import lead_over_second

LEAKED = 300
"""The first items of the generated benchmark, some of which are in the training rows."""

RUNS = (
    ("synth,cot", "greedy"),
    ("synth,cot", "self-consistency:n=6"),
    ("synth,cot", "adaptive-consistency:n=6"),
    ("synth,cot", "self-refine:rounds=2"),
    ("synth,cot", "spiral:max_rounds=4"),
    ("direct", "greedy"),
    ("direct", "self-consistency:n=16"),
    ("direct", "adaptive-consistency:n=16"),
)
MAX_TOKENS = 96


def answers_of(
    out: Path, number: int, checkpoint: str, condition: str, strategy: str, rows: list[Item]
) -> list[Answer]:
    """The answers of a strategy, from its file if there is one."""
    key = hashlib.blake2b(json.dumps([checkpoint, condition, strategy, len(rows)]).encode(), digest_size=6).hexdigest()
    path = out / f"{number}-{condition.replace(',', '-')}-{parse(strategy).name}-{key}.json"
    if not path.exists():
        started = time.time()
        model = open_model(checkpoint, batch=64)
        questions = [
            Question(condition, GENERATED.prompt(row, ()), functools.partial(GENERATED.extract, item=row))
            for row in rows
        ]
        answers = parse(strategy).run(questions, model, Sampling(max_tokens=MAX_TOKENS, seed=number))
        path.write_text(json.dumps(answers))
        print(f"{checkpoint} {condition} {strategy}: {time.time() - started:,.0f} s", flush=True)
    return [
        Answer(*row[:5], trace=tuple(Call(*call) for call in row[5]), prompt_tokens=row[6])
        for row in json.loads(path.read_text())
    ]


def joined(out: Path, checkpoints: list[str], condition: str, rows: list[Item]) -> tuple[list[Item], list[StrategyRun]]:
    """The items of all checkpoints, one after another, and the answers of each strategy to them."""
    runs: dict[str, list[Answer]] = {}
    for number, checkpoint in enumerate(checkpoints):
        for of, strategy in RUNS:
            if of == condition:
                runs.setdefault(str(parse(strategy)), []).extend(
                    answers_of(out, number, checkpoint, condition, strategy, rows)
                )
    return rows * len(checkpoints), [StrategyRun(strategy, answers) for strategy, answers in runs.items()]


def row_of(point: Point) -> Row:
    """A point as a row of the report."""

    def compared(name: str) -> Row:
        paired = getattr(point, name)
        if paired is None:
            return {name.replace("_", " "): ""}
        interval = paired.clustered or paired.interval
        flips = f"{paired.improved} up, {paired.worsened} down, p {paired.p_value:.2g}"
        return {
            name.replace("_", " "): f"{100 * paired.difference:+.1f} "
            f"({100 * interval.low:+.1f} to {100 * interval.high:+.1f}); {flips}"
        }

    return {
        "strategy": point.strategy,
        "tokens per item": f"{point.tokens:.1f}",
        "prompt tokens per item": f"{point.prompt_tokens:.0f}" if point.prompt_tokens is not None else "",
        "score, %": f"{100 * point.score:.1f} ({100 * (point.low or 0):.1f} to {100 * (point.high or 0):.1f})",
        **compared("against_greedy"),
        "equal tokens": f"{point.equal_tokens.partition(',')[0]} ({point.equal_tokens_tokens:.1f})"
        if point.equal_tokens
        else "",
        **compared("against_equal_tokens"),
    }


def flipped(rows: list[Item], runs: list[StrategyRun], better: bool, count: int = 20) -> list[str]:
    """Traces of the Spiral where it flipped greedy's judgement, as text. better: from wrong to right."""
    greedy, spiral = (next(run for run in runs if run.strategy.startswith(name)) for name in ("greedy", "spiral"))
    judged = [GENERATED.scorers[0].judge(run.answers, rows) for run in (greedy, spiral)]
    chosen = [at for at in range(len(rows)) if judged[1][at].score - judged[0][at].score == (1 if better else -1)]
    random.Random(0).shuffle(chosen)
    texts = []
    for at in chosen[:count]:
        item = rows[at]
        lines = [f"{item['id']}: {item['question']} -> {item['answer']}; greedy: {greedy.answers[at].text!r}"]
        lines += [f"    {call.role}: {call.text!r}" for call in spiral.answers[at].trace]
        texts.append("\n".join(lines))
    return texts


def by_checkpoint(curves: list[Curve]) -> list[Row]:
    """The score of each strategy on each checkpoint."""
    return [
        {"strategy": points[0].strategy}
        | {
            f"checkpoint {number}, % (tokens)": f"{100 * p.score:.0f} ({p.tokens:.0f})"
            for number, p in enumerate(points)
        }
        for points in zip(*(curve.points for curve in curves), strict=True)
    ]


def difference_from_its_hub() -> float:
    """The largest difference of the stopping probabilities, for all votes up to 40 against 40."""
    from its_hub.core.algorithms.beta_self_consistency import BetaSelfConsistency

    return max(
        abs(BetaSelfConsistency.beta_stopping_probability(first, second) - lead_over_second((first, second)))
        for first in range(41)
        for second in range(first + 1)
    )


def main() -> None:
    """Measure, and write the report and its pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.strategies")
    parser.add_argument("checkpoints", nargs="*")
    parser.add_argument("--oracle", action="store_true", help="compare the stopping rule with its-hub's, if installed")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("strategies"))
    parser.add_argument("--traces", action="store_true", help="print traces that flipped, and write nothing")
    arguments = parser.parse_args()
    if arguments.oracle:
        print(f"largest difference from its-hub's stopping probability: {difference_from_its_hub():.2g}")
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = generated_items(LEAKED + arguments.items, 0).slice(LEAKED).to_pylist()
    name = f"strategies-2core-{datetime.date.today()}"
    folder = ROOT / "docs/benchmarks"
    parts = []
    for condition in dict.fromkeys(condition for condition, _ in RUNS):
        items, runs = joined(arguments.out, arguments.checkpoints, condition, rows)
        if arguments.traces:
            if condition == "synth,cot":
                for better in (True, False):
                    print(f"\n===== {'wrong to right' if better else 'right to wrong'}")
                    print("\n\n".join(flipped(items, runs, better)))
            continue
        # The checkpoints answer the same items, so these are clusters.
        task = GENERATED._replace(cluster=lambda item: item["id"]) if len(arguments.checkpoints) > 1 else GENERATED
        curve = make_curve(task, items, runs, "")
        size = len(rows)
        single = [
            make_curve(
                GENERATED,
                rows,
                [run._replace(answers=run.answers[at * size : (at + 1) * size]) for run in runs],
                checkpoint,
            )
            for at, checkpoint in enumerate(arguments.checkpoints)
        ]
        picture = f"{name}-{condition.replace(',', '-')}.png"
        draw(curve, str(folder / picture))
        votes: list[Row] = [
            {"samples": parse(p.strategy).model_dump()["n"], "tokens per item": f"{p.tokens:.1f}",
             "score, %": f"{100 * p.score:.1f}"}
            for p in curve.votes
        ]  # fmt: skip
        parts.append(
            f"## Condition `{condition}`\n\n![curve]({picture})\n\n{table([row_of(p) for p in curve.points])}\n\n"
            f"Self-consistency by its samples:\n\n{table(votes)}\n\n{table(by_checkpoint(single))}\n"
        )
    if parts:
        (folder / f"{name}.md").write_text("# Strategies at equal tokens\n\n" + "\n".join(parts))
        print("\n".join(parts))


if __name__ == "__main__":
    main()

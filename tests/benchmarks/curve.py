"""`python -m tests.benchmarks.curve TRAINING`: a training's curve, as numbers and a picture, into docs/benchmarks/.

TRAINING is the folder that `winnow train` prints. The record is read, nothing is trained.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
from pathlib import Path

from tests.benchmarks.__main__ import ROOT, hardware, table
from training import checkpoint, cost, journal

POINTS = 10
"""Lines of the table: each is the mean over the labels of that share of the steps."""


def report(training: Path, name: str, command: str) -> str:
    """The report's text, of a training's metrics.jsonl and its latest checkpoint."""
    lines = journal.read_metrics(str(training))
    progress = checkpoint.read(str(training)).state
    last, total = lines[-1], progress.total_steps
    held = [line for line in lines if "validation_loss" in line]
    width = max(1, total // POINTS)
    rows: list[dict[str, object]] = []
    for stop in range(width, len(lines) + 1, width):
        part = lines[stop - width : stop]
        labels = sum(line["labels"] for line in part)
        seen = [line for line in held if line["step"] <= stop]
        rows.append(
            {
                "steps": f"{stop - width + 1} to {stop}",
                "calls differentiated": part[-1]["bp_steps"],
                "loss": sum(line["loss"] * line["labels"] for line in part) / labels,
                "token accuracy": sum(line["token_accuracy"] * line["labels"] for line in part) / labels,
                "validation loss": seen[-1]["validation_loss"] if seen else "",
            }
        )
    seconds = sum(line["seconds"] for line in lines)
    waited = sum(line["seconds"] * line["input_wait"] for line in lines) / seconds
    facts = [
        f"- {last['step']:,} of {total:,} steps, {sum(line['inputs'] for line in lines):,} input tokens, "
        f"{sum(line['labels'] for line in lines):,} labels; {cost.parameters(progress.config.model):,} parameters",
        f"- last validation loss: **{held[-1]['validation_loss']:.3f}** nats per token, "
        f"{held[-1]['validation_token_accuracy']:.1%} of tokens right (step {held[-1]['step']:,})" if held else "",
        f"- {waited:.2%} of the steps' time was spent waiting for input; "
        f"{last['memory'] / 1e6:,.0f} MB resident in the first worker",
    ]  # fmt: skip
    said = "\n".join(fact for fact in facts if fact)
    return f"\n    {command}\n\n{said}\n\n![loss]({name}.png)\n\n{table(rows)}\n"


def main() -> None:
    """Write the report and its picture."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.curve")
    parser.add_argument("training", type=Path, help="a training's folder")
    parser.add_argument("--name", default="tiny-on-mini", help="beginning of the report's name")
    parser.add_argument(
        "--command", default="winnow train latest --config tiny", help="what the training was started by"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    arguments = parser.parse_args()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    name = f"{arguments.name}-{hardware()}-{today}"
    text = report(arguments.training, name, arguments.command)
    journal.draw(arguments.training, arguments.name)
    shutil.copyfile(arguments.training / journal.CURVE, arguments.out / f"{name}.png")
    head = (
        f"# {arguments.name}, {today}\n\nOn {hardware()}, real data. "
        "`python -m tests.benchmarks.curve` writes this page from the metrics of a training.\n"
    )
    (arguments.out / f"{name}.md").write_text(head + text, encoding="utf-8")
    print(head + text)


if __name__ == "__main__":
    main()

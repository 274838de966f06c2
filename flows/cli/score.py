"""Which commands make scores? Those of the group `winnow score`; without the name of one, `winnow score RUN`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Device, Json, Precision, Run, WrittenRoot, check_choice
from flows.cli.session import announce, console_session
from flows.cli.train_scores import train

if TYPE_CHECKING:
    from training.configs import Precision as PrecisionName

DEFAULT = "run"


class DefaultGroup(TyperGroup):
    """A group with a default command: `winnow score latest ...` is `winnow score run latest ...`.

    A first argument that is neither a command of the group nor `--help` belongs to the default command.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the default command where the arguments name none."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


GROUP = typer.Typer(
    name="score",
    cls=DefaultGroup,
    no_args_is_help=True,
    help="""Measure the scores of a recipe (`winnow score train RECIPE`), or losses under a model (`winnow score RUN`).

    Example: `winnow score latest --checkpoint EARLY --checkpoint LATER`, which is short for `winnow score run latest
    ...`. Its options: `winnow score run --help`.
    """,
)


GROUP.command("train")(train)


@GROUP.command(DEFAULT)
def losses(
    run: Run = "latest",
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="A checkpoint's folder, a training folder, `latest`, or a transformers folder. Repeatable, the "
            "earliest first."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A transformers folder to score with, instead of checkpoints.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the score. Its first column is `score_<name>`.")] = "loss",
    records: Annotated[
        str | None, typer.Option(help="Score the records of this step, such as `ingest`. Default: the corpus.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only so many rows, of each shard its first.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Most responses in a forward pass.")] = 64,
    device: Device = "auto",
    precision: Precision = "fp32",
    root: WrittenRoot = ROOT,
    as_json: Json = False,
) -> None:
    """Measure the loss of each row of a run under checkpoints or another model, and write them as a table of scores.

    Columns: `score_loss` is the mean loss of the response's tokens given its instruction, in nats; `score_loss_alone`
    that of the response without it; `score_loss_ifd` the ratio of the two perplexities. With several checkpoints these
    are of the last one, `score_loss_1` ... are of each, and `score_loss_fall` is the first minus the last.
    `score_loss_worst` is by how many nats another token is likelier where this is most. `score_loss_noise` is the
    probability that the response belongs to another instruction of its source; only in sources that the model has
    learned are rows called noise. `loss_class` is `easy`, `usual`, `hard` (a high loss that fell) or `noise`;
    `score_loss_class` is its number, 0 to 3. A recipe reads a column as `{kind: table, name: loss, path:
    ROOT/scores/..., column: score_loss}`.

    Rows are written as they are measured. The same command carries on after it was stopped.

    Example: `winnow score latest --checkpoint winnow-data/training/tiny-1/step-00000200 --checkpoint latest`
    """
    announce(as_json, f"scoring {run} in {root}")
    from flows.cli.render_scores import score_lines

    check_choice("--precision", precision, ("fp32", "bf16"))
    from flows.score import score

    with console_session(as_json):
        answer = score(
            run, checkpoint or (), model, name, records, limit, root, device, batch, cast("PrecisionName", precision)
        )
    print_answer(answer, score_lines(answer), as_json)


@GROUP.command("oracle")
def oracle(
    endpoint: Annotated[
        str,
        typer.Option(help="URL of an OpenAI-compatible server up to its version, such as http://localhost:8000/v1."),
    ],
    model: Annotated[str, typer.Option(help="The name of the model on the server.")],
    rubric: Annotated[str, typer.Option(help="What is judged: a file, or the rubric itself in words.")],
    run: Run = "latest",
    rows: Annotated[int, typer.Option(min=1, help="Rows to label, of each source its share.")] = 1000,
    low: Annotated[float, typer.Option(help="The lowest score.")] = 0,
    high: Annotated[float, typer.Option(help="The highest score.")] = 5,
    name: Annotated[str, typer.Option(help="Of the score. Its column is `score_<name>`.")] = "oracle",
    records: Annotated[
        str | None, typer.Option(help="Label the records of this step, such as `ingest`. Default: the corpus.")
    ] = None,
    budget_requests: Annotated[int | None, typer.Option(min=0, help="Most answers, earlier attempts included.")] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(min=0, help="Most tokens of prompts and answers, earlier attempts included.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 512,
    concurrency: Annotated[int, typer.Option(min=1, help="Most requests at a time.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="Of one attempt at a request, in seconds.")] = 120.0,
    root: WrittenRoot = ROOT,
    as_json: Json = False,
) -> None:
    """Have a model label a sample of the rows of a run by a rubric, and write the labels as a table of scores.

    The model is asked for a reason and a score from `--low` to `--high`. An answer that does not end with `Score: N` is
    no label: it is counted, and the row has no score. The table has prompts, answers and reasons beside the labels. A
    recipe reads it as `{kind: table, name: oracle, path: ROOT/scores/...}`, and can train a classifier on it.

    Each distinct prompt is asked once, and answers are recorded as they come: the same command carries on after it was
    stopped. The API key is read from the environment variable WINNOW_API_KEY.

    Example: `winnow score oracle latest --endpoint http://localhost:8000/v1 --model qwen --rubric rubric.txt`
    """
    announce(as_json, f"asking {model} about {run} in {root}")
    from flows.cli.render_scores import oracle_lines
    from pipelines.errors import WinnowError

    if not low < high:
        raise WinnowError(f"--low {low:g} is not below --high {high:g}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise WinnowError(f"--name {name}: small letters, digits and _ only, since a column is named `score_<name>`")
    from flows.oracle import label, read_rubric
    from training.inference.recorded import Budget
    from training.inference.rubric import Rubric

    judged = Rubric(read_rubric(rubric), low, high)
    budget = Budget(budget_requests, budget_tokens)
    with console_session(as_json):
        answer = label(
            run, endpoint, model, judged, rows, name, records, budget, max_tokens, concurrency, timeout, root
        )
    print_answer(answer, oracle_lines(answer), as_json)

"""Which command shows what filters and scores measure, before anything is dropped? analyze."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, cast

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Engine, Json, Recipe, Settings, Workers, WrittenRoot
from flows.cli.session import announce
from flows.console import count, quantity
from flows.styled import Styled, bold, red, styled

if TYPE_CHECKING:
    from flows.analyze import AnalysisAnswer
    from flows.execute import EngineName
    from pipelines.audit.analysis import Limit, Measure

BLOCKS = " ▁▂▃▄▅▆▇█"


def analyze(
    recipe: Recipe,
    root: WrittenRoot = ROOT,
    engine: Engine = "local",
    workers: Workers = None,
    settings: Settings = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Show only this stage, or `score`. Repeatable. Default: all.")
    ] = None,
    html: Annotated[str | None, typer.Option(help="Write a page with all histograms to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Measure what every filter and score of a recipe sees in its sources, without dropping a row: histograms with
    today's limits, and how many rows of each source these and other limits would drop.

    Each check is counted by itself, so a row may count for several. `--set` tries other stages.

    Example: `winnow analyze mine.yaml`, or `winnow analyze mine.yaml --stage length --html analysis.html`
    """
    announce(as_json, f"analysing {recipe} in {root}, engine {engine}")
    from flows.analyze import analyze as measure
    from flows.cli.session import console_session
    from pipelines.errors import WinnowError, nearest

    with console_session(as_json):
        answer = measure(recipe, root, cast("EngineName", engine), workers, tuple(settings or ()))
    if stage:
        kinds = {one.stage for one in answer.measures}
        for name in stage:
            if name not in kinds:
                raise WinnowError(f"--stage {name}: no filter or score of this recipe; {nearest(name, kinds)}")
        answer = answer.model_copy(update={"measures": tuple(one for one in answer.measures if one.stage in stage)})
    if html is not None:
        from pipelines.audit.analysis_page import page
        from pipelines.ledger import storage

        words = [f"winnow analyze {recipe}", *(f"--set {one}" for one in settings or ()), f"--html {html}"]
        storage.write_bytes(html, page(answer, answer.recipe, " ".join(words)).encode())
    print_answer(answer, analysis_lines(answer), as_json)


def analysis_lines(answer: AnalysisAnswer) -> Iterator[str | Styled]:
    """The sources, then each check: its histogram with the limit, what it drops by source, and other limits."""
    yield styled("\n", bold(answer.recipe), f": the filters would drop {_of(answer.dropped, answer.rows)} rows")
    for name, source in answer.sources.items():
        yield f"  {name:<28}{_of(source.dropped, source.rows):>24}"
    for measure in answer.measures:
        yield from _measure_lines(measure)
    if not answer.measures:
        yield "The recipe has no filter and no score."


def _measure_lines(measure: Measure) -> Iterator[str | Styled]:
    name = f"{measure.stage}/{measure.reason}"
    if measure.today is None:
        yield styled("\n", bold(name), "  no limit")
    else:
        today = measure.today
        side = f" ({measure.drops} {_number(today.value)})" if measure.drops else ""
        yield styled("\n", bold(name), f"  drops {_of(today.rows, measure.rows)} rows{side}")
        if today.by_source:
            yield f"  today      {_sources(today)}"
    if len(measure.bars) > 1 and measure.drops is not None:
        low, high = _number(measure.edges[0]), _number(measure.edges[-1])
        yield styled(f"  {low:>9}  ", _histogram(measure), f"  {high}")
        yield "  about " + ", ".join(
            f"{_percent(float(share))} {_number(value)}" for share, value in measure.quantiles.items()
        )
    for limit in measure.others:
        dropped = f"{count(limit.rows)} ({limit.share:.2%})"
        yield f"  {measure.drops} {_number(limit.value)} would drop {dropped}: {_sources(limit)}"


def _histogram(measure: Measure) -> str | Styled:
    """A bar for each bin, and `|` where the limit is."""
    most = max(measure.bars) or 1
    text: Styled | str = ""
    for number, bar in enumerate(measure.bars):
        low, high = measure.edges[number], measure.edges[number + 1]
        if measure.today is not None and low <= measure.today.value < high:
            text = styled(text, red("|"))
        text = styled(text, BLOCKS[0 if not bar else max(1, round(8 * bar / most))])
    if measure.today is not None and measure.today.value >= measure.edges[-1]:
        text = styled(text, red("|"))
    return text


def _percent(share: float) -> str:
    return {0.0: "least", 0.5: "median", 1.0: "most"}.get(share, f"{share:.0%}")


def _sources(limit: Limit) -> str:
    largest = sorted(limit.by_source.items(), key=lambda pair: -pair[1])
    more = f" and {quantity(len(largest) - 6, 'source')} more" if len(largest) > 6 else ""
    return ", ".join(f"{name} {count(rows)}" for name, rows in largest[:6]) + more


def _of(rows: int, total: int) -> str:
    return f"{count(rows)} of {count(total)} ({rows / max(total, 1):.2%})"


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"

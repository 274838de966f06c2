"""How does an ablation look? The same tables on the terminal, in Markdown and as a page."""

from __future__ import annotations

import html as markup
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from flows.styled import Styled, bold, dim, green, red, styled, yellow
from pipelines.visible import visible

if TYPE_CHECKING:
    from flows.ablate import AblateAnswer, SearchAnswer
    from training.ablation import Effect

STYLE = """
  :root { --ink:#1d2329; --soft:#5c6670; --line:#dfe4e8; --paper:#ffffff; --good:#2f7d5b; --bad:#c9703c }
  @media (prefers-color-scheme: dark) {
    :root { --ink:#e6eaed; --soft:#98a3ad; --line:#333b43; --paper:#15191d; --good:#4fae84; --bad:#d98a58 } }
  body { margin:0; background:var(--paper); color:var(--ink);
    font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif }
  main { max-width:1080px; margin:0 auto; padding:40px 24px 80px }
  h1 { font-size:26px; margin:0 0 4px } h2 { font-size:18px; margin:44px 0 12px } p { max-width:80ch }
  table { border-collapse:collapse; width:100% } .scroll { overflow-x:auto } .soft { color:var(--soft) }
  th,td { text-align:left; padding:6px 12px 6px 0; border-bottom:1px solid var(--line); vertical-align:top }
  th { font-weight:500; color:var(--soft); font-size:13px } td.n,th.n { text-align:right; white-space:nowrap;
    font-variant-numeric:tabular-nums } .help { color:var(--good) } .hurt { color:var(--bad) }
"""


class Table(NamedTuple):
    """A table. numbers: the columns that are numbers, by index."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int]
    note: str = ""


def summary(answer: AblateAnswer) -> str:
    """What was done, as a sentence."""
    rows, kept = answer.held_out_rows
    return (
        f"{len(answer.arms)} arms, {answer.seeds} seeds each, {answer.tokens:,} tokens a training "
        f"({answer.steps:,} steps of {answer.config}), {rows:,} held-out rows, of which all recipes keep {kept:,}."
    )


def conclusions(answer: AblateAnswer) -> Iterator[tuple[str, str, str]]:
    """Arm, verdict and reason of each recipe after the first."""
    for one in answer.conclusions:
        yield one.arm, one.verdict, one.reason


def tables(answer: AblateAnswer) -> Iterator[Table]:
    """The arms, then each metric: its means, and the comparisons."""
    yield Table(
        "Arms",
        ("arm", "against the first recipe", "rows", "tokens", "epochs"),
        tuple(
            (
                arm.name,
                _changes(arm.changes) if arm.kind == "recipe" else f"control of {arm.of}",
                f"{arm.rows:,}",
                f"{arm.tokens:,}",
                f"{arm.epochs:.2f}",
            )
            for arm in answer.arms
        ),
        frozenset({2, 3, 4}),
        "Tokens are those of the corpus. Every training reads the same number, so epochs above 1 repeat rows.",
    )
    for metric, means in answer.means.items():
        found = [one for one in answer.effects if one.metric == metric]
        digits = 4 if found[0].lower_is_better else 3
        yield Table(
            metric,
            ("arm", "mean", "of each seed"),
            tuple(
                (arm, f"{sum(values) / len(values):.{digits}f}", ", ".join(f"{value:.{digits}f}" for value in values))
                for arm, values in means.items()
            ),
            frozenset({1}),
            "Lower is better." if found[0].lower_is_better else "Higher is better.",
        )
        yield _effects_table([one for one in found if not one.group], "")
        by_group = [one for one in found if one.group]
        if by_group:
            yield _effects_table(by_group, "By group, not adjusted for the number of groups")


def _effects_table(found: Sequence[Effect], title: str) -> Table:
    adjusted = "p (Holm)" if any(one.adjusted_p_value is not None for one in found) else "p"
    return Table(
        title,
        ("comparison", "items", "difference", "95 % interval", adjusted, "detectable", "verdict"),
        tuple(
            (
                (f"{one.group}: " if one.group else "") + f"{one.arm} against {one.against}",
                f"{one.items:,}",
                f"{one.difference:+.4f}",
                f"{one.low:+.4f} to {one.high:+.4f}",
                _p(one),
                "-" if one.minimum_detectable is None else f"{one.minimum_detectable:.4f}",
                one.verdict,
            )
            for one in found
        ),
        frozenset({1, 2, 3, 4, 5}),
    )


def _p(one: Effect) -> str:
    p = one.p_value if one.adjusted_p_value is None else one.adjusted_p_value
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _changes(changed: Sequence[str]) -> str:
    return "the first recipe" if not changed else ", ".join(changed)


NOTES = (
    "A difference is the arm minus the other. Its interval is by Student's t over items and trainings together. `p` is "
    "adjusted by Holm for the comparisons of recipes on one metric. `detectable` is the smallest true difference that "
    "this design finds with a power of 80 %. `not shown to help` does not mean that there is no effect: it may be "
    "smaller than that.",
)


def markdown(answer: AblateAnswer) -> str:
    """The tables as Markdown."""
    lines = ["# Ablation", "", summary(answer), ""]
    lines += [f"{note}\n" for note in answer.notes]
    lines += [f"- **{arm}: {verdict}.** {reason}" for arm, verdict, reason in conclusions(answer)]
    for table in tables(answer):
        lines += ["", *([f"## {table.title}", ""] if table.title else [])]
        lines += [*([table.note, ""] if table.note else [])]
        lines.append("| " + " | ".join(table.headings) + " |")
        lines.append("|" + "|".join("---:" if n in table.numbers else "---" for n in range(len(table.headings))) + "|")
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.rows]
    return "\n".join([*lines, "", *NOTES, ""])


def html(answer: AblateAnswer) -> str:
    """The tables as a page."""
    name = markup.escape(answer.arms[0].name)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Winnow · ablation of {name}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>Ablation of {name}</h1><p class=soft>{markup.escape(summary(answer))}</p>",
    ]
    parts += [f"<p>{markup.escape(note)}</p>" for note in answer.notes]
    for arm, verdict, reason in conclusions(answer):
        word = f"<span class={_class(verdict)}>{verdict}</span>"
        parts.append(f"<p><b>{markup.escape(arm)}: {word}.</b> {markup.escape(reason)}</p>")
    for table in tables(answer):
        parts += [f"<h2>{markup.escape(table.title)}</h2>"] if table.title else ["<p></p>"]
        parts += [f"<p class=soft>{markup.escape(table.note)}</p>"] if table.note else []
        head = "".join(f"<th{_align(table, n)}>{markup.escape(one)}</th>" for n, one in enumerate(table.headings))
        parts.append(f"<div class=scroll><table><tr>{head}</tr>")
        for row in table.rows:
            cells = "".join(f"<td{_align(table, n)}>{markup.escape(cell)}</td>" for n, cell in enumerate(row))
            parts.append(
                f"<tr class={_class(row[-1])}>{cells}</tr>" if row[-1].startswith("shown") else f"<tr>{cells}</tr>"
            )
        parts.append("</table></div>")
    notes = "".join(f"<p class=soft>{markup.escape(note.replace('`', ''))}</p>" for note in NOTES)
    return visible("\n".join([*parts, notes, "</main></body></html>\n"]))


def _align(table: Table, column: int) -> str:
    return " class=n" if column in table.numbers else ""


def _class(verdict: str) -> str:
    return {"shown to help": "help", "shown to hurt": "hurt"}.get(verdict, "soft")


def lines(answer: AblateAnswer) -> Iterator[str | Styled]:
    """The tables on a terminal."""

    yield f"\n{summary(answer)}"
    yield from (yellow(f"! {note}") for note in answer.notes)
    for arm, verdict, reason in conclusions(answer):
        colour = {"shown to help": green, "shown to hurt": red}.get(verdict, yellow)
        yield styled(bold(f"{arm}: "), colour(verdict))
        for part in reason.split("; "):
            yield f"  {part}"
    for table in tables(answer):
        yield ""
        if table.title:
            yield bold(table.title)
        widths = [max(map(len, column)) for column in zip(table.headings, *table.rows, strict=True)]
        for number, row in enumerate((table.headings, *table.rows)):
            cells = [
                cell.rjust(width) if n in table.numbers else cell.ljust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            text = "  " + "  ".join(cells).rstrip()
            yield dim(text) if not number else text
    yield f"\n  report   {answer.report}"


def search_lines(answer: SearchAnswer) -> Iterator[str | Styled]:
    """A search on a terminal."""

    found = answer.search
    fits = ", ".join(f"{fit.name} {fit.r2:+.2f}" for fit in found.fits)
    yield f"\n{len(found.losses)} mixtures trained; R2 in cross-validation: {fits}"
    for index, group in enumerate(found.groups):
        proposed = "" if found.proposal is None else f" -> {found.proposal[index]:6.1%}"
        yield f"  {group:<28} {found.current[index]:6.1%}{proposed}"
    if answer.verification is None:
        yield "no proposal: no regression predicts the loss better than its mean; train more --mixtures or --tokens"
        return
    yield from lines(answer.verification)
    yield f"  proposal {answer.recipe or ''}"

"""What does the run amount to? A sentence for each area, for a reader who reads nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from pipelines.audit.clusters import STEPS
from pipelines.audit.page import percent
from pipelines.ledger.corpus_manifest import Selection

LOW_SHARE = 0.5
"""A source of which a smaller share of the rows was kept is named."""


class Verdict(NamedTuple):
    """An area, a sentence on it, and whether it needs attention (None: there was nothing to judge)."""

    area: str
    text: str
    state: Literal["fine", "attention", "note"]


def verdicts(facts: dict[str, Any]) -> list[Verdict]:
    """One for each area; the warnings are last."""
    warnings = list(_warnings(facts))
    found = [_kept(facts), _duplicates(facts), _leaks(facts), _thinking(facts)]
    if warnings:
        return [*found, *(Verdict("Warning", warning, "attention") for warning in warnings)]
    return [*found, Verdict("Warnings", "None.", "fine")]


def _kept(facts: dict[str, Any]) -> Verdict:
    rows_in, kept = facts["rows_in"], facts["rows_kept"]
    if not rows_in:
        return Verdict("Kept", "No row was read.", "attention")
    text = f"{kept:,} of {rows_in:,} rows were kept ({percent(kept / rows_in)}). "
    if facts["coverage"]:
        total = facts["coverage"][0]
        text += (
            f"Training reads {total['unique_rows']:,} of them, as {facts['tokens']:,} tokens over "
            f"{_plural(facts['epochs'], 'epoch')}. "
        )
    if facts["reasons"]:
        most = max(facts["reasons"], key=lambda reason: reason["rows"])
        says = most["meaning"] or most["name"]
        text += f"The most frequent reason to drop a row, of {_plural(most['rows'], 'row')}: {says}"
    else:
        text += "No row was dropped."
    return Verdict("Kept", text.strip(), "fine" if kept >= LOW_SHARE * rows_in else "attention")


def _duplicates(facts: dict[str, Any]) -> Verdict:
    steps = {bar["step"]: bar for bar in facts["funnel"] if bar["step"] in STEPS}
    before = facts["selection"]
    if not steps and before:
        return Verdict(
            "Duplicates", _before(before, set(STEPS), "Duplicates were removed", "looked for duplicates"), "note"
        )
    if not steps:
        return Verdict("Duplicates", "The recipe does not look for them, so equal rows may be in the corpus.", "note")
    gone = sum(bar["dropped"] for bar in steps.values())
    if not gone:
        return Verdict("Duplicates", "None were found.", "fine")
    names = {STEPS[0]: "exactly", STEPS[1]: "nearly"}
    parts = " and ".join(f"{bar['dropped']:,} {names[step]}" for step, bar in steps.items())
    share = percent(gone / max(next(iter(steps.values()))["rows_in"], 1))
    text = (
        f"{_plural(gone, 'row')} ({share} of those compared) repeated another row: {parts}. "
        "One row of each group of duplicates stayed."
    )
    return Verdict("Duplicates", text, "fine")


def _leaks(facts: dict[str, Any]) -> Verdict:
    found = facts["contamination"]
    before = facts["selection"]
    if not found and before:
        text = _before(
            before, {"contamination"}, "The rows were checked against benchmarks", "checked the rows against benchmarks"
        )
        return Verdict("Leaks", text, "note" if "contamination" in before.steps else "attention")
    if not found or not found["benchmarks"]:
        text = "The rows were not checked against any benchmark, so scores on public benchmarks may be too high."
        return Verdict("Leaks", text, "attention")
    lines = found["benchmarks"]
    items, hit, left = (sum(line[what] for line in lines) for what in ("items", "contaminated", "remaining"))
    where = f"{len(lines)} benchmarks" if len(lines) > 1 else f"the benchmark {lines[0]['benchmark']}"
    if not hit:
        return Verdict("Leaks", f"None of the {items:,} test questions of {where} is in a row.", "fine")
    dropped = sum(bar["dropped"] for bar in facts["funnel"] if bar["step"] == "contamination")
    text = (
        f"{hit:,} of the {items:,} test questions of {where} were found in rows; {_plural(dropped, 'row')} "
        f"{'was' if dropped == 1 else 'were'} dropped for it. "
    )
    if left:
        return Verdict("Leaks", text + f"{left:,} of these questions are still in the corpus.", "attention")
    return Verdict("Leaks", text + "No single row of the corpus still holds one.", "fine")


def _before(selection: Selection, steps: set[str], done: str, lacked: str) -> str:
    """What the run that a manifest lists did. done, lacked: clauses on the steps."""
    if not selection.run:
        return "A manifest chose the rows. It cannot be read, so what was done before it was made is not known."
    if steps & selection.steps:
        return f"{done} before the manifest was made, in run {selection.run}; the report of that run has the numbers."
    return f"Neither this run nor run {selection.run}, whose rows the manifest lists, {lacked}."


def _thinking(facts: dict[str, Any]) -> Verdict:
    found = facts["thinking"]
    rows = sum(line["rows"] for line in found["removed"])
    left = sum(line["rows"] for line in found["left"])
    if not facts["stripped"]:
        if not rows:
            return Verdict("Thinking", "The recipe does not remove the thinking of models from responses.", "note")
        text = f"{_plural(rows, 'response')} with the thinking of a model in it; the recipe leaves it there."
        return Verdict("Thinking", text, "attention")
    text = (
        f"The thinking of models was found in {_plural(rows, 'response')} and cut out. "
        if rows
        else "No response had any. "
    )
    if left:
        return Verdict(
            "Thinking", text + f"A second scan sees marks of it in {_plural(left, 'row')} that stayed.", "attention"
        )
    return Verdict("Thinking", text + "A second scan of the rows that stayed found none.", "fine")


def _warnings(facts: dict[str, Any]) -> Iterator[str]:
    if facts["failure"]:
        yield facts["failure"]
    for source in facts["sources"]:
        name, share = source["name"], source["kept"] / max(source["rows_in"], 1)
        if not source["rows_in"]:
            yield f"Source {name} has no rows."
        elif not source["kept"]:
            yield f"No row of source {name} was kept."
        elif share < LOW_SHARE:
            yield f"Only {percent(share)} of the rows of source {name} were kept."
        if source["unread"]:
            yield f"Source {name} has text in columns that are not read: {', '.join(source['unread'])}."
    for part in ("test", "validation"):
        overlaps = {
            source["name"]: [o for o in source["overlaps"] if o.endswith(f"/{part}")] for source in facts["sources"]
        }
        if listed := [f"{name} ({', '.join(found)})" for name, found in overlaps.items() if found]:
            yield f"Built from the {part} data of benchmarks: {', '.join(listed)}."
    unnamed = [source["name"] for source in facts["sources"] if not source["licence"]]
    if unnamed:
        yield f"{_names(unnamed)} {'names' if len(unnamed) == 1 else 'name'} no licence."
    for name, says in _FINDINGS.items():
        if lines := facts["thinking"][name]:
            yield f"{_names([*dict.fromkeys(line['source'] for line in lines)])}: {says}."


_FINDINGS = {
    "suspected": "many responses begin with an unknown mark, which may be the thinking of a model",
    "bare_answer": "some answers show no work, though their condition (cot) says that they do",
}


def _names(names: list[str], most: int = 4) -> str:
    listed = ", ".join(names[:most])
    return f"{'Source' if len(names) == 1 else 'Sources'} {listed}" + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")

"""How is the story of a row printed?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.cli.answer import Columns, Line
from flows.cli.render import MAX_TEXT_CHARS, one_line, shorten
from flows.console import count, quantity
from flows.styled import Styled, bold, dim, green, red, styled
from pipelines.audit.reasons import meaning

if TYPE_CHECKING:
    from flows.why import FoundRows, WhyAnswer
    from pipelines.audit.why import Measured, Origin, Place, StepFate, Twin
    from training.row_use import RowUse

MANY_ROWS = 20
"""Rows of a search that are listed at most."""

CHANGES_SHOWN = 8
"""Differences that are printed of a text that a transform changed. `--json` has all."""


def why_lines(fate: WhyAnswer) -> Iterator[Line]:
    """The story of a row: a heading, its source, each step with what it changed, the trainings that read it, and its
    texts; of a duplicate beside those of the row that stayed."""
    yield styled(bold(fate.row), ": ", outcome(fate))
    last = fate.history[-1]
    if last.verdict in ("dropped", "unused") and (known := meaning(last.stage or last.step, last.reason)):
        yield styled("  ", dim(known))
    yield from _origin_lines(fate.origin)
    for entry in fate.history:
        yield styled(f"  {entry.step:<20}", fate_text(entry))
        yield from (styled(f"  {'':<20}", line) for line in _detail_lines(entry))
    yield from (line for twin in fate.twins for line in _twin_lines(twin))
    yield from (line for use in fate.trainings for line in _use_lines(use))
    yield f"  {'run':<20}{fate.run}"
    yield styled(f"  {'digest':<20}{fate.digest}  ", dim(f"condition {fate.condition}"))
    yield from (f"  {name:<20}{one_line(value, 200)}" for name, value in fate.columns.items())
    twin = fate.twins[-1] if fate.twins else None
    if twin is not None and twin.instruction is not None and twin.response is not None:
        stayed = "the row that stayed" if twin.verdict == "kept" else "the last of its duplicates"
        yield ""
        yield Columns(
            (f"{twin.row}  ({stayed})", _two_texts(twin.instruction, twin.response)),
            (f"{fate.row}  (dropped)", _two_texts(fate.instruction, fate.response)),
        )
        return
    for name, text in (("instruction", fate.instruction), ("response", fate.response)):
        yield styled("\n", bold(name), f"\n{shorten(text)}")


def found_lines(found: FoundRows) -> Iterator[Line]:
    """The rows with a text: the story of one, or a line for each of several."""
    if len(found.rows) == 1:
        yield from why_lines(found.rows[0].fate)
        return
    first = "the first " if found.places > len(found.rows) >= MANY_ROWS else ""
    yield f"{first}{quantity(len(found.rows), 'row')} of run {found.run} with this text:"
    for row in found.rows:
        where = "" if row.step == row.fate.history[0].step else f", as {row.step} rewrote it"
        yield styled(f"  {row.fate.row}  ", outcome(row.fate), where)
    yield "`winnow why ID` tells the story of one."


def outcome(fate: WhyAnswer) -> Styled:
    """What became of a row in the end, in words."""
    last = fate.history[-1]
    if fate.verdict == "dropped":
        return styled(f"dropped by {last.step}, ", red(f"{last.stage}/{last.reason}"))
    return styled("kept in the corpus") if last.verdict == "kept" else styled("kept, ", fate_text(last))


def _origin_lines(origin: Origin) -> Iterator[str | Styled]:
    if origin.file is None:
        yield f"  {'source':<20}{origin.source}, row {count(origin.row)} of those computed"
    else:
        variant = f", {origin.variant} of that row" if origin.variant else ""
        file = f"{origin.source}, {origin.file}, row {count(origin.row)}{variant}"
        yield f"  {'source':<20}{file}"
    if origin.adapter is None:
        known = f"licence {origin.licence}" if origin.licence else "no licence or revision is known"
        yield styled(f"  {'':<20}", dim(f"files of your own ({', '.join(origin.path)}): {known}"))
        if origin.home:
            yield styled(f"  {'':<20}", dim(origin.home))
        return
    yield f"  {'':<20}{origin.title}; licence {origin.licence}; revision {origin.revision}"
    if origin.home:
        yield styled(f"  {'':<20}", dim(origin.home))


def _detail_lines(entry: StepFate) -> Iterator[str | Styled]:
    """What a step changed in a row, its scores with their limits, and the packs that hold it."""
    for change in entry.changes:
        yield f"{' or '.join(change.stages)} changed the {change.field}:"
        for before, after in change.differs[:CHANGES_SHOWN]:
            yield from (styled("  ", red(f"- {shorten(before, 400)}")) for before in [before.strip()] if before)
            yield from (styled("  ", green(f"+ {shorten(after, 400)}")) for after in [after.strip()] if after)
            if not before.strip() and not after.strip():
                yield "  spaces only"
        if len(change.differs) > CHANGES_SHOWN:
            yield f"  and {len(change.differs) - CHANGES_SHOWN} more differences"
    yield from map(_score_line, entry.scores)
    yield from _place_lines(entry.places or ())


def _score_line(score: Measured) -> str:
    value = "not measured" if score.value is None else _number(score.value)
    limits = [
        f"{name} {_number(limit)}" for name, limit in (("min", score.min), ("max", score.max)) if limit is not None
    ]
    if score.top is not None:
        within = f" of {' '.join(f'{name} {value}' for name, value in score.group.items())}" if score.group else ""
        limits.append(f"top {score.top:.2%}{within}: at least {'-' if score.least is None else _number(score.least)}")
    limits += [f"drops {value}" for value in score.drop]
    return f"score {score.name}: {value}" + (f"  ({', '.join(limits)})" if limits else "  (no limit)")


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.6g}"


def _two_texts(instruction: str, response: str) -> str:
    return "\n\n".join(
        text
        if len(text) <= MAX_TEXT_CHARS
        else f"{text[:MAX_TEXT_CHARS]} … ({len(text) - MAX_TEXT_CHARS:,} more characters)"
        for text in (instruction, response)
    )


def _twin_lines(twin: Twin) -> Iterator[str | Styled]:
    """What became of the row that a duplicate names, and where the two differ."""
    where = "" if twin.run is None else f" in run {twin.run}"
    if twin.verdict == "kept":
        gone = " by a run that is gone" if twin.run is None else ""
        yield f"  {'duplicate of':<20}{twin.row}  kept{where}{gone}"
    else:
        reason = f"{twin.stage}/{twin.reason}  {evidence_text(twin.evidence or {})}"
        yield styled(f"  {'duplicate of':<20}{twin.row}  dropped by {twin.step}{where}  ", red(shorten(reason)))
    if twin.instruction is not None:
        differs = "; ".join(f"{a.strip() or '(nothing)'} → {b.strip() or '(nothing)'}" for a, b in twin.differs)
        yield f"  {'':<20}differs: {one_line(differs, 400) or 'nothing'}"


def fate_text(entry: StepFate) -> str | Styled:
    """What a step did with a row, in words."""
    if entry.verdict == "dropped":
        reason = f"{entry.stage}/{entry.reason}  {evidence_text(entry.evidence or {})}"
        return styled("dropped  ", red(shorten(reason.rstrip())))
    truncated = ", its response truncated to fit the context" if entry.truncated else ""
    if entry.verdict == "trained":
        return f"in the training data {_times(entry.draws or 0)}{truncated}"
    if entry.verdict == "held_out":
        drawn = "" if entry.places else ", but in no validation pack (the sampling rules leave it out)"
        return f"held out for validation{drawn}{truncated}"
    if entry.verdict == "unused":
        return styled("unused  ", red(str(entry.reason)))
    if entry.verdict == "not_drawn":
        return "not drawn: usable, but the sampling rules leave it out of every epoch"
    if entry.reason is not None:
        return f"{entry.verdict}  {shorten(f'{entry.reason}  {evidence_text(entry.evidence or {})}')}"
    return entry.verdict


def evidence_text(evidence: Mapping[str, Any]) -> str:
    """The evidence of a dropped row: names and values, those that belong together first."""
    parts = []
    for name, value in evidence.items():
        if name == "jaccard" and isinstance(value, dict):
            parts.append("Jaccard " + ", ".join(f"{field} {share:.3f}" for field, share in value.items()))
        elif isinstance(value, str):
            parts.append(f"{name} {value!r}" if " " in value else f"{name} {value}")
        elif isinstance(value, float | int) and not isinstance(value, bool):
            parts.append(f"{name} {value:,.6g}")
        elif value is not None:
            parts.append(f"{name} {json.dumps(value, ensure_ascii=False)}")
    return ", ".join(parts)


def _times(number: int) -> str:
    return "once" if number == 1 else "twice" if number == 2 else f"{count(number)} times"


def _place_lines(places: Iterable[Place]) -> Iterator[str]:
    for place in places:
        where = "validation packs" if place.split == "validation" else f"epoch {place.epoch}"
        yield f"{where}, pack {count(place.pack)}, {place.file}"


def _use_lines(use: RowUse) -> Iterator[str]:
    """What one training has done with a row."""
    yield f"  {'training':<20}{use.training}, step {count(use.step)} of {count(use.total_steps)}"
    if use.read_at:
        yield f"  {'':<20}read at {_steps(use.read_at)}"
    if use.to_read_at:
        yield f"  {'':<20}to be read at {_steps(use.to_read_at)}"
    if use.started_from:
        yield f"  {'':<20}started from {use.started_from}, which had read it"
    elif not use.read_at and not use.to_read_at:
        yield f"  {'':<20}not read: its packs come after the last step"
    if use.checkpoints:
        names = ", ".join(path.rstrip("/").rpartition("/")[2] for path in use.checkpoints)
        yield f"  {'':<20}in the weights of {names}"
    elif use.read_at or use.to_read_at:
        yield f"  {'':<20}in the weights of no checkpoint yet"


def _steps(steps: Sequence[int]) -> str:
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(map(count, steps))}"

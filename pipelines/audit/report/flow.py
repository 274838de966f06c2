"""Where did the rows of each source go? A Sankey diagram from sources through steps to tokens.

The bands are laid out here, and drawn as areas of a Vega-Lite chart. On a large screen they run from left to right, on
a phone from top to bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipelines.audit.charts import NARROW, SERIES, WIDE, Chart, Spec, draw
from pipelines.audit.page import percent

SOURCES = len(SERIES) - 1
"""Sources with a colour of their own, those with the most rows. The others are one band."""

OTHERS = "before"
"""The colour of the band of other sources."""

GAP = 0.06
"""Between the rows that go on and those that are dropped, as a share of all rows."""

NODE = 0.10
"""Length of a node along the flow; the distance between two is 1."""

HEIGHT, LENGTH = 380, 88
"""Pixels: the height of the wide drawing, and the length of a step in the narrow one."""


class Stage(NamedTuple):
    """A place that rows pass: its name, and the rows of each source that come in and that go on.

    lost: what became of the others, in a word.
    """

    name: str
    taken: tuple[float, ...]
    kept: tuple[float, ...]
    lost: str = "dropped"


def flow_chart(facts: dict[str, Any], names: Sequence[str]) -> Chart | None:
    """The diagram; None for a run without rows. names: of the steps with records, in order."""
    if not facts["rows_in"]:
        return None
    ranked = sorted(facts["sources"], key=lambda source: -source["rows_in"])
    own, rest = ranked[:SOURCES], ranked[SOURCES:]
    groups = [[source] for source in own] + ([rest] if rest else [])
    bands = [(source["name"], SERIES[index]) for index, source in enumerate(own)]
    if rest:
        bands.append((rest[0]["name"] if len(rest) == 1 else f"{len(rest)} other sources", OTHERS))
    stages = _stages(groups, names, facts["coverage"])
    tokens = _tokens(groups, facts["coverage"])
    text = _text(facts, stages, sum(tokens))
    rows = tuple(
        (
            stage.name,
            *(round(sum(part)) for part in (stage.taken, stage.kept)),
            round(sum(stage.taken) - sum(stage.kept)),
        )
        for stage in stages
    )
    wide, narrow = (_draw(bands, stages, tokens, text, across) for across in (True, False))
    note = "Each band is a source; its width is its number of rows. Rows that a step drops leave the band there."
    columns = ("step", "rows in", "rows on", "rows dropped")
    return Chart("From sources to tokens", text, narrow, wide, tuple(bands), columns, rows, note)


def _stages(groups: list[list[dict[str, Any]]], names: Sequence[str], coverage: list[dict[str, Any]]) -> list[Stage]:
    """The steps that dropped rows, the first and the last one, and the draw of the epochs."""
    current = tuple(float(sum(source["rows_in"] for source in group)) for group in groups)
    stages: list[Stage] = []
    for name in names:
        kept = tuple(
            rows - sum(source["dropped"].get(name, 0) for source in group)
            for rows, group in zip(current, groups, strict=True)
        )
        if sum(kept) < sum(current) or not stages:
            stages.append(Stage(name, current, kept))
        current = kept
    if coverage:
        of_source = {line["source"]: line for line in coverage[1:]}
        drawn = tuple(
            float(sum(of_source.get(source["name"], {}).get("unique_rows", 0) for source in group)) for group in groups
        )
        stages.append(Stage("drawn", current, tuple(map(min, drawn, current)), "not drawn"))
    return stages


def _tokens(groups: list[list[dict[str, Any]]], coverage: list[dict[str, Any]]) -> list[float]:
    of_source = {line["source"]: line["drawn_tokens"] for line in coverage[1:]}
    return [float(sum(of_source.get(source["name"], 0) for source in group)) for group in groups]


def _text(facts: dict[str, Any], stages: Sequence[Stage], tokens: float) -> str:
    parts = [f"{facts['rows_in']:,} rows of {len(facts['sources'])} sources go in"]
    lost = [(stage, sum(stage.taken) - sum(stage.kept)) for stage in stages]
    parts += [f"at {stage.name} {gone:,.0f} are {stage.lost}" for stage, gone in lost if gone >= 1]
    parts.append(
        f"{sum(stages[-1].kept):,.0f} come out" + (f", {tokens:,.0f} tokens over all epochs" if tokens else "")
    )
    return "; ".join(parts) + "."


class _Shape(NamedTuple):
    """Areas, boxes and labels in units of the flow: `along` it from 0, `side` across it in shares of all rows."""

    areas: list[dict[str, Any]]
    boxes: list[dict[str, Any]]
    labels: list[dict[str, Any]]


def _lay(
    bands: Sequence[tuple[str, str]], stages: Sequence[Stage], tokens: Sequence[float], total: float, narrow: bool
) -> _Shape:
    shape = _Shape([], [], [])
    before = _stacked(stages[0].taken, total)
    _boxes(shape, bands, before, 0)
    for place, stage in enumerate(stages, 1):
        kept = _stacked(stage.kept, total)
        bottom = (kept[-1][1] if kept else 0.0) + GAP
        gone = [max(taken - left, 0.0) for taken, left in zip(stage.taken, stage.kept, strict=True)]
        dropped = _stacked(gone, total, bottom)
        for index, (_, colour) in enumerate(bands):
            low, high = before[index]
            turn = low + (high - low) * (stage.kept[index] / stage.taken[index] if stage.taken[index] else 1.0)
            _area(shape, f"{place}/{index}", place, (low, turn), kept[index], colour)
            if gone[index]:
                _area(shape, f"{place}/{index}/gone", place, (turn, high), dropped[index], "gone")
        _boxes(shape, bands, kept, place)
        lost = sum(gone)
        if lost >= 1:
            end = dropped[-1][1]
            shape.boxes.append(_box(place, bottom, max(end, bottom + 0.004), "gone"))
            label = f"{lost:,.0f} {stage.lost}" if narrow else f"−{lost:,.0f}"
            shape.labels.append({"along": place, "side": end, "text": label, "kind": "gone"})
        shape.labels.append({"along": place, "side": 0.0, "text": stage.name, "kind": "step"})
        before = kept
    out = sum(stages[-1].kept)
    if sum(tokens):
        # The last column counts tokens: its whole height is that of the rows that come out.
        shares = _stacked([value / sum(tokens) * out for value in tokens], total)
        for index, (_, colour) in enumerate(bands):
            _area(shape, f"tokens/{index}", len(stages) + 1, before[index], shares[index], colour)
        _boxes(shape, bands, shares, len(stages) + 1)
        label = f"{_short(sum(tokens))} tokens"
        shape.labels.append({"along": len(stages) + 1, "side": 0.0, "text": label, "kind": "step"})
    shape.labels.append({"along": 0, "side": 0.0, "text": f"{_short(total)} rows read", "kind": "step"})
    return shape


def _stacked(values: Sequence[float], total: float, start: float = 0.0) -> list[tuple[float, float]]:
    """The span of each value, one after another, as shares of `total`."""
    spans = []
    for value in values:
        spans.append((start, start + value / total))
        start += value / total
    return spans


def _area(
    shape: _Shape, name: str, place: int, start: tuple[float, float], end: tuple[float, float], colour: str
) -> None:
    """A band from the node before `place` to the node at `place`. Points that repeat make its ends run straight."""
    first, last = place - 1 + NODE, float(place)
    bend = (last - first) * 0.3
    for along, (low, high) in ((first, start), (first + bend * 0.5, start), (last - bend * 0.5, end), (last, end)):
        if high - low > 1e-7 or start != end:
            line = {"along": along, "low": low, "high": high, "band": name, "colour": f"var(--{colour})"}
            shape.areas.append(line)


def _boxes(shape: _Shape, bands: Sequence[tuple[str, str]], spans: Sequence[tuple[float, float]], place: int) -> None:
    shape.boxes.extend(
        _box(place, low, high, colour) for (_, colour), (low, high) in zip(bands, spans, strict=True) if high > low
    )


def _box(place: int, low: float, high: float, colour: str) -> dict[str, Any]:
    return {"from": place, "to": place + NODE, "low": low, "high": high, "colour": f"var(--{colour})"}


def _draw(
    bands: Sequence[tuple[str, str]], stages: Sequence[Stage], tokens: Sequence[float], text: str, across: bool
) -> str:
    """The diagram from left to right (`across`), or from top to bottom."""
    total = sum(stages[0].taken)
    shape = _lay(bands, stages, tokens, total, narrow=not across)
    columns = len(stages) + (2 if sum(tokens) else 1)
    deepest = max([box["high"] for box in shape.boxes], default=1.0)
    along: Spec = {"type": "quantitative", "axis": None, "scale": {"domain": [0, columns - 1 + NODE], "nice": False}}
    side: Spec = {"type": "quantitative", "axis": None, "scale": {"domain": [0, deepest], "nice": False}}
    if across:
        side["scale"]["reverse"] = True
    else:
        along["scale"]["reverse"] = True
    a, s = ("x", "y") if across else ("y", "x")
    colour = {"field": "colour", "type": "nominal", "scale": None}
    layers: list[Spec] = [
        {
            "data": {"values": shape.areas},
            "mark": {
                "type": "area",
                "interpolate": "monotone",
                "opacity": 0.42,
                "orient": "vertical" if across else "horizontal",
            },
            "encoding": {
                a: {**along, "field": "along"},
                s: {**side, "field": "low"},
                f"{s}2": {"field": "high"},
                "color": colour,
                "detail": {"field": "band"},
            },
        },
        {
            "data": {"values": shape.boxes},
            "mark": {"type": "rect"},
            "encoding": {
                a: {**along, "field": "from"},
                f"{a}2": {"field": "to"},
                s: {**side, "field": "low"},
                f"{s}2": {"field": "high"},
                "color": colour,
            },
        },
    ]
    for kind in ("step", "gone"):
        labels = [label for label in shape.labels if label["kind"] == kind]
        layers.append(
            {
                "data": {"values": labels},
                "mark": {**_label(kind, across), "type": "text"},
                "encoding": {a: {**along, "field": "along"}, s: {**side, "field": "side"}, "text": {"field": "text"}},
            }
        )
    size = {"height": HEIGHT} if across else {"height": LENGTH * columns}
    padding = (
        {"top": 26, "left": 4, "right": 70, "bottom": 18} if across else {"top": 18, "left": 2, "right": 2, "bottom": 4}
    )
    return draw({"layer": layers, "padding": padding, **size}, text, WIDE if across else NARROW)


def _label(kind: str, across: bool) -> Spec:
    if across:
        if kind == "step":
            return {"align": "left", "baseline": "bottom", "dy": -8, "color": "var(--ink)"}
        return {"align": "left", "baseline": "top", "dy": 4, "color": "var(--warn)"}
    if kind == "step":
        return {"align": "left", "baseline": "bottom", "dy": -4, "color": "var(--ink)"}
    return {"align": "right", "baseline": "bottom", "dy": -4, "color": "var(--warn)"}


def _short(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}"


def share(part: float, whole: float) -> str:
    """A share in words."""
    return percent(part / whole if whole else 0.0)

"""How are charts drawn? As Vega-Lite, which vl-convert renders to SVG without a browser: pages need no script.

Colours are CSS variables of the page (`var(--kept)`), so one drawing is legible in light, in dark and on paper. Each
chart has a text that says what it shows, and its numbers as a table. It is drawn for a phone, and if that wastes a
larger screen, a second time for that.
"""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NARROW, WIDE = 340, 920
"""Pixels: of a chart that fits a phone with 390, and of one that fills a page."""

SERIES = tuple(f"c{number}" for number in range(1, 9))
"""Names of the colours that tell series apart, in the order of their use."""

Spec = dict[str, Any]
"""A Vega-Lite specification, or a part of one."""

_CONFIG: Spec = {
    "aria": False,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 12,
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--line)",
        "titlePadding": 6,
        "labelLimit": 220,
    },
    "axisX": {"grid": False},
    "axisY": {"domain": False, "ticks": False},
    "text": {"color": "var(--ink)", "fontSize": 12},
}


_TICKS: Spec = {
    "labelExpr": "abs(datum.value) >= 1000 ? format(datum.value, '~s') : format(datum.value, '~g')",
}
"""1.5k for 1500, and 0.3 for 0.3."""


class Chart(NamedTuple):
    """A chart for the macro `figure`.

    title: what is shown. text: what a reader who cannot see it is told. narrow, wide: SVG; wide is empty where the
    narrow one does for all screens. legend: name -> colour. columns, rows: its numbers, as a table. note: a sentence
    under the title.
    """

    title: str
    text: str
    narrow: str
    wide: str = ""
    legend: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    note: str = ""


class Series(NamedTuple):
    """One colour of a chart: its name, its colour (of the page's variables), and a value for each place."""

    name: str
    colour: str
    values: Sequence[float]


class Limit(NamedTuple):
    """A line across a chart at a value, with its label."""

    value: float
    label: str


def bars(
    title: str,
    text: str,
    places: Sequence[str],
    series: Sequence[Series],
    unit: str,
    note: str = "",
    grouped: bool = False,
    wide: bool = True,
) -> Chart:
    """Horizontal bars, one for each place, whose parts are the series.

    unit: what is counted, for the axis. grouped: the series are bars side by side, not parts of one. wide: draw it for
    large screens too.
    """
    data = [
        {"place": place, "value": values.values[row], "order": order, "colour": f"var(--{values.colour})"}
        for row, place in enumerate(places)
        for order, values in enumerate(series)
    ]
    spec: Spec = {
        "data": {"values": data},
        "mark": {"type": "bar", "height": {"band": 0.8 if grouped else 0.72}},
        "encoding": {
            "y": {"field": "place", "type": "nominal", "sort": list(places), "title": None},
            "x": {"field": "value", "type": "quantitative", "title": unit, "axis": {**_TICKS, "tickCount": 5}},
            "color": {"field": "colour", "type": "nominal", "scale": None},
            "order": {"field": "order"},
        },
        "height": (14 * len(series) + 8 if grouped else 22) * len(places),
    }
    if grouped:
        spec["encoding"]["yOffset"] = {"field": "order", "type": "ordinal"}
    narrow = {**spec, "config": {"axisY": {"labelLimit": 118}}}
    return Chart(
        title,
        text,
        draw(narrow, text, NARROW),
        draw(spec, text, WIDE) if wide else "",
        _legend(series),
        ("name", *(one.name for one in series)),
        tuple((place, *(one.values[row] for one in series)) for row, place in enumerate(places)),
        note,
    )


def histogram(
    title: str,
    text: str,
    edges: Sequence[float],
    series: Sequence[Series],
    x: str,
    limits: Sequence[Limit] = (),
    stacked: bool = False,
    log: bool = False,
    y: str = "rows",
    note: str = "",
    log_counts: bool = False,
    whole: bool = False,
) -> Chart:
    """A histogram. edges: of the bars, one more than the values of a series. limits: lines at values of `x`.

    stacked: the series are parts of one bar; else they overlap, the first as an area and the others as lines over it.
    log: the edges are positive, and their logarithm is the axis. log_counts: few rows are visible beside many: the
    logarithm of the counts is the axis, and series are drawn side by side even if `stacked`. whole: values are whole
    numbers, and each has a bar of its own.
    """
    columns_of = list(itertools.pairwise(edges))
    scale: Spec = {"domain": [edges[0], edges[-1]], "nice": False, "zero": False}
    axis = {**_TICKS, "tickCount": 5, "labelFlush": True, "labelOverlap": True}
    if whole:
        step = max(1, round((edges[-1] - edges[0]) / 8))
        axis["values"] = list(range(math.ceil(edges[0]), math.floor(edges[-1]) + 1, step))
    if log:
        scale["type"] = "log"
        axis["values"] = [10.0**power for power in range(-6, 16) if edges[0] <= 10.0**power <= edges[-1]]
    across = {"field": "low", "type": "quantitative", "title": x, "scale": scale, "axis": axis}
    up: Spec = {"field": "top", "type": "quantitative", "title": y, "axis": {**_TICKS, "tickCount": 3}}
    if log_counts:
        up["scale"] = {"type": "symlog", "nice": False}
        up["axis"]["values"] = [10**power for power in range(0, 13, 1)]
    layers: list[Spec] = []
    floor = [0.0] * len(columns_of)
    for order, one in enumerate(series):
        colour = f"var(--{one.colour})"
        if order and not stacked:
            steps = [{"low": edge, "top": one.values[min(bar, len(floor) - 1)]} for bar, edge in enumerate(edges)]
            mark = {"type": "line", "interpolate": "step-after", "color": colour, "strokeWidth": 2}
            layers.append({"data": {"values": steps}, "mark": mark, "encoding": {"x": across, "y": up}})
            continue
        boxes = [
            {"low": low, "high": high, "floor": floor[bar], "top": floor[bar] + one.values[bar]}
            for bar, (low, high) in enumerate(columns_of)
            if one.values[bar]
        ]
        encoding = {"x": across, "x2": {"field": "high"}, "y": up, "y2": {"field": "floor"}}
        mark = {"type": "rect", "color": colour, "stroke": "var(--paper)", "strokeWidth": 0.5}
        layers.append({"data": {"values": boxes}, "mark": mark, "encoding": encoding})
        if stacked and not log_counts:
            floor = [low + value for low, value in zip(floor, one.values, strict=True)]
    layers += _rules(limits, across, (edges[0] + edges[-1]) / 2)
    spec = {"layer": layers, "height": 150, "padding": {"top": 18 if limits else 4, "left": 2, "right": 2, "bottom": 2}}
    rows = tuple(
        (f"{_short(low)} to {_short(high)}", *(one.values[bar] for one in series))
        for bar, (low, high) in enumerate(columns_of)
        if any(one.values[bar] for one in series)
    )
    columns = (x, *(one.name for one in series))
    return Chart(title, text, draw(spec, text, NARROW), "", _legend(series), columns, rows, note)


def lines(
    title: str,
    text: str,
    x: Sequence[float],
    series: Sequence[Series],
    x_title: str,
    y_title: str,
    note: str = "",
    width: int = NARROW,
) -> Chart:
    """Lines over `x`; a series has NaN where it has no value.

    width: of the wide drawing; NARROW for one drawing that does for all screens.
    """
    data = [
        {"x": place, "y": value, "series": one.name}
        for one in series
        for place, value in zip(x, one.values, strict=True)
        if value == value
    ]
    colours = {"domain": [one.name for one in series], "range": [f"var(--{one.colour})" for one in series]}
    spec = {
        "data": {"values": data},
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": x_title, "axis": {**_TICKS, "tickCount": 5}},
            "y": {
                "field": "y",
                "type": "quantitative",
                "title": y_title,
                "scale": {"zero": False},
                "axis": {**_TICKS, "tickCount": 4},
            },
            "color": {"field": "series", "type": "nominal", "scale": colours, "legend": None},
        },
        "height": 220,
    }
    step = max(1, len(x) // 20)
    shown = sorted({*range(0, len(x), step), len(x) - 1}) if len(x) else []
    rows = tuple(
        (_short(x[at]), *(one.values[at] if one.values[at] == one.values[at] else "" for one in series)) for at in shown
    )
    wide = draw(spec, text, width) if width > NARROW else ""
    columns = (x_title, *(one.name for one in series))
    return Chart(title, text, draw(spec, text, NARROW), wide, _legend(series), columns, rows, note)


def draw(spec: Mapping[str, Any], text: str, width: int) -> str:
    """A Vega-Lite specification as SVG `width` pixels wide, with `text` as its alternative."""
    import vl_convert  # loads in 10 ms; the first drawing of a process takes half a second, each further one 30 ms

    config = {**_CONFIG, **{key: {**_CONFIG.get(key, {}), **value} for key, value in spec.get("config", {}).items()}}
    whole = {
        "autosize": {"type": "fit", "contains": "padding"},
        "padding": 2,
        **spec,
        "background": None,
        "width": width,
        "config": config,
    }
    if isinstance(whole.get("height"), int):
        whole["height"] += 46  # `fit` counts the axis, and `height` is that of the plot
    svg = str(vl_convert.vegalite_to_svg(whole, vl_version="6.4"))
    return _clean(svg, text)


def _clean(svg: str, text: str) -> str:
    """The drawing as one image with a text, without what a browser does not need."""
    svg = re.sub(r"<svg [^>]*?(width=\"[\d.]+\" height=\"[\d.]+\" viewBox=\"[^\"]*\")[^>]*>", r"<svg \1>", svg, count=1)
    svg = re.sub(r' (?:class|role|aria-[a-z]+|pointer-events)="[^"]*"| opacity="1"', "", svg)
    svg = re.sub(r' font-family="[^"]*"', "", svg)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r'<path [^>]*d="(?:M0,0h0v0h0Z)?"[^>]*/>', "", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(text)}" ', 1)


def _legend(series: Sequence[Series]) -> tuple[tuple[str, str], ...]:
    return tuple((one.name, one.colour) for one in series) if len(series) > 1 else ()


def _rules(limits: Sequence[Limit], x: Spec, middle: float) -> list[Spec]:
    """Layers: a dashed line for each limit, with a label on its side with more room."""
    layers: list[Spec] = []
    place = {**x, "field": "at"}
    for limit in limits:
        data = {"values": [{"at": limit.value, "label": limit.label}]}
        left = limit.value > middle
        rule = {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3]}
        label = {
            "type": "text",
            "align": "right" if left else "left",
            "dx": -5 if left else 5,
            "dy": -4,
            "baseline": "bottom",
        }
        layers += [
            {"data": data, "mark": rule, "encoding": {"x": place}},
            {"data": data, "mark": label, "encoding": {"x": place, "y": {"value": 0}, "text": {"field": "label"}}},
        ]
    return layers


def _short(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:.3g}"

"""How do rows differ before and after the steps? Lengths, tokens and languages of the rows read and the rows kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from filters.language import languages_of
from pipelines.audit.charts import Chart, Series, bars, histogram
from pipelines.audit.report.samples import sample
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.storage import FileRef
from pipelines.steps.encoding import load
from pipelines.steps.products import TOKENIZER_JSON
from pipelines.steps.train_tokenizer import TOKENIZER

ROWS = 2_000
"""Rows that are looked at before, and as many after."""

ENCODED_CHARS = 4_000
"""Of a text that is longer, so many characters are encoded, and its tokens are estimated from them."""

BARS_PER_DECADE = 5
LANGUAGES = 8

Numbers = npt.NDArray[np.float64]


class Samples(NamedTuple):
    """Rows as read and rows as kept: source, instruction, response. before_rows, after_rows: that they stand for."""

    before: pl.DataFrame
    after: pl.DataFrame
    before_rows: int
    after_rows: int

    @property
    def note(self) -> str:
        """How many rows the charts were made from."""
        if self.before.height == self.before_rows and self.after.height == self.after_rows:
            return ""
        return (
            f"Estimated from {self.before.height:,} of {self.before_rows:,} rows read and {self.after.height:,} of "
            f"{self.after_rows:,} rows kept."
        )


def samples(run: RecordedRun) -> Samples | None:
    """Rows of the first step and of the corpus; None if the run has no rows."""
    corpus = run.product("corpus")
    first = next((step for step in run.steps if corpus and step.kept == corpus.kept), None)
    if first is None or corpus is None or not first.rows_kept:
        return None
    columns = ["id", "source", "condition", "instruction", "response"]
    before = sample(first, ROWS, columns)
    if not before.height:
        return None
    return Samples(before, sample(corpus, ROWS, columns), first.rows_kept, corpus.rows_kept or 0)


def distribution_charts(run: RecordedRun, rows: Samples) -> list[Chart]:
    """Lengths of instructions and responses, tokens, and languages."""
    lengths = [
        _lengths(f"Length of {name}s", f"characters of the {name}", rows, *(_chars(part[name]) for part in rows[:2]))
        for name in ("instruction", "response")
    ]
    tokenizer = run.step(TOKENIZER.name)
    if tokenizer is not None:
        before, after = (_tokens(part, tokenizer.file(TOKENIZER_JSON)) for part in rows[:2])
        lengths.append(_lengths("Tokens of a row", "tokens of instruction and response", rows, before, after))
    return [chart for chart in lengths if chart is not None]


def _chars(texts: pl.Series) -> Numbers:
    return texts.str.len_chars().to_numpy().astype(np.float64)


def _tokens(rows: pl.DataFrame, file: FileRef) -> Numbers:
    """Tokens of each row [rows], of a long text estimated from its beginning."""
    encoder = load(file)
    total = np.zeros(rows.height)
    for name in ("instruction", "response"):
        starts = rows[name].str.head(ENCODED_CHARS)
        _, counts = encoder.encode_column(starts.to_arrow().cast(pa.string()))
        total += counts * np.maximum(1.0, _chars(rows[name]) / np.maximum(_chars(starts), 1))
    return total


def _lengths(title: str, unit: str, rows: Samples, before: Numbers, after: Numbers) -> Chart | None:
    highest = max(before.max(initial=1.0), after.max(initial=1.0), 10.0)
    decades = int(np.ceil(np.log10(highest * 1.0001)))
    edges = np.logspace(0, decades, decades * BARS_PER_DECADE + 1)
    counts = [
        np.histogram(np.clip(values, 1, None), edges)[0] * (rows_all / max(len(values), 1))
        for values, rows_all in ((before, rows.before_rows), (after, rows.after_rows))
    ]
    text = (
        f"Histogram of {unit}. Median of the rows read {np.median(before):,.0f}, of the rows kept "
        f"{np.median(after) if len(after) else 0:,.0f}; longest {before.max(initial=0):,.0f} and "
        f"{after.max(initial=0):,.0f}."
    )
    note = f"Median {np.median(before):,.0f} before, {np.median(after) if len(after) else 0:,.0f} after."
    series = [Series("rows read", "before", _round(counts[0])), Series("rows kept", "kept", _round(counts[1]))]
    return histogram(title, text, [float(f"{edge:.3g}") for edge in edges], series, unit, log=True, note=note)


def _round(values: Numbers) -> list[float]:
    return [float(value) for value in np.round(values)]


def language_chart(rows: Samples) -> Chart | None:
    """Rows by language, as the language model of the stage `language` sees them. None if no row has enough prose."""
    counts: list[dict[str, float]] = []
    for part, rows_all in ((rows.before, rows.before_rows), (rows.after, rows.after_rows)):
        text = part.select(text=pl.concat_str("instruction", "response", separator="\n"))["text"]
        codes = pl.Series("code", languages_of(text.to_arrow().cast(pa.string())))
        scale = rows_all / max(part.height, 1)
        counts.append({code: number * scale for code, number in codes.value_counts().iter_rows()})
    names = sorted({*counts[0], *counts[1]}, key=lambda code: -counts[0].get(code, 0))
    if not any(names):
        return None
    shown = names[:LANGUAGES]
    shares = [[100 * one.get(code, 0) / max(sum(one.values()), 1) for code in shown] for one in counts]
    labels = [code or "too little prose" for code in shown]
    words = "Bars by language: " + _listed(labels, shares[0], shares[1])
    series = [Series("rows read", "before", shares[0]), Series("rows kept", "kept", shares[1])]
    note = "By lid.176, a small model: rare languages are often mistakes of the model."
    return bars("Languages", words, labels, series, "% of rows", note=note, grouped=True, wide=False)


def _listed(names: Sequence[str], before: Sequence[float], after: Sequence[float]) -> str:
    parts = [f"{name} {b:.1f} % before and {a:.1f} % after" for name, b, a in zip(names, before, after, strict=True)]
    return "; ".join(parts) + "."

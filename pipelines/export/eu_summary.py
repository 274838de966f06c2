"""The summary of training content of Article 53(1)(d) of the EU AI Act: `eu-summary.md`, and the same as JSON.

The sections are those of the Commission's template (July 2025). What the ledger knows is filled in; the rest says who
has to: TO_COMPLETE. The corpus of a run may be a part of a model's training content, so sizes are of this corpus alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pipelines.export.card import markdown
from pipelines.export.export import Exported, check_rows, exported, new_folder
from pipelines.export.facts import Facts, SourceFacts, facts
from pipelines.ledger.runs import RecordedRun

NAME, JSON_NAME = "eu-summary.md", "eu-summary.json"

TO_COMPLETE = "to be completed by the provider"

BANDS = ((10**9, "less than 1 billion tokens"), (10**13, "1 billion to 10 trillion tokens"))
"""Of text: tokens below which a band ends, and the band. Above is the third."""

LAST_BAND = "more than 10 trillion tokens"


class Field(NamedTuple):
    """A field of the summary. value: text or a list of entries; None where the provider has to complete it. note: what
    the ledger knows that helps to complete it."""

    title: str
    value: str | Sequence[str] | None
    note: str = ""


class Section(NamedTuple):
    """A numbered section of the template."""

    number: str
    title: str
    fields: Sequence[Field] = ()


def export(run: RecordedRun, out: str) -> Exported:
    """Write the summary of a run. Raises: as `export.Export`."""
    check_rows(run)
    with new_folder(out) as folder:
        known = facts(run)
        (folder / NAME).write_text(summary(known), encoding="utf-8")
        (folder / JSON_NAME).write_text(
            json.dumps(values(known), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return exported(out, run.records.rows_kept or 0)


def sections(known: Facts) -> tuple[Section, ...]:
    """The sections, in order."""
    return (
        Section("1", "General information"),
        Section("1.1", "Provider", (Field("Provider", None), Field("Authorised representative", None))),
        Section(
            "1.2",
            "Model",
            (
                Field("Versioned names of the model", None),
                Field("Models that it was modified from", None),
                Field("Date of placement on the Union market", None),
            ),
        ),
        Section(
            "1.3",
            "Modalities, size and characteristics of the training data",
            (
                Field("Modality", "text"),
                Field("Size of this corpus", _band(known), _size(known)),
                Field("Types of content", None, f"Instructions and responses; sources: {_names(known.sources)}."),
                Field("Latest date of acquisition", None, f"The files were read for a build of {known.finished[:10]}."),
                Field(
                    "Linguistic characteristics",
                    None if known.languages is None else f"Languages kept by a filter: {', '.join(known.languages)}.",
                ),
            ),
        ),
        Section("2", "Data sources"),
        Section("2.1", "Publicly available data sets", _entries(known, lambda source: source.origin == "public")),
        Section(
            "2.2",
            "Private data sets obtained from third parties",
            (
                Field("Commercially licensed by rightsholders", None),
                Field(
                    "Other",
                    None,
                    _named(known, lambda source: source.origin == "private", "Sources without a public address"),
                ),
            ),
        ),
        Section(
            "2.3",
            "Data crawled and scraped from online sources",
            (
                Field(
                    "Crawlers, domains, period", None, "No step of the run crawls. The provider's files may be crawled."
                ),
            ),
        ),
        Section("2.4", "User data", (Field("Data of users of the provider's services", None),)),
        Section("2.5", "Synthetic data", _synthetic(known)),
        Section("2.6", "Other sources", (Field("Other sources", None),)),
        Section("3", "Data processing"),
        Section(
            "3.1",
            "Respect of reservations of rights (text and data mining)",
            (Field("Measures before and during collection", None), Field("Licences of the sources", _licences(known))),
        ),
        Section("3.2", "Removal of illegal content", (Field("Measures", None, _filters(known)),)),
        Section("3.3", "Other information", (Field("Not known to the ledger", list(known.missing) or "nothing"),)),
    )


def _band(known: Facts) -> str | None:
    if known.tokens is None:
        return None
    return next((band for end, band in BANDS if known.tokens < end), LAST_BAND)


def _size(known: Facts) -> str:
    tokens = "not counted" if known.tokens is None else f"{known.tokens:,} tokens of its own tokenizer"
    return f"{known.rows:,} rows, {tokens}; {known.rows_read:,} rows were read."


def _names(sources: Sequence[SourceFacts]) -> str:
    return ", ".join(source.name for source in sources) or "none"


def _entry(source: SourceFacts) -> str:
    tokens = "" if source.tokens is None else f", {source.tokens:,} tokens"
    place = f"; {source.home}" if source.home else ""
    revision = f", revision {source.revision}" if source.revision else ""
    return (
        f"{source.title or source.name} ({source.name}): {source.rows:,} rows{tokens}; "
        f"licence {source.licence or 'not known'}{place}{revision}"
    )


def _entries(known: Facts, chosen: Callable[[SourceFacts], bool]) -> Sequence[Field]:
    entries = [_entry(source) for source in known.sources if source.rows and chosen(source)]
    return (Field("Data sets", entries or "none that the ledger knows"),)


def _named(known: Facts, chosen: Callable[[SourceFacts], bool], what: str) -> str:
    return f"{what}: {_names([source for source in known.sources if source.rows and chosen(source)])}."


def _synthetic(known: Facts) -> Sequence[Field]:
    by_model = [
        f"{source.title or source.name} ({source.name}): {', '.join(source.generators)}"
        for source in known.sources
        if source.rows and source.generators
    ]
    by_model += [f"responses rewritten in this build: {model}" for model in known.rewriters]
    unknown = [source.name for source in known.sources if source.rows and source.generators is None]
    computed = [source.name for source in known.sources if source.rows and source.origin == "computed"]
    fields = [
        Field("Written by models, and by which", by_model or "none that the ledger knows"),
        Field("Computed by programs, without a model", computed or "none"),
    ]
    if unknown:
        note = f"Not known whether models wrote text of: {', '.join(unknown)}."
        fields.append(Field("Sources whose text may be written by models", None, note))
    return fields


def _licences(known: Facts) -> Sequence[str]:
    return [f"{source.name}: {source.licence or 'not known'}" for source in known.sources if source.rows]


def _filters(known: Facts) -> str:
    said = [
        f"{step}: {', '.join(f'{count:,} {reason}' for reason, count in reasons.items())}"
        for step, reasons in known.dropped.items()
    ]
    return (
        f"Rows dropped by step and reason: {'; '.join(said) or 'none'}. No filter of Winnow looks for illegal content."
        + (
            f" A manifest of run {known.selection.run} chose the rows; what that run dropped is not in these numbers."
            if known.selection and known.selection.run
            else ""
        )
    )


def values(known: Facts) -> dict[str, Any]:
    """The summary as a JSON value; null where the provider has to complete it."""
    return {
        "run": known.run,
        "built": known.finished,
        "sections": [
            {
                "number": section.number,
                "title": section.title,
                "fields": [
                    {"title": field.title, "value": field.value, "note": field.note or None} for field in section.fields
                ],
            }
            for section in sections(known)
        ],
    }


def summary(known: Facts) -> str:
    """The summary as Markdown."""
    lines = [
        "# Public summary of training content",
        "",
        f"Article 53(1)(d) of Regulation (EU) 2024/1689. Filled from the ledger of run {markdown(known.run)}, Winnow "
        f"{known.winnow}, {known.finished[:10]}. Fields marked *{TO_COMPLETE}* are not known to the ledger.",
    ]
    for section in sections(known):
        lines += ["", f"{'##' if '.' not in section.number else '###'} {section.number} {section.title}"]
        for field in section.fields:
            lines += ["", f"**{field.title}**: {_value(field.value)}"]
            if field.value is not None and not isinstance(field.value, str):
                lines += ["", *(f"- {markdown(entry)}" for entry in field.value)]
            if field.note:
                lines += ["", f"From the ledger: {markdown(field.note)}"]
    return "\n".join(lines) + "\n"


def _value(value: str | Sequence[str] | None) -> str:
    if value is None:
        return f"*{TO_COMPLETE}*"
    return markdown(value) if isinstance(value, str) else ""

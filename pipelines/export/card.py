"""A data set card for the Hugging Face hub: `README.md` with a YAML header, as an `hf` export contains it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from pipelines.export.export import Exported
from pipelines.export.facts import Facts, SourceFacts, export_document
from pipelines.ledger.runs import RecordedRun

NAME = "README.md"

HUB_LICENCES = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
    "CC0-1.0": "cc0-1.0",
    "CDLA-Permissive-2.0": "cdla-permissive-2.0",
    "ODC-BY": "odc-by",
    "ODC-By-1.0": "odc-by",
}
"""Licence of a source -> its name on the hub. Any other one is `other` there, and one that is not known `unknown`."""

SIZES = (
    ("n<1K", 1_000),
    ("1K<n<10K", 10_000),
    ("10K<n<100K", 100_000),
    ("100K<n<1M", 1_000_000),
    ("1M<n<10M", 10_000_000),
    ("10M<n<100M", 100_000_000),
    ("100M<n<1B", 1_000_000_000),
    ("1B<n<10B", 10_000_000_000),
)
"""The hub's classes of sizes, and the rows at which each ends."""


def export(run: RecordedRun, out: str) -> Exported:
    """Write the card of a run. Raises: as `export.Export`."""
    return export_document(run, out, NAME, card)


def card(known: Facts) -> str:
    """The text of a card."""
    header = yaml.safe_dump(_header(known), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n" + "\n".join(_body(known)) + "\n"


def _header(known: Facts) -> dict[str, Any]:
    header: dict[str, Any] = {"pretty_name": known.run}
    licences = [
        HUB_LICENCES.get(source.licence, "other") if source.licence else "unknown"
        for source in known.sources
        if source.rows
    ]
    header["license"] = sorted(set(licences)) if len(set(licences)) > 1 else licences[0]
    if known.languages is not None:
        header["language"] = list(known.languages)
    header |= {
        "size_categories": [next((name for name, end in SIZES if known.rows < end), "10B<n<100B")],
        "task_categories": ["text-generation"],
        "tags": ["instruction-tuning", "winnow"],
        "configs": [
            {
                "config_name": "default",
                "default": True,
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    }
    return header


def _body(known: Facts) -> Iterator[str]:
    yield f"# {markdown(known.run)}\n"
    yield (
        f"An instruction-tuning corpus of {known.rows:,} rows from {_count(len(known.sources), 'source')}, built with "
        f"Winnow {known.winnow} on {known.finished[:10]}. {known.rows_read:,} rows were read; every dropped row has a "
        "recorded reason.\n"
    )
    yield "## Columns\n"
    yield from _table(
        ("column", "type", "content"),
        [
            (f"`{name}`", kind, _COLUMNS.get(name) or _score(name))
            for name, kind in known.columns.items()
            if name != "digest"
        ],
    )
    yield "\n## Sources\n"
    yield from _table(
        ("source", "rows read", "rows", "tokens", "licence", "written by models", "obtained from", "revision"),
        [_source(source) for source in known.sources],
    )
    yield "\nEach row keeps the licence of its source. A licence that is not in the table is not known.\n"
    if known.rewriters:
        yield f"Some responses were written anew by {markdown(', '.join(known.rewriters))} and verified.\n"
    yield "## Dropped rows\n"
    rows = [
        (step, f"`{reason}`", f"{count:,}")
        for step, reasons in known.dropped.items()
        for reason, count in reasons.items()
    ]
    yield from _table(("step", "reason", "rows"), rows) if rows else ["None."]
    for reason, count in known.untrained.items():
        yield f"\n{_count(count, 'row')} of the corpus cannot be used in training: `{reason}`."
    if known.selection and known.selection.run:
        run = markdown(known.selection.run)
        yield f"\nA manifest of run {run} chose the rows; what that run dropped is not listed."
    yield "\n## Contamination\n"
    contamination = known.settings.get("contamination")
    if contamination:
        names = ", ".join(benchmark["name"] for benchmark in contamination["benchmarks"])
        yield (
            f"Checked against {markdown(names)}, rule `{contamination['rule']}`. Dropped: rows of the classes "
            f"{', '.join(f'`{name}`' for name in contamination['drop']) or 'none'}.\n"
        )
    elif known.selection and "contamination" in known.selection.steps:
        yield (
            f"Checked before the manifest was made, in run {markdown(known.selection.run)}; the report of that run "
            "has the results.\n"
        )
    elif known.selection and not known.selection.run:
        yield "Not known: the manifest that chose the rows cannot be read.\n"
    else:
        yield "The rows were not checked against evaluation sets.\n"
    yield "## Not known\n"
    yield from ([f"- {markdown(line)}" for line in known.missing] or ["Nothing that this card asks for."])


_COLUMNS = {
    "id": "`<source>/<file>/<row>`",
    "source": "name of the source",
    "condition": "tags that the instruction is conditioned on, joined by commas",
    "instruction": "prompt",
    "response": "answer",
}


def _score(column: str) -> str:
    return (
        f"score that the filter `{column.removeprefix('score_')}` gave the row" if column.startswith("score_") else ""
    )


def _source(source: SourceFacts) -> Sequence[str]:
    return (
        markdown(source.name),
        f"{source.rows_read:,}",
        f"{source.rows:,}",
        "" if source.tokens is None else f"{source.tokens:,}",
        markdown(source.licence or "not known"),
        "not known" if source.generators is None else markdown(", ".join(source.generators) or "no"),
        markdown(source.home or ("computed by Winnow" if source.origin == "computed" else "not known")),
        markdown(source.revision or ""),
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def markdown(text: str) -> str:
    """Text that Markdown prints as it is."""
    for character in "\\|<>[]*_`":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

"""Which rows were dropped, and which were kept? Some of each reason, with their texts, to look at and to search.

Of each reason there are rows at random and rows at the border: those nearest to the threshold, or the least alike of
duplicates and of matches with a benchmark. A duplicate is shown beside the row that stayed. A few of each stand in the
page as they are. All of them stand in it compressed, for the search.
"""

from __future__ import annotations

import base64
import difflib
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from pipelines.audit.page import number
from pipelines.audit.report.samples import some_files
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.storage import TableRef

RANDOM, BORDER = 160, 120
"""Rows of each reason: taken at random, and nearest to the border."""

SHOWN = 3
"""Rows of each kind that stand in the page as they are."""

EXCERPT = 600
"""Characters of a text that stands in the page as it is."""

EXCERPTS = (1500, 800, 400, 200, 100)
"""Characters of a text for the search: the first of these with which all rows fit into `MAX_PACKED`."""

MAX_PACKED = 1_500_000
"""Bytes of the rows for the search, compressed, in base64."""

MAX_TWIN_FILES = 400
"""Files whose ids are looked through for the twins of duplicates."""

TEXTS = ("instruction", "response")


def read_evidence(step: Manifest) -> pl.DataFrame:
    """The dropped rows of a step without texts, of some of its files if they are many.

    Columns: file (number among `step.dropped`), place (row of the file), id, source, name (stage/reason), value,
    threshold, distance (from the border, ascending), and order (random, but always the same).
    """
    parts = []
    numbers = {file.path: index for index, file in enumerate(step.dropped)}
    for file in some_files(step.dropped):
        table = pl.DataFrame(storage.read_parquet(file.path, ["id", "source", "stage", "reason", "evidence"]))
        parts.append(_with_distance(table, numbers[file.path]))
    return pl.concat(parts) if parts else _with_distance(_NO_ROWS, 0)


_NO_ROWS = pl.DataFrame(schema=dict.fromkeys(("id", "source", "stage", "reason", "evidence"), pl.String))


def _with_distance(table: pl.DataFrame, file: int) -> pl.DataFrame:
    value, threshold, score, *jaccard = (
        # Evidence may be anything, so each member is looked up, and one that is no number is none.
        pl.col("evidence").str.json_path_match(f"$.{member}").cast(pl.Float64, strict=False)
        for member in ("value", "threshold", "score", *(f"jaccard.{name}" for name in TEXTS))
    )
    relative = (value - threshold).abs() / pl.max_horizontal(threshold.abs(), pl.lit(1e-9))
    table = table.with_row_index("place")
    return table.select(
        pl.lit(file, pl.Int64).alias("file"),
        pl.col("place").cast(pl.Int64),
        "id",
        "source",
        pl.concat_str("stage", "reason", separator="/").alias("name"),
        value.alias("value"),
        threshold.alias("threshold"),
        pl.coalesce(relative, pl.min_horizontal(*jaccard), score).alias("distance"),
        pl.col("id").hash(seed=0).alias("order"),
    )


def dropped_rows(run: RecordedRun, step: Manifest, evidence: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows of each reason of a step, with their texts, random ones and border ones. evidence: of `read_evidence`."""
    keys = ["file", "place", "name"]
    chosen = pl.concat(
        [
            evidence.sort("order")
            .group_by("name", maintain_order=True)
            .head(RANDOM)
            .select(*keys, kind=pl.lit("random")),
            evidence.filter(pl.col("distance").is_not_null())
            .sort("distance", "id")
            .group_by("name", maintain_order=True)
            .head(BORDER)
            .select(*keys, kind=pl.lit("border")),
        ]
    )
    found: dict[tuple[int, int], dict[str, Any]] = {}
    columns = ["id", "source", "condition", *TEXTS, "stage", "reason", "evidence"]
    for file, group in chosen.group_by("file"):
        places = group["place"].unique().sort()
        table = pl.DataFrame(storage.read_parquet(step.dropped[int(file[0])].path, columns))[places.to_list()]
        for place, row in zip(places.to_list(), table.iter_rows(named=True), strict=True):
            found[int(file[0]), place] = row
    lines = []
    for file_number, place, name, kind in chosen.iter_rows():
        row = found[file_number, place]
        proof = evidence_of(row["evidence"])
        lines.append(
            {
                "id": row["id"],
                "source": row["source"],
                "condition": row["condition"],
                "step": step.step,
                "reason": name,
                "kind": kind,
                "why": evidence_words(proof),
                "span": proof.get("span") if isinstance(proof.get("span"), str) else None,
                "twin": (proof["twin"], proof.get("against")) if isinstance(proof.get("twin"), str) else None,
                **{name: row[name] for name in TEXTS},
            }
        )
    _add_twins(run, step, lines)
    return lines


def kept_rows(rows: pl.DataFrame, wanted: int = RANDOM) -> list[dict[str, Any]]:
    """Some of the rows kept, for the search. rows: a sample of the corpus."""
    spread = rows.sort(pl.col("id").hash(seed=0)).head(wanted)
    return [
        {
            "id": row["id"],
            "source": row["source"],
            "condition": row["condition"],
            "step": "",
            "reason": "kept",
            "kind": "random",
            "why": "",
            "span": None,
            "twin": None,
            **{name: row[name] for name in TEXTS},
        }
        for row in spread.iter_rows(named=True)
    ]


def evidence_of(text: str) -> dict[str, Any]:
    """The evidence of a dropped row; empty where it is no JSON object, as a plugin may write it."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def evidence_words(evidence: Mapping[str, Any]) -> str:
    """The evidence of a dropped row in words."""
    parts = []
    if isinstance(evidence.get("value"), int | float):
        parts.append(f"value {number(evidence['value'])}")
    if isinstance(evidence.get("threshold"), int | float):
        parts.append(f"threshold {number(evidence['threshold'])}")
    if isinstance(jaccard := evidence.get("jaccard"), dict):
        alike = (f"{name} {100 * share:.0f} %" for name, share in jaccard.items() if isinstance(share, int | float))
        parts.append(f"alike: {', '.join(alike)}")
    told = {"value", "threshold", "jaccard", "twin", "against", "span"}
    parts += [
        f"{name} {number(value) if isinstance(value, int | float) else value}"
        for name, value in evidence.items()
        if name not in told
    ]
    return ", ".join(parts)


def _add_twins(run: RecordedRun, step: Manifest, lines: list[dict[str, Any]]) -> None:
    """Put the texts of the row that stayed into the rows that were dropped for it: `twin` becomes {id, instruction,
    response}, without texts if the twin was not found in the files that were looked through."""
    wanted: dict[str | None, set[str]] = {}
    for line in lines:
        if line["twin"]:
            wanted.setdefault(line["twin"][1], set()).add(line["twin"][0])
    texts: dict[tuple[str, str | None], dict[str, str]] = {}
    for against, ids in wanted.items():
        holder = step if against is None else manifests.load(run.root, against)
        for row in _texts(holder.shards if holder else (), ids):
            texts[row["id"], against] = {name: row[name] for name in TEXTS}
    for line in lines:
        if line["twin"]:
            line["twin"] = {"id": line["twin"][0], **texts.get(line["twin"], {})}


def _texts(files: Sequence[TableRef], ids: set[str]) -> Iterator[dict[str, Any]]:
    """Yields id and texts of these rows. Texts of a file are read only if it has one of them."""
    missing = set(ids)
    for file in files[:MAX_TWIN_FILES]:
        if not missing:
            return
        places = pl.Series(storage.read_parquet(file.path, ["id"])["id"]).is_in(list(missing)).arg_true()
        if len(places):
            rows = pl.DataFrame(storage.read_parquet(file.path, ["id", *TEXTS]))[places].to_dicts()
            missing -= {row["id"] for row in rows}
            yield from rows


def shown_rows(lines: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Reason -> the rows that stand in the page: `SHOWN` of each kind, texts as (text, whether marked)."""
    by_reason: dict[str, list[dict[str, Any]]] = {}
    counts: dict[tuple[str, str], int] = {}
    seen: set[tuple[str, str]] = set()
    for line in lines:
        key = line["reason"], line["kind"]
        if counts.get(key, 0) >= SHOWN or (line["reason"], line["id"]) in seen:
            continue
        counts[key] = counts.get(key, 0) + 1
        seen.add((line["reason"], line["id"]))
        by_reason.setdefault(line["reason"], []).append(_shown(line))
    return by_reason


def _shown(line: dict[str, Any]) -> dict[str, Any]:
    texts = {name: excerpt(line[name], EXCERPT) for name in TEXTS}
    twin = line["twin"]
    if twin and all(name in twin for name in TEXTS):
        others = {name: excerpt(twin[name], EXCERPT) for name in TEXTS}
        pairs = {name: differing(texts[name], others[name]) for name in TEXTS}
        return {
            **line,
            **{name: pairs[name][0] for name in TEXTS},
            "twin": {"id": twin["id"], **{n: pairs[n][1] for n in TEXTS}},
        }
    return {**line, **{name: _with_span(texts[name], line["span"]) for name in TEXTS}}


def _with_span(text: str, span: str | None) -> list[tuple[str, bool]]:
    """A text with a span of it marked."""
    at = text.find(span) if span else -1
    if at < 0 or not span:
        return [(text, False)]
    return [(text[:at], False), (span, True), (text[at + len(span) :], False)]


def differing(left: str, right: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Two texts as (text, whether it differs from the other), by words, spaces and signs."""
    a, b = (re.findall(r"\w+|\s+|[^\w\s]", text) for text in (left, right))
    sides: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        sides[0].append(("".join(a[i:j]), kind != "equal"))
        sides[1].append(("".join(b[k:m]), kind != "equal"))
    return sides


def excerpt(text: str, length: int) -> str:
    """A text, or its beginning with a mark that it goes on."""
    return text if len(text) <= length else f"{text[:length]} […]"


def packed(lines: Sequence[dict[str, Any]]) -> str:
    """Rows for the search: JSON, compressed, in base64. Texts are cut as far as it takes to fit into the page."""
    data = ""
    for length in EXCERPTS:
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for line in lines:  # a row of the border may be a random one too; the search shows it once
            rows.setdefault((line["reason"], line["id"]), _cut(line, length))
        text = json.dumps(list(rows.values()), ensure_ascii=False, separators=(",", ":"))
        data = base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
        if len(data) <= MAX_PACKED:
            break
    return data


def _cut(line: dict[str, Any], length: int) -> dict[str, Any]:
    kept = {name: excerpt(line[name], length) for name in TEXTS}
    twin = line["twin"] and {
        **line["twin"],
        **{name: excerpt(line["twin"][name], length) for name in TEXTS if name in line["twin"]},
    }
    span = line["span"] and excerpt(line["span"], length)
    return {**line, **kept, "twin": twin, "span": span}

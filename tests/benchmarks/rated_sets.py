"""Sets of rated rows: published ones, and two that are made from good answers by errors of known severity.

The made sets, `maths` and `code`, rate 4 for a good answer and less for each kind of error (`ERRORS_OF_MATHS`,
`ERRORS_OF_CODE`). Every question is in one of two halves by its digest: rows of the first train scores, rows of the
second are rated. So no score is tested on a question that it was trained on. Nothing here is in the repository: all is
read from the folder of real data, and errors are drawn from the digest of the text.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.audit.calibration import Ratings
from pipelines.audit.ratings import RatedRows, read_ratings

MADE_QUESTIONS = 500
"""Rated questions of each source of a made set. Each has its good answer and two with errors."""

ERRORS_EACH = 2

GOOD = 4


class Row(NamedTuple):
    """A row: rating of a made one, and the kind of its error (`good` without any)."""

    source: str
    subject: str
    instruction: str
    response: str
    rating: float = GOOD
    kind: str = "good"


class RatedSet(NamedTuple):
    """Rated rows with their texts, and the ratings.

    sides: one table for rows, two for pairs: id, source, condition, instruction, response. kinds: of errors; empty for
    published sets.
    """

    name: str
    sides: tuple[pa.Table, ...]
    ratings: Ratings
    kinds: tuple[str, ...] = ()


def rated_sets(data: Path) -> dict[str, RatedSet]:
    """All sets of a folder of real data."""
    folder = data / "ratings"
    test = [row for row in made(data) if not trains(row)]
    return {
        "pandalm": published("pandalm", [folder / "pandalm_human.json"], sources=_pandalm_sources(folder)),
        "mt_bench": published("mt_bench", [folder / "mt_bench_human.json"]),
        "halueval": published("halueval", [folder / "halueval_general.jsonl"], {"rating": "-hallucination"}),
        "gsm8k_solutions": published("gsm8k_solutions", [folder / "gsm8k_model_solutions.jsonl"], subject="maths"),
        "made_maths": _made_set("made_maths", [row for row in test if row.subject == "maths"]),
        "made_code": _made_set("made_code", [row for row in test if row.subject == "code"]),
    }


# ------------------------------------------------------------------------------------------------------- published sets


def published(
    name: str,
    paths: Sequence[Path],
    columns: dict[str, str] | None = None,
    subject: str | None = None,
    sources: tuple[list[str], list[str]] | None = None,
) -> RatedSet:
    """A set as `winnow calibrate` reads it. subject: of all rows, by default `subject_of` the instruction."""
    rated = read_ratings([str(path) for path in paths], columns)
    responses = ["response_a", "response_b"] if rated.pairs else ["response"]
    given = ["source_a", "source_b"] if rated.pairs else ["source"]
    texts = rated.rows.with_columns(pl.col("instruction", *responses, *given).fill_null(""))
    written = sources or tuple(texts[column].to_list() for column in given)
    sides = tuple(
        _table(name, texts["instruction"].to_list(), texts[response].to_list(), source)
        for response, source in zip(responses, written, strict=True)
    )
    subjects = [subject or subject_of(text) for text in texts["instruction"]]
    return RatedSet(name, sides, _ratings(rated, sides, subjects))


def _pandalm_sources(folder: Path) -> tuple[list[str], list[str]]:
    """The models of each pair. Their names have hyphens and one underscore between them."""
    keys = [row["cmp_key"].split("_") for row in json.loads((folder / "pandalm_human.json").read_text())]
    return [key[0] for key in keys], [key[1] for key in keys]


def _table(name: str, instructions: Iterable[str], responses: Iterable[str], sources: Iterable[str]) -> pa.Table:
    columns = [[*instructions], [*responses], [*sources]]
    rows = len(columns[0])
    return pa.table(
        {
            "id": pa.array([f"{name}-{n}" for n in range(rows)], pa.string()),
            "source": pa.array(columns[2], pa.string()),
            "condition": pa.array(["direct"] * rows, pa.string()),
            "instruction": pa.array(columns[0], pa.string()),
            "response": pa.array(columns[1], pa.string()),
        }
    )


def _ratings(rated: RatedRows, sides: Sequence[pa.Table], subjects: Sequence[str]) -> Ratings:
    lengths = [np.array([len(text) for text in side["response"].to_pylist()], np.float64) for side in sides]
    return Ratings(
        rated.values,
        rated.pairs,
        np.array(subjects, np.str_),
        np.array(sides[0]["instruction"].to_pylist(), np.str_),
        lengths[0] - lengths[1] if rated.pairs else lengths[0],
        np.array([side["source"].to_pylist() for side in sides], np.str_).T,
    )


_SUBJECTS = {
    "code": r"\b(python|javascript|java|c\+\+|sql|html|css|regex|regular expression|algorithm|program|programming|code"
    r"|function that|script|bash|api|data structure|compile|debug|query the|class in)\b",
    "maths": r"\b(calculate|solve|equations?|sum of|product of|probability|percent|square root|derivative|integral|"
    r"triangle|circle|area of|perimeter|average of|how many|arithmetic|fraction|prime number)\b|\d\s*[-+*/=^]\s*\d",
    "editing": r"\b(rewrite|paraphrase|edit|grammar|proofread|translate|summari[sz]e|correct the|classify|sort|identify"
    r"|categori[sz]e|rephrase|convert|extract|replace|fill in|arrange|remove|highlight|match|label)\b",
    "writing": r"\b(write|compose|draft|create|design|generate|imagine|come up with|story|poem|e-?mail|letter|essay|"
    r"tweet|headline|slogan|dialogue|script for|speech|brainstorm|suggest)\b",
}
"""The first that matches the instruction; `knowledge` without a match."""


def subject_of(instruction: str) -> str:
    """What an instruction is about, by its words."""
    text = instruction.lower()
    return next((name for name, words in _SUBJECTS.items() if re.search(words, text)), "knowledge")


# ------------------------------------------------------------------------------------------------------------ made sets


def made(data: Path) -> list[Row]:
    """Rows of the made sets: all good answers, and of each rated or trained question two with errors."""
    rows: list[Row] = []
    for good in good_rows(data).values():
        train = [row for row in good if trains(row)][: 4 * MADE_QUESTIONS]
        for half in (train, [row for row in good if not trains(row)][:MADE_QUESTIONS]):
            for place, row in enumerate(half):
                rows += [row, *_with_errors(row, half, place)]
    return rows


def _with_errors(row: Row, half: Sequence[Row], place: int) -> Iterator[Row]:
    """The row with two kinds of errors that it has room for. Answers to other questions are of the same half."""
    errors = ERRORS_OF_CODE if row.subject == "code" else ERRORS_OF_MATHS
    chance = _chance(row.response)
    other = half[(place + 1 + chance.randrange(len(half) - 1)) % len(half)]
    found = 0
    for kind in chance.sample(list(errors), len(errors)):
        rating, damage = errors[kind]
        text = damage(row.response, other.response, chance)
        if found < ERRORS_EACH and text is not None and text.strip() and text != row.response:
            found += 1
            yield row._replace(response=text, rating=rating, kind=kind)


def trains(row: Row) -> bool:
    """Whether the question is of the half that scores are trained on; three of four are."""
    return hashlib.blake2b(row.instruction.encode(), digest_size=2).digest()[0] % 4 != 0


def good_rows(data: Path) -> dict[str, list[Row]]:
    """Good answers by source, in a fixed order that mixes each file."""
    sources = {
        "gsm8k": list(_gsm8k(data / "sources" / "gsm8k_train.jsonl")),
        "math": list(_math(data / "sources" / "math_train.parquet")),
        "gpteacher_code": list(_gpteacher(data / "sources" / "gpteacher" / "codegen-instruct.json")),
        "humaneval": list(_humaneval(data / "benchmarks" / "HumanEval.jsonl.gz")),
    }
    return {name: sorted(_once(rows), key=lambda row: _digest(row.instruction)) for name, rows in sources.items()}


def _once(rows: Iterable[Row]) -> list[Row]:
    return list({row.instruction: row for row in rows}.values())


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _chance(text: str) -> random.Random:
    return random.Random(_digest(text))


def _gsm8k(path: Path) -> Iterator[Row]:
    """Solutions as they are published, without the calculator's marks in every second one."""
    for line in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        answer = item["answer"]
        if _digest(item["question"])[0] % 2:
            answer = re.sub(r"<<.*?>>", "", answer)
        yield Row("gsm8k", "maths", item["question"], answer)


def _math(path: Path) -> Iterator[Row]:
    for item in pq.read_table(path, columns=["reward_model"])["reward_model"].to_pylist():
        truth = item["ground_truth"]
        question = truth["question"].split("Let's think step by step and output")[0].strip()
        yield Row("math", "maths", question, truth["solution"])


def _gpteacher(path: Path) -> Iterator[Row]:
    """Those in Python that are syntactically valid: the others cannot be known to be good."""
    for item in json.loads(path.read_text(encoding="utf-8")):
        code = item["response"].strip()
        if "def " in code and _is_valid(code):
            yield Row("gpteacher_code", "code", "\n\n".join(filter(None, (item["instruction"], item["input"]))), code)


def _humaneval(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            item = json.loads(line)
            yield Row("humaneval", "code", f"Complete this function.\n\n{item['prompt']}", item["canonical_solution"])


def _is_valid(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True


Damage = Callable[[str, str, random.Random], "str | None"]

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def _other_number(number: str, chance: random.Random) -> str:
    """A number near another, of the same form."""
    change = chance.choice((-2, -1, 1, 2, 5, 10))
    value = float(number) + change if "." in number else int(number) + change
    return str(abs(value) if value else 3)


def _wrong_final(text: str, other: str, chance: random.Random) -> str | None:
    """Another number in the final answer alone."""
    start = text.rfind("####") if "####" in text else text.rfind("\\boxed")
    numbers = [match for match in _NUMBER.finditer(text) if match.start() > start >= 0]
    if not numbers:
        return None
    match = chance.choice(numbers[:2])
    return text[: match.start()] + _other_number(match.group(), chance) + text[match.end() :]


def _wrong_step(text: str, other: str, chance: random.Random) -> str | None:
    """Another result of one equation; its marks and the following steps stay as they are."""
    end = text.rfind("####") if "####" in text else text.rfind("\\boxed")
    results = list(re.finditer(r"(?<==)\s*\$?(\d+(?:\.\d+)?)(?![\d.]*[>^])", text[: max(end, 0)]))
    if not results:
        return None
    match = chance.choice(results)
    return text[: match.start(1)] + _other_number(match.group(1), chance) + text[match.end(1) :]


def _truncated(text: str, other: str, chance: random.Random) -> str | None:
    """The first 30 to 70 % of the words."""
    words = re.findall(r"\S+\s*", text)
    return "".join(words[: max(2, round(len(words) * chance.uniform(0.3, 0.7)))]).rstrip() if len(words) > 6 else None


def _shuffled(text: str, other: str, chance: random.Random) -> str | None:
    """The sentences or lines in another order."""
    parts = [part for part in re.split(r"(?<=[.!?])\s+|\n", text) if part.strip()]
    mixed = chance.sample(parts, len(parts))
    return "\n".join(mixed) if len(parts) > 2 and mixed != parts else None


def _foreign(text: str, other: str, chance: random.Random) -> str | None:
    """The answer to another question of the same source."""
    return other


_OPERATORS = (("+", "-"), ("<", ">"), ("==", "!="), ("<=", "<"), (">=", ">"), ("*", "+"), ("and", "or"), ("%", "//"))


def _operator(text: str, other: str, chance: random.Random) -> str | None:
    """One operator turned into another; the program still parses."""
    places = [
        (match.start(), old, new)
        for pair in _OPERATORS
        for old, new in (pair, pair[::-1])
        for match in re.finditer(rf"(?<= ){re.escape(old)}(?= )", text)
    ]
    if not places:
        return None
    start, old, new = chance.choice(places)
    return text[:start] + new + text[start + len(old) :]


def _name(text: str, other: str, chance: random.Random) -> str | None:
    """One use of a name that the program gives a value, misspelt: it fails when it runs."""
    names = {match.group(1) for match in re.finditer(r"(?m)^\s*(\w{3,})\s*=[^=]", text)}
    names |= {match.group(1) for match in re.finditer(r"\bfor (\w{3,}) in", text)}
    uses = [match for name in sorted(names) for match in list(re.finditer(rf"\b{name}\b", text))[1:]]
    if not uses:
        return None
    match = chance.choice(uses)
    word = match.group()
    at = chance.randrange(len(word) - 1)
    changed = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return text[: match.start()] + (changed if changed != word else word + "_") + text[match.end() :]


def _syntax(text: str, other: str, chance: random.Random) -> str | None:
    """One bracket, quote or colon is missing, and it no longer parses."""
    places = [match.start() for match in re.finditer(r"[()\[\]{}\"']|:$", text, re.MULTILINE)]
    for place in chance.sample(places, min(len(places), 8)):
        broken = text[:place] + text[place + 1 :]
        if not _is_valid(broken if not broken.startswith("    ") else "def f():\n" + broken):
            return broken
    return None


def _truncated_code(text: str, other: str, chance: random.Random) -> str | None:
    """The first 30 to 70 % of the characters."""
    return text[: max(20, round(len(text) * chance.uniform(0.3, 0.7)))].rstrip() if len(text) > 60 else None


ERRORS_OF_MATHS: dict[str, tuple[float, Damage]] = {
    "wrong_step": (3, _wrong_step),
    "wrong_final": (2, _wrong_final),
    "shuffled": (1, _shuffled),
    "truncated": (1, _truncated),
    "other_question": (0, _foreign),
}
"""Kind of error -> rating, and how it is made. A wrong number in a step that the final answer does not follow is less
than a wrong final answer; that less than no answer or no order; that less than an answer to another question."""

ERRORS_OF_CODE: dict[str, tuple[float, Damage]] = {
    "operator": (3, _operator),
    "name": (2, _name),
    "syntax": (1, _syntax),
    "truncated": (1, _truncated_code),
    "other_question": (0, _foreign),
}


def _made_set(name: str, rows: Sequence[Row]) -> RatedSet:
    side = _table(name, (row.instruction for row in rows), (row.response for row in rows), (row.source for row in rows))
    ratings = Ratings(
        np.array([[row.rating] for row in rows], np.float64),
        False,
        np.array([row.subject for row in rows], np.str_),
        np.array([row.instruction for row in rows], np.str_),
        np.array([len(row.response) for row in rows], np.float64),
        np.array([[row.source] for row in rows], np.str_),
    )
    return RatedSet(name, (side,), ratings, tuple(row.kind for row in rows))


def training_rows(rows: Iterable[Row], label: Callable[[Row], str | None]) -> pa.Table:
    """Rows as a trained score gets them, in order of their digests. label: of a row, None to leave it out."""
    chosen = [(row, name) for row in rows if trains(row) and (name := label(row)) is not None]
    chosen.sort(key=lambda one: _digest(one[0].instruction + "\x1f" + one[0].response))
    table = _table(
        "train",
        (row.instruction for row, _ in chosen),
        (row.response for row, _ in chosen),
        (row.source for row, _ in chosen),
    )
    subjects = pa.array([row.subject for row, _ in chosen], pa.string())
    return table.append_column("subject", subjects).append_column(
        "label", pa.array([n for _, n in chosen], pa.string())
    )

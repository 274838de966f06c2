"""NuminaMath-1.5: competition problems from the web; solutions `noisy,cot`, and answers `noisy,direct` without proofs.

Left out, as in HRM-Text: synthetic rows, rows with a problem or solution marked invalid, rows without solution or
answer, rows with links, and solutions that end in a request to translate them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, interleave, raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    columns = text_columns(
        "problem", "solution", "answer", "question_type", "problem_is_valid", "solution_is_valid", "synthetic"
    )
    for rows in read(path, columns):
        problem, solution, answer = (pc.utf8_trim_whitespace(rows[name]) for name in ("problem", "solution", "answer"))
        valid = pc.and_(pc.equal(rows["problem_is_valid"], "Yes"), pc.equal(rows["solution_is_valid"], "Yes"))
        linked = pc.or_(pc.match_substring(problem, "http"), pc.match_substring(solution, "http"))
        solved = exclude(
            raw(rows, problem, solution, "noisy,cot"),
            ("synthetic", pc.equal(pc.utf8_lower(pc.fill_null(rows["synthetic"], "true")), "true")),
            ("invalid", pc.invert(pc.fill_null(valid, False))),
            ("no_answer", pc.or_(pc.is_null(solution), pc.is_null(answer))),
            ("no_answer", pc.or_(pc.equal(problem, ""), pc.equal(solution, ""))),
            ("link", linked),
            ("translation", pc.match_substring(solution, "Translate the text above into English")),
        )
        good = pc.is_null(solved["fault"])
        proof = pc.or_(pc.equal(pc.fill_null(rows["question_type"], ""), "proof"), pc.equal(answer, "proof"))
        direct = exclude(
            raw(rows, problem, answer, "noisy,direct", "direct").filter(good),
            ("proof", proof.filter(good)),
            ("no_answer", pc.equal(answer, "").filter(good)),
        )
        yield interleave([solved, direct])


NUMINAMATH = Source(
    name="numinamath",
    title="NuminaMath-1.5, valid and not synthetic",
    home=HUB + "AI-MO/NuminaMath-1.5",
    revision="main",
    licence="Apache-2.0",
    conditions=("noisy,cot", "noisy,direct"),
    overlaps=("aime/test", "math/train"),
    path=on_hub("AI-MO/NuminaMath-1.5", "data/train-*.parquet"),
    rows=896_215,
    bytes=531_355_727,
    part="mathematics",
    read=_read,
)

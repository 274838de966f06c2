"""AMPS Mathematica: problems that scripts made, a file per problem, `noisy`: with steps `cot`, without `direct`.

Read from the archive as published. What is sampled is a topic and its kind of problem (TASK), two folders; the name of
the second ends in `w_steps` where the answer shows its steps. A row's number counts the archive's Mathematica files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.cutting import KEPT_OF_FAULT
from pipelines.formats.pairs import exclude, file_name, raw, with_task
from pipelines.formats.reading import BROKEN, FAULT, ROW, read_small_members
from pipelines.sources.source import Source

_FILES = 4096
"""Problems in a batch; each has some hundred bytes."""


def _read(path: str) -> Iterator[pa.Table]:
    members = (member for member in read_small_members(path, ".txt") if _is_mathematica(member[0]))
    first = 0
    # A Python loop, since an archive has a header per problem; all that follows is done by column.
    while batch := list(itertools.islice(members, _FILES)):
        yield _problems(batch, first)
        first += len(batch)


def _is_mathematica(name: str) -> bool:
    parts = name.strip("/").split("/")
    return len(parts) >= 4 and parts[-4] == "mathematica"


def _problems(batch: list[tuple[str, bytes]], first: int) -> pa.Table:
    names, contents = zip(*batch, strict=True)
    try:
        text = pa.array(contents, pa.binary()).cast(pa.string())
        faults = broken = pa.nulls(len(batch), pa.string())
    except pa.ArrowInvalid:
        text, faults, broken = _some_broken(contents)
    rows = pa.table(
        [pa.array(range(first, first + len(batch)), pa.int64()), faults, broken], schema=pa.schema([ROW, FAULT, BROKEN])
    )
    found = pc.extract_regex(text, r"(?s)^(?:Problem:)?(?P<problem>.*?)Answer:(?P<answer>.*)$")
    problem, answer = (pc.utf8_trim_whitespace(pc.struct_field(found, name)) for name in ("problem", "answer"))
    folders = pc.extract_regex(pa.array(names, pa.string()), r"(?P<topic>[^/]+)/(?P<kind>[^/]+)/[^/]+$")
    topic, kind = (pc.struct_field(folders, name) for name in ("topic", "kind"))
    condition = pc.if_else(pc.ends_with(kind, "w_steps"), "noisy,cot", "noisy,direct")
    made = exclude(
        raw(rows, problem, answer, condition),
        ("no_answer", pc.is_null(found)),
        ("no_answer", pc.or_(pc.equal(problem, ""), pc.equal(answer, ""))),
    )
    # What has no answer is kept as it was, so that one can see why.
    shown = pc.if_else(pc.is_null(found), text, made["response"].combine_chunks())
    made = made.set_column(made.schema.get_field_index("response"), "response", pc.coalesce(broken, shown))
    return with_task(made, file_name(pc.binary_join_element_wise(topic, kind, "_")))


def _some_broken(contents: tuple[bytes, ...]) -> tuple[pa.Array, pa.Array, pa.Array]:
    text: list[str | None] = []
    faults: list[str | None] = []
    broken: list[str | None] = []
    for content in contents:
        try:
            text.append(content.decode())
            faults.append(None)
            broken.append(None)
        except UnicodeDecodeError:
            text.append(None)
            faults.append("invalid_utf8")
            broken.append(content[:KEPT_OF_FAULT].decode(errors="replace"))
    return pa.array(text, pa.string()), pa.array(faults, pa.string()), pa.array(broken, pa.string())


AMPS_MATHEMATICA = Source(
    name="amps_mathematica",
    title="AMPS, Mathematica part",
    home="https://github.com/hendrycks/math",
    revision="unknown",
    licence="MIT",
    conditions=("noisy,direct", "noisy,cot"),
    part="symbolic",
    read=_read,
)

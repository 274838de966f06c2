"""The list of stages, and the page that documents it."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

import filters
from filters.catalogue import STAGES, AnyStage
from filters.gopher_repetition import MEASURES
from filters.stage import Filter, Stage, Transform, apply

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "filters.md").read_text(encoding="utf-8")


def test_the_list_and_the_union_hold_the_same_stages() -> None:
    union = typing.get_args(typing.get_args(AnyStage)[0])
    assert set(union) == set(STAGES.values())
    assert {kind: stage().kind for kind, stage in STAGES.items()} == {kind: kind for kind in STAGES}


def test_every_stage_class_of_the_package_is_listed() -> None:
    for path in Path(filters.__file__).parent.rglob("*.py"):
        for name in re.findall(r"^class (\w+)\((?:Filter|Transform)\)", path.read_text(encoding="utf-8"), re.M):
            assert name in {stage.__name__ for stage in STAGES.values()}, path.name


@pytest.mark.parametrize("kind", STAGES)
def test_a_stage_is_read_back_from_what_it_writes(kind: str) -> None:
    stage = STAGES[kind]()
    adapter: TypeAdapter[Stage] = TypeAdapter(AnyStage)
    assert adapter.validate_python(json.loads(stage.model_dump_json())) == stage
    assert json.loads(json.dumps(stage.parameters()))["kind"] == kind


def test_an_unknown_parameter_is_an_error() -> None:
    with pytest.raises(ValidationError, match="max_character"):
        TypeAdapter(AnyStage).validate_python({"kind": "length", "max_character": 1})


@pytest.mark.parametrize("kind", STAGES)
def test_every_stage_takes_an_empty_table_and_chunks(kind: str) -> None:
    schema = pa.schema([("id", pa.string()), ("instruction", pa.string()), ("response", pa.string())])
    rows = pa.table({"id": ["0"], "instruction": ["Add one and one, please, and say how."], "response": ["2"]}, schema)
    stages = [STAGES[kind]()]
    assert apply(stages, schema.empty_table()).kept.num_rows == 0
    chunked = apply(stages, pa.concat_tables([rows, rows]))
    whole = apply(stages, pa.concat_tables([rows, rows]).combine_chunks())
    assert chunked.kept.equals(whole.kept) and chunked.dropped.equals(whole.dropped)


def reasons(stage: type[Stage]) -> set[str]:
    """The reasons that the docstring of a filter's `judge` lists between backticks."""
    if not issubclass(stage, Filter):
        assert issubclass(stage, Transform)
        return set()
    text = stage.judge.__doc__ or ""
    return set(MEASURES) if "MEASURES" in text else set(re.findall(r"`(\w+)`", text)) - {"drop", "any"}


@pytest.mark.parametrize("kind", STAGES)
def test_the_page_names_every_stage_reason_and_default(kind: str) -> None:
    stage = STAGES[kind]
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |"))
    _, _, _, listed, defaults, _, _ = row.split("|")
    assert set(re.findall(r"`(\w+)`", listed)) == reasons(stage)
    written = dict(re.findall(r"`(\w+): ([^`]*)`", defaults))
    parameters = {name: value for name, value in stage().model_dump(mode="json").items() if name != "kind"}
    assert written == {name: json.dumps(value).strip('"') for name, value in parameters.items()}


@pytest.mark.parametrize("kind", STAGES)
def test_the_page_names_every_parameter_and_every_former_name(kind: str) -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |")]
    explained = [name for row in rows if len(row) == 6 for name in re.findall(r"`([\w.]+)`", row[2])]
    patterns = [re.escape(name).replace(re.escape("..."), r"\w+") for name in explained]
    for name in STAGES[kind].model_fields.keys() - {"kind", "on"}:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name
    former = {row[2].strip(" `"): row[3].strip(" `") for row in rows if len(row) == 5}
    assert former == STAGES[kind].RENAMED_KEYS


def test_the_reasons_tested_are_the_reasons_documented() -> None:
    cases = (Path(__file__).parent / "test_reasons.py").read_text(encoding="utf-8")
    tested = set(re.findall(r'\("(\w+)", \{.*?\},\s*"(\w+)"', cases)) | {
        ("gopher_repetition", name) for name in MEASURES
    }
    for kind, stage in STAGES.items():
        names = reasons(stage)
        missing = {name for name in names if (kind, name) not in tested}
        assert not missing, (kind, missing)

"""Assignments change nested settings, and one that cannot be applied is an error that names it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import WinnowError
from pipelines.recipe import of_values
from pipelines.settings import override, parse_yaml

VALUES: dict[str, Any] = {
    "lr": 0.1,
    "start": None,
    "model": {"norm": "post", "hidden": 8},
    "stages": [{"kind": "length", "max_chars": 5}, {"name": "a"}, 3],
}


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("lr=2e-4", ["lr"], "2e-4"),
        ("start=a=b", ["start"], "a=b"),
        ("model.norm=pre", ["model", "norm"], "pre"),
        ("stages.length.max_chars=7", ["stages", 0, "max_chars"], 7),
        ("stages.a.name=b", ["stages", 1, "name"], "b"),
        ("stages.2=[x, no]", ["stages", 2], ["x", "no"]),
    ],
)
def test_an_assignment_changes_one_value_of_a_copy(assignment: str, path: list[Any], value: Any) -> None:
    result: Any = override(VALUES, [assignment])
    assert VALUES["lr"] == 0.1 and VALUES["model"]["norm"] == "post" and VALUES["stages"][2] == 3
    for name in path:
        result = result[name]
    assert result == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", "010"),
        ("-07", "-07"),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("2026-11-01", "2026-11-01"),
        ("2026-13-01", "2026-13-01"),
        ("0x", "0x"),
        ("0x_", "0x_"),
        ("0", 0),
        ("-12", -12),
        ("+1_000", 1000),
        ("0x1F", 31),
        ("0o17", "0o17"),
        ("1.50", 1.5),
        (".5", 0.5),
        ("1.5e+3", 1500.0),
        ("-.inf", -math.inf),
    ],
)
def test_what_yaml_1_2_has_removed_is_a_string(text: str, value: Any) -> None:
    result = parse_yaml(text)
    assert result == value and type(result) is type(value)


@given(st.text("0123456789+-._:xobeEfinaN", min_size=1, max_size=8))
def test_a_string_that_pyyaml_writes_is_read_as_that_string(text: str) -> None:
    assert parse_yaml(yaml.safe_dump(text)) == text


def test_a_number_with_leading_zeros_is_decimal_in_a_recipe() -> None:
    assert of_values(parse_yaml("{name: a, sources: [{name: b, path: c.jsonl}], seed: 010}")).seed == 10


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lr", "--set lr: write key=value"),
        ("=3", "--set =3: write key=value"),
        ("lr=[", "--set lr=[: the value is not YAML"),
        ("stages.lenght.max_chars=1", "'lenght' is not in that list (did you mean 'length'?)"),
        ("stages.9=1", "'9' is not in that list (known: a, length)"),
        ("stages.2.rows=1", "'2' has no keys"),
    ],
)
def test_an_assignment_that_cannot_be_applied_is_an_error(assignment: str, message: str, partial: bool) -> None:
    with pytest.raises(WinnowError) as error:
        override(VALUES, [assignment], partial)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("model.nrm=pre", "--set model.nrm=pre: unknown key 'nrm'; did you mean 'norm'?"),
        ("modle.norm=pre", "--set modle.norm=pre: unknown key 'modle'; did you mean 'model'?"),
        ("lr.x=1", "'lr' has no keys"),
        ("model=1", "'model' is a section; set one of its keys (norm, hidden)"),
    ],
)
def test_complete_settings_have_every_key(assignment: str, message: str) -> None:
    with pytest.raises(WinnowError) as error:
        override(VALUES, [assignment])
    assert message in str(error.value)


def test_partial_settings_accept_keys_that_they_leave_out_and_sections_for_values() -> None:
    changed = override({"near_duplicates": False}, ["near_duplicates.threshold=0.7", "seed=3"], partial=True)
    assert changed == {"near_duplicates": {"threshold": 0.7}, "seed": 3}


def test_on_and_no_are_strings() -> None:
    assert parse_yaml("on: [no, true]") == {"on": ["no", True]}

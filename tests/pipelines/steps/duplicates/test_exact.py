"""Exact duplicates: which differences between two texts matter."""

from __future__ import annotations

from pathlib import Path

from pipelines.recipe import ExactDuplicates
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from tests.pipelines.steps.duplicates.corpora import dropped, given, records_table


def test_only_unicode_forms_line_ends_and_outer_space_make_exact_duplicates(tmp_path: Path) -> None:
    texts = [
        "Où est f(2)?\nDis-le.", "  Ou\u0300 est f(2)?\r\nDis-le.\n", "Où est f(2)?\rDis-le.",  # one text
        "où est f(2)?\nDis-le.", "Où est f'(2)?\nDis-le.", "Où est f[2]?\nDis-le.", "Où est  f(2)?\nDis-le.",
        "Où est f(2)\nDis-le.", "Ou est f(2)?\nDis-le.", "Où est f(2)? Dis-le.", "Où est f(3)?\nDis-le.",
    ]  # fmt: skip
    run, parent = given(tmp_path, [records_table([f"s/{n}" for n in range(11)], texts, ["it depends"] * 11)])
    assert dropped(drop_exact_duplicates(run, parent, ExactDuplicates(), {})) == {
        "s/0": {"twin": "s/1"},  # the longest is kept
        "s/2": {"twin": "s/1"},
    }


def test_records_are_duplicates_if_the_compared_fields_are_equal(tmp_path: Path) -> None:
    table = records_table(["a", "b", "c"], ["same question here", "same question here", "other"], ["one", "two", "one"])
    for fields, expected in (
        (("instruction",), {"b"}),
        (("response",), {"a"}),
        (("instruction", "response"), set()),
    ):
        run, parent = given(tmp_path / "-".join(fields), [table])
        exact = drop_exact_duplicates(run, parent, ExactDuplicates.model_validate({"fields": fields}), {"s": 1})
        assert set(dropped(exact)) == expected or (fields == ("response",) and set(dropped(exact)) == {"c"})


def test_ids_with_characters_that_json_escapes_are_named_in_evidence(tmp_path: Path) -> None:
    names = ['s/a"b\\c/0', "s/ü/1"]
    run, parent = given(tmp_path, [records_table(names, ["the same text"] * 2, [""] * 2)])
    assert dropped(drop_exact_duplicates(run, parent, ExactDuplicates(), {})) == {names[1]: {"twin": names[0]}}

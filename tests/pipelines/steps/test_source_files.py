"""Names of files in the ids of rows: short, and each once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.steps.source_files import file_names

NAME = st.lists(st.sampled_from(["a", "b", "csv", "jsonl", "gz"]), min_size=1, max_size=4).map(".".join)


@given(st.lists(st.tuples(st.sampled_from(["", "x/", "x/y/"]), NAME), unique=True, max_size=12))
def test_no_two_files_of_a_source_have_the_same_name(found: list[tuple[str, str]]) -> None:
    paths = [f"/data/{folder}{name}" for folder, name in found]
    names = file_names(paths)
    assert len({*names}) == len(paths)
    assert all(f"/{path}".endswith(name) or f"/{name}." in path for path, name in zip(paths, names, strict=True))


def test_a_whole_name_that_is_the_stem_of_another_file_is_its_own() -> None:
    assert file_names(["d/a.csv", "d/a.jsonl", "d/a.csv.jsonl"]) == ["a.csv", "a.jsonl", "a.csv.jsonl"]
    assert file_names(["d/a.csv", "d/b.csv"]) == ["a", "b"]

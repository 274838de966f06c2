"""Columns as single arrays."""

from __future__ import annotations

import pyarrow as pa

from dedup.columns import as_array


def test_a_column_of_any_number_of_chunks_becomes_one_array_of_its_values() -> None:
    for chunks in ([], [["a"]], [["a"], ["b", None]], [[], ["c"], []]):
        column = pa.chunked_array(chunks, pa.string())
        array = as_array(column)
        assert isinstance(array, pa.StringArray)
        assert array.to_pylist() == column.to_pylist()


def test_an_array_and_a_single_chunk_are_not_copied() -> None:
    array = pa.array(["a", "b"])
    assert as_array(array) is array
    (address,) = {part.buffers()[2].address for part in (array, as_array(pa.chunked_array([array])))}
    assert address == array.buffers()[2].address

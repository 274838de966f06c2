"""Pairs of instruction and response out of rows read: the RAW rows of adapters, and of files that have no adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.reading import FAULT, read
from pipelines.records import RAW, RULE, TASK

MESSAGES = pa.list_(pa.struct([pa.field(name, pa.string()) for name in ("role", "content", "from", "value")]))
"""A conversation: turns of role and content, or of from and value, as ShareGPT has them."""

_SPEAKERS = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bot"), "assistant"),
    **dict.fromkeys(
        ("tool", "function", "tool_call", "function_call", "tool_response", "observation", "ipython"), "tool"
    ),
}


def raw(rows: pa.Table, instruction: Any, response: Any, condition: Any, variant: str = "") -> pa.Table:
    """RAW rows out of rows read; those that could not be read keep their fault, and what could be read as response.

    rows: as `reading.read` gives them. instruction, response: string columns of as many rows. condition: such a
    column, or the tags of all rows.
    """
    tags = _repeat(condition, rows.num_rows) if isinstance(condition, str) else condition
    faults = rows["fault"]
    answers = (
        response if faults.null_count == rows.num_rows else pc.if_else(pc.is_valid(faults), rows["broken"], response)
    )
    columns = [rows["row"], _repeat(variant, rows.num_rows), tags, instruction, answers, faults]
    return pa.table(columns, schema=RAW)


def exclude(table: pa.Table, *rules: tuple[str, Any]) -> pa.Table:
    """RAW rows with what the source's rules leave out marked, so that it is dropped under the rule's name.

    rules: (name, boolean column); the first that holds counts, null does not hold. A row with a fault keeps it.
    """
    fault = table["fault"]
    for name, holds in rules:
        fault = pc.if_else(pc.and_(pc.is_null(fault), pc.fill_null(holds, False)), f"{RULE}{name}", fault)
    return table.set_column(table.schema.get_field_index("fault"), RAW.field("fault"), fault)


def with_task(table: pa.Table, task: Any) -> pa.Table:
    """RAW rows with their TASK: a string column, or the name of all rows' task."""
    return table.append_column(TASK, _repeat(task, table.num_rows) if isinstance(task, str) else task)


def file_name(task: Any) -> Any:
    """Task names (a string column) as HRM-Text names its files: all but letters, digits and `_-. ` become `_`."""
    return pc.replace_substring_regex(task, r"[^A-Za-z0-9_\-. ]", "_")


def is_proof(question: Any) -> Any:
    """HRM-Text's rough rule for questions whose answer is a proof: they say `prove` or `show that`."""
    lower = pc.utf8_lower(question)
    return pc.or_(pc.match_substring(lower, "prove"), pc.match_substring(lower, "show that"))


_LETTERS = pa.array([chr(65 + n) for n in range(26)], pa.string())


def letter(index: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers from 0, spelt (a string column), as letters from A; null where it is no number from 0 to 25."""
    known = pa.array([str(n) for n in range(26)], pa.string())
    return pa.chunked_array([_LETTERS.take(pc.index_in(index.combine_chunks(), known))])


def lettered(choices: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of choices (list<string>) as lines `A: first`, `B: second` ..., trimmed; null for a list that is null."""
    lists = choices.combine_chunks()
    parents = np.asarray(pc.list_parent_indices(lists).to_numpy(), np.int64)
    texts = pc.fill_null(pc.utf8_trim_whitespace(pc.list_flatten(lists)), "")
    starts = np.searchsorted(parents, parents)
    letters = _LETTERS.take(pa.array(np.minimum(np.arange(len(parents)) - starts, 25)))
    lines = pc.binary_join_element_wise(letters, texts, ": ")
    ends = np.searchsorted(parents, np.arange(len(lists) + 1))
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(ends, pa.int32()), lines), "\n")
    return pa.chunked_array([pc.if_else(lists.is_valid(), joined, None)])


def interleave(tables: Sequence[pa.Table]) -> pa.Table:
    """Several records of each row, in row order; a row that could not be read comes once, from the first."""
    first, *others = tables
    read_well = [pc.starts_with(pc.fill_null(table["fault"], RULE), RULE) for table in others]
    together = pa.concat_tables([first, *(table.filter(well) for table, well in zip(others, read_well, strict=True))])
    return together.take(pa.array(np.argsort(together["row"].to_numpy(), kind="stable")))


def _repeat(value: str, rows: int) -> pa.Array:
    return pa.array([value], pa.string()).take(pa.array(np.zeros(rows, np.int32)))


def join_input(instruction: Any, given: Any) -> Any:
    """The Alpaca layout's two columns as one instruction: an input that is there follows after an empty line."""
    empty = pc.equal(pc.fill_null(given, ""), "")
    return pc.if_else(empty, instruction, pc.binary_join_element_wise(instruction, given, "\n\n"))


def read_pairs(path: str, columns: dict[str, str], condition: str | None) -> Iterator[pa.Table]:
    """RAW rows of a file without adapter.

    columns: RAW column -> the file's column, of `instruction`, `response` and `condition`; or `messages` -> the column
    of a conversation (see `exchange`); or `text` -> a column of text that is no pair: an instruction without response,
    which can be checked but not trained on. `thinking` -> the column, or the field of a turn, that holds a model's
    reasoning apart from its answer (`reasoning_content`): it is put before the response as a block that the stages
    `thinking` and `strip_thinking` know, so that it is counted, kept or dropped as all thinking is. condition: the tags
    of every row, where no column holds them. Errors: as `read`.
    """
    tags = columns.get("condition")
    extra = [] if tags is None or condition is not None else [pa.field(tags, pa.string())]
    thinking = columns.get("thinking")
    if "messages" in columns:
        name = columns["messages"]
        turns = MESSAGES if thinking is None else _with_field(thinking)
        for rows in read(path, pa.schema([pa.field(name, turns), *extra])):
            asked, answered, faults = exchange(rows[name], thinking)
            merged = pc.coalesce(rows["fault"], faults)
            rows = rows.set_column(rows.schema.get_field_index("fault"), FAULT, merged)
            yield raw(rows, asked, answered, _tags(rows, tags, condition))
        return
    if "text" in columns:
        for rows in read(path, pa.schema([pa.field(columns["text"], pa.string()), *extra])):
            empty = _repeat("", rows.num_rows)
            yield raw(rows, rows[columns["text"]], empty, _tags(rows, tags, condition))
        return
    read_columns = [columns["instruction"], columns["response"], *([thinking] if thinking else [])]
    wanted = [pa.field(name, pa.string()) for name in dict.fromkeys(read_columns)]
    for rows in read(path, pa.schema([*wanted, *(field for field in extra if field not in wanted)])):
        answers = rows[columns["response"]]
        if thinking is not None:
            answers = think_first(rows[thinking], answers)
        yield raw(rows, rows[columns["instruction"]], answers, _tags(rows, tags, condition))


def think_first(thinking: Any, response: Any) -> Any:
    """Responses with the reasoning that a column of its own holds before them, in the tags of the family `column`.

    Both string [rows]. A response whose reasoning is null or blank is left as it is; a null response stays null.
    """
    # The block ends at the first tag that closes it, so there must be none in the reasoning itself.
    inner = pc.replace_substring_regex(pc.fill_null(thinking, ""), r"(?i)</?reasoning_content\b[^<>]{0,200}>", "")
    block = pc.binary_join_element_wise("<reasoning_content>", inner, "</reasoning_content>", "\n")
    blank = pc.equal(pc.utf8_trim_whitespace(inner), "")
    return pc.if_else(blank, response, pc.binary_join_element_wise(block, response, "\n\n"))


def _with_field(name: str) -> pa.DataType:
    """MESSAGES whose turns have one field more."""
    turn = MESSAGES.value_type
    return pa.list_(pa.struct([*turn, pa.field(name, pa.string())])) if turn.get_field_index(name) < 0 else MESSAGES


def _tags(rows: pa.Table, column: str | None, condition: str | None) -> str | pa.ChunkedArray:
    if condition is not None:
        return condition
    assert column is not None, "the recipe's check lets no source without a condition through"
    return rows[column]


def exchange(messages: pa.ChunkedArray, thinking: str | None = None) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The first exchange of each conversation (MESSAGES): instruction, response, and why there is none.

    The instruction is the turns before the first answer, system turns and user turns alike, joined by an empty line;
    the response is the first answer. Later rounds are left out, as HRM-Text does: their questions lean on what was
    said before. thinking: the field of a turn that holds reasoning, which goes before the answer (`think_first`).
    Faults: `no_messages`; `unknown_role` or `tool_turns` where someone else speaks before the first answer, or a tool
    right after it (then it was no answer, but a call); `no_user_turn`; `no_assistant_turn`.
    """
    together = messages.combine_chunks()
    parents = pc.list_parent_indices(together)
    turns = pc.list_flatten(together)
    role, content, sender, value = (pc.struct_field(turns, index) for index in range(4))
    text = pc.coalesce(content, value)
    if thinking is not None:
        text = pc.if_else(pc.is_null(text), text, think_first(pc.struct_field(turns, thinking), text))
    said = pl.DataFrame(
        {
            "row": pl.Series(parents, dtype=pl.Int64),
            "role": pl.Series(pc.coalesce(role, sender), dtype=pl.String),
            "text": pl.Series(text, dtype=pl.String),
        }
    )
    who = pl.col("role").str.to_lowercase().replace_strict(_SPEAKERS, default="other", return_dtype=pl.String)
    said = said.with_columns(who=who.fill_null("other"))
    said = said.with_columns(
        answers=(pl.col("who") == "assistant").cast(pl.Int32).cum_sum().over("row"),
        after=pl.col("who").shift(-1).over("row"),
    )
    before = pl.col("answers") == 0
    first = (pl.col("answers") == 1) & (pl.col("who") == "assistant")
    spoken = before & pl.col("who").is_in(["system", "user"]) & (pl.col("text") != "")
    found = said.group_by("row", maintain_order=True).agg(
        instruction=pl.col("text").filter(spoken).str.join("\n\n"),
        response=pl.col("text").filter(first).first(),
        users=(before & (pl.col("who") == "user")).any(),
        answered=first.any(),
        tools=((before & (pl.col("who") == "tool")) | (first & (pl.col("after") == "tool"))).any(),
        others=(before & (pl.col("who") == "other")).any(),
    )
    every = pl.DataFrame({"row": pl.Series(np.arange(len(together)), dtype=pl.Int64)})
    rows = every.join(found, on="row", how="left", maintain_order="left")
    fault = (
        pl.when(pl.col("users").is_null()).then(pl.lit("no_messages"))
        .when("others").then(pl.lit("unknown_role"))
        .when("tools").then(pl.lit("tool_turns"))
        .when(~pl.col("users")).then(pl.lit("no_user_turn"))
        .when(~pl.col("answered")).then(pl.lit("no_assistant_turn"))
    )  # fmt: skip
    rows = rows.with_columns(fault=fault)
    asked, answered, faults = (rows[name].to_arrow().cast(pa.string()) for name in ("instruction", "response", "fault"))
    return asked, answered, faults

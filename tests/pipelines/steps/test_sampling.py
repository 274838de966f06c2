"""The draw: upstream's rows in upstream's order, checked against a plain walk through its published procedure."""

from __future__ import annotations

import tracemalloc
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.recipe import Group, Sampling
from pipelines.steps.sampling import coverage, draw, measure, pool, rule_of
from pipelines.steps.token_rows import lengths_of


class Row(NamedTuple):
    """A tokenised row: its id, and how many tokens it has."""

    id: str
    instruction: int
    response: int


def shard(rows: list[Row]) -> pa.Table:
    """What is known of a token shard with rows of these lengths."""
    lists = [pa.array([[7] * row[place] for row in rows], pa.list_(pa.uint16())) for place in (1, 2)]
    tokens = pa.table([pa.array([row.id for row in rows], pa.string()), *lists], ["id", "instruction", "response"])
    return lengths_of(tokens, ())


def ours(shards: list[list[Row]], sampling: Sampling, seed: int) -> list[list[tuple[str, int, int]]]:
    """Per epoch (id, instruction tokens, response tokens), as the sampler draws them."""
    ids = [row.id for rows in shards for row in rows]
    rows = pool([measure(shard(rows)) for rows in shards], sampling)
    return [
        [(ids[rows.row[place]], int(rows.instruction[place]), int(rows.response[place])) for place in drawn.tolist()]
        for drawn in draw(rows.counts, rows.rules, seed, sampling.epochs)
    ]


def naive(files: dict[str, list[Row]], sampling: Sampling, seed: int) -> list[list[tuple[str, int, int]]]:
    """The procedure as section by section described upstream, one list at a time; folders by their upstream names."""
    generator = np.random.Generator(np.random.Philox(seed))
    state = []
    for folder in sorted(files):
        rule = Group(prefix="")
        for group in sampling.groups:
            if folder.startswith(group.prefix):
                rule = group
                break
        kept = []
        for row in files[folder]:
            if row.response < 2:
                continue
            room = sampling.context - min(row.instruction, sampling.context)
            if rule.long_context == "drop" and row.response > room:
                continue
            if room < 2:  # upstream: room < 1, and trains on a response of one token
                continue
            kept.append((row.id, row.instruction, min(row.response, room)))
        state.append({"rule": rule, "kept": kept, "order": None, "cursor": 0})
    epochs = []
    for _ in range(sampling.epochs):
        epoch = []
        for file in state:
            rows = len(file["kept"])
            rule = file["rule"]
            want = (min(rule.max_per_file, rows) if rule.max_per_file is not None else rows) * rule.repeat
            taken = 0
            while taken < want:
                if file["order"] is None or file["cursor"] >= rows:
                    file["order"] = generator.permutation(rows)
                    file["cursor"] = 0
                epoch.append(file["kept"][file["order"][file["cursor"]]])
                file["cursor"] += 1
                taken += 1
        epochs.append([epoch[place] for place in generator.permutation(len(epoch))])
    return epochs


LENGTHS = st.tuples(st.integers(1, 40), st.integers(1, 40))
FILES = st.dictionaries(
    st.sampled_from(["flan/cot_a", "flan/niv2", "flan2/x", "gsm8k/train", "a_b/c", "a/b", "a/deep/0012", "A/z"]),
    st.lists(LENGTHS, max_size=25),
    min_size=1,
)
GROUPS = st.lists(
    st.builds(
        Group,
        prefix=st.sampled_from(["flan", "flan__cot", "gsm8k", "a", "a__", "zzz"]),
        max_per_file=st.none() | st.integers(1, 12),
        repeat=st.integers(1, 4),
        long_context=st.sampled_from(["truncate", "drop"]),
    ),
    max_size=4,
).map(tuple)


@settings(max_examples=200, deadline=None)
@given(FILES, GROUPS, st.integers(16, 60), st.integers(1, 4), st.integers(0, 2**31), st.data())
def test_the_draw_is_upstreams_row_for_row(files, groups, context, epochs, seed, data) -> None:
    rows = {
        name: [Row(f"{name}/{place}", *lengths) for place, lengths in enumerate(found)] for name, found in files.items()
    }
    # The rows of a file need not lie together, nor a file in one shard; only their order within the file counts.
    ahead, mixed = {name: iter(found) for name, found in rows.items()}, []
    turns = data.draw(st.permutations([name for name, found in rows.items() for _ in found]))
    mixed = [next(ahead[name]) for name in turns]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(mixed)), max_size=3)))
    shards = [mixed[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(mixed)], strict=True)]

    sampling = Sampling(epochs=epochs, context=context, groups=groups)
    upstream = {name.replace("/", "__"): found for name, found in rows.items()}
    assert ours(shards, sampling, seed) == naive(upstream, sampling, seed)


def test_epochs_go_on_where_the_last_stopped() -> None:
    drawn = [set(epoch.tolist()) for epoch in draw([10], [Group(prefix="", max_per_file=5)], 3, 4)]
    assert drawn[0] | drawn[1] == set(range(10)) == drawn[2] | drawn[3]
    assert not drawn[0] & drawn[1] and not drawn[2] & drawn[3]


def test_repeat_overdraws_a_small_corpus() -> None:
    (epoch,) = draw([3], [Group(prefix="", repeat=10)], 0, 1)
    assert np.bincount(epoch).tolist() == [10, 10, 10]


def test_seeds_matter_and_nothing_else_does() -> None:
    rules = [Group(prefix="", max_per_file=40), Group(prefix="")]
    first, again, other = ([epoch.tolist() for epoch in draw([100, 50], rules, seed, 3)] for seed in (0, 0, 1))
    assert first == again != other
    assert first[:2] == [epoch.tolist() for epoch in draw([100, 50], rules, 0, 2)], "fewer epochs are the first of more"


def test_a_response_is_never_cut_to_one_token() -> None:
    rows = [
        Row("s/f/0", 15, 9),
        Row("s/f/1", 14, 9),
        Row("s/f/2", 16, 9),
        Row("s/f/3", 40, 9),
        Row("s/f/4", 3, 1),
        Row("s/f/5", 3, 13),
    ]
    made = pool([measure(shard(rows))], Sampling(context=16))
    assert made.row.tolist() == [1, 5] and made.response.tolist() == [2, 13]
    assert made.unused == {"instruction_fills_context": 3, "response_too_short": 1} and made.truncated == 1
    dropping = pool([measure(shard(rows))], Sampling(context=16, groups=(Group(prefix="s", long_context="drop"),)))
    assert dropping.row.tolist() == [5]
    assert dropping.unused == {"instruction_fills_context": 3, "longer_than_context": 1, "response_too_short": 1}


def test_every_row_is_usable_or_has_a_reason() -> None:
    rng = np.random.default_rng(0)
    rows = [Row(f"s/f/{place}", *rng.integers(1, 60, 2).tolist()) for place in range(500)]
    made = pool([measure(shard(rows[:200])), measure(shard([])), measure(shard(rows[200:]))], Sampling(context=50))
    assert sum(made.counts) + sum(made.unused.values()) == 500
    assert (made.instruction.astype(int) + made.response <= 50).all() and made.response.min() >= 2


@pytest.mark.parametrize(
    ("identity", "file"),
    [
        ("s/f/0", "s/f"),
        ("s/f/12/direct", "s/f"),
        ("s/f/12/3", "s/f"),
        ("s/deep/er/f/5", "s/deep/er/f"),
        ("s/en/0007/5", "s/en/0007"),
        ("s/en/0007/5/1", "s/en/0007"),
        ("s/2019/5", "s/2019"),
        ("s/made.jsonl/0/x y", "s/made.jsonl"),
    ],
)
def test_ids_name_their_file(identity: str, file: str) -> None:
    column = measure(shard([Row(identity, 1, 2)]))["file"].combine_chunks()
    assert column.values.to_pylist() == [file]


def test_the_first_group_that_matches_wins() -> None:
    groups = (Group(prefix="flan/cot_"), Group(prefix="flan", max_per_file=5), Group(prefix="flan__niv2", repeat=3))
    rules = [rule_of(name, groups) for name in ("flan/cot_gsm8k", "flan/niv2", "flan__cot_a/x", "gsm8k/train")]
    assert rules == [groups[0], groups[1], groups[0], Group(prefix="")]


def test_coverage_adds_up() -> None:
    files = {"flan/a": 30, "flan/b": 10, "gsm8k/train": 7}
    rows = [Row(f"{name}/{place}", 5, place + 2) for name, count in files.items() for place in range(count)]
    sampling = Sampling(epochs=3, context=64, groups=(Group(prefix="flan", max_per_file=4),))
    made = pool([measure(shard(rows))], sampling)
    draws = np.zeros(len(made.row), np.uint32)
    for epoch in draw(made.counts, made.rules, 0, 3):
        np.add.at(draws, epoch, 1)
    counts = coverage(made, draws)
    assert {key: counts[f"coverage/flan/{key}"] for key in ("files", "rows", "drawn_rows", "unique_rows")} == {
        "files": 2,
        "rows": 40,
        "drawn_rows": 24,
        "unique_rows": 12 + 10,
    }
    assert counts["coverage/gsm8k/drawn_rows"] == 21 and counts["coverage/gsm8k/unique_rows"] == 7
    for source in ("flan", "gsm8k"):
        parts = [counts[f"coverage/{source}/drawn_{part}_tokens"] for part in ("instruction", "response")]
        assert counts[f"coverage/{source}/drawn_tokens"] == sum(parts)
        assert parts[0] == 5 * counts[f"coverage/{source}/drawn_rows"]
    assert (
        counts["coverage/gsm8k/unique_tokens"]
        == counts["coverage/gsm8k/tokens"]
        == sum(5 + place + 2 for place in range(7))
    )
    assert counts["coverage/gsm8k/drawn_tokens"] == 3 * counts["coverage/gsm8k/tokens"]


def test_a_capped_file_costs_no_memory_for_rows_it_will_not_give() -> None:
    rows = 2_000_000
    tracemalloc.start()
    epochs = draw([rows, 5], [Group(prefix="", max_per_file=1000), Group(prefix="")], 0, 4)
    next(epochs)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < rows / 10, "after the first epoch 3,000 rows ahead are remembered, not two million"
    assert peak < 4 * 4 * rows

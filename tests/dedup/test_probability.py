"""The S-curve, the published presets and the choice of bands."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.json as pj
import pytest

from dedup.minhash import band_keys, signatures
from dedup.probability import (
    PRESETS,
    Banding,
    approximate_threshold,
    choose_banding,
    curve,
    explain,
    false_positive_area,
    half_recall,
    recall,
    strictness,
)
from dedup.shingles import Shingles, shingle_hashes
from dedup.similarity import Sets, shingle_sets


def test_presets_have_their_published_numbers() -> None:
    table = {name: [round(recall(s, p.bands, p.rows), 3) for s in (0.7, 0.8, 0.9)] for name, p in PRESETS.items()}
    assert table == {"fineweb": [0.565, 0.924, 1.0], "dolma3": [0.405, 0.903, 1.0], "curator": [0.177, 0.677, 0.997]}
    assert {name: round(approximate_threshold(p.bands, p.rows), 3) for name, p in PRESETS.items()} == {
        "fineweb": 0.719,
        "dolma3": 0.744,
        "curator": 0.794,
    }
    assert {name: p.num_perm for name, p in PRESETS.items()} == {"fineweb": 112, "dolma3": 286, "curator": 260}


def test_more_bands_find_more_and_more_rows_find_fewer() -> None:
    for s in (0.5, 0.8, 0.95):
        assert recall(s, 20, 8) > recall(s, 14, 8) > recall(s, 14, 9)


def test_rows_of_a_given_similarity_share_a_band_as_often_as_the_curve_says() -> None:
    rng = np.random.default_rng(0)
    pairs = 20_000
    one = rng.integers(0, 2**32, (pairs, 112), dtype=np.uint32)
    for s in (0.6, 0.7, 0.8):
        other = np.where(rng.random((pairs, 112)) < s, one, rng.integers(0, 2**32, (pairs, 112), dtype=np.uint32))
        met = (band_keys(one, 14, 8) == band_keys(other, 14, 8)).any(axis=1).mean()
        assert met == pytest.approx(recall(s, 14, 8), abs=0.015)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_the_chosen_bands_reach_the_target_with_the_fewest_false_positives(threshold: float) -> None:
    chosen = choose_banding(threshold)
    assert chosen.num_perm <= 128
    assert recall(threshold, chosen.bands, chosen.rows) >= 0.95
    for rows in range(1, 129):
        if recall(threshold, 128 // rows, rows) >= 0.95:
            assert false_positive_area(threshold, 128 // rows, rows) >= false_positive_area(
                threshold, chosen.bands, chosen.rows
            )


def test_an_unreachable_target_gets_the_best_recall_and_invalid_values_are_refused() -> None:
    assert choose_banding(0.05, 4) == Banding(4, 1, 5)
    with pytest.raises(ValueError, match="above 0"):
        choose_banding(0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        recall(1.5, 2, 2)


def test_half_of_the_pairs_are_found_at_half_recall() -> None:
    for preset in PRESETS.values():
        assert recall(half_recall(preset.bands, preset.rows), preset.bands, preset.rows) == pytest.approx(0.5)


def test_the_explanation_has_how_many_are_found_and_how_many_are_missed() -> None:
    lines = explain(PRESETS["fineweb"], {"instruction": 0.8, "response": 0.9})
    (at,) = (line for line in lines if "Jaccard 0.80 " in line)
    assert re.sub("[█░ ]+", " ", at) == " of pairs with Jaccard 0.80 92.4 % are found and removed, 7.6 % missed"
    (below,) = (line for line in lines if "Jaccard 0.70 " in line)
    assert re.sub("[█░ ]+", " ", below) == " of pairs with Jaccard 0.70 56.5 % are found, both rows stay"
    assert any("at the threshold, Jaccard 0.78," in line for line in explain(PRESETS["fineweb"], {"instruction": 0.78}))
    for point in curve(PRESETS["fineweb"]):
        assert point["found"] + point["missed"] == pytest.approx(1)


def test_the_explanation_orders_presets_by_strictness() -> None:
    """A stricter banding finds fewer pairs at every similarity, whatever its number of bands."""
    names = [name for name, _ in strictness(PRESETS["dolma3"])]
    assert names == ["fineweb", "this recipe (dolma3)", "curator"]
    for loose, strict in itertools.pairwise(PRESETS[name] for name in ("fineweb", "dolma3", "curator")):
        assert recall(0.75, loose.bands, loose.rows) > recall(0.75, strict.bands, strict.rows)
    assert (
        "fineweb 0.68, this recipe (dolma3) 0.72, curator 0.77; the further right, the stricter: it finds fewer"
        in (explain(PRESETS["dolma3"], {"instruction": 0.8})[-1])
    )
    assert ("this recipe", pytest.approx(half_recall(16, 8))) in strictness(Banding(16, 8, 5))


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Sets:
    table = pj.read_json(shared_data / "sources/t0_p3_50k.jsonl.gz")
    table = table.take(np.random.default_rng(0).choice(len(table), 20_000, replace=False))
    columns = [table[name].combine_chunks() for name in ("prompt", "completion")]
    return shingle_sets(shingle_hashes(pc.binary_join_element_wise(*columns, "\n"), 5))


def test_recall_on_20000_real_rows_is_within_a_hundredth_of_the_curve(real: Sets) -> None:
    """Against all pairs at or above 0.7, by brute force.

    Pairs of one template are found or missed together with one seed. The curve is an expectation over seeds, so it is
    compared with the mean of eight.
    """
    pairs, values = every_pair(real, 0.7)
    assert len(pairs) > 50_000
    recalled = np.zeros(len(pairs))
    for seed in range(1, 9):
        keys = band_keys(signatures(Shingles(real.hash, real.offsets), 112, seed).values, 14, 8)
        recovered = (keys[pairs[:, 0]] == keys[pairs[:, 1]]).any(axis=1)
        assert recovered[values == 1.0].all()
        recalled += recovered / 8
    expected = np.array([recall(value, 14, 8) for value in values.tolist()])
    assert recalled.mean() == pytest.approx(expected.mean(), abs=0.01)
    for low, high in ((0.7, 0.75), (0.75, 0.8), (0.8, 0.9), (0.9, 1.01)):
        within = (values >= low) & (values < high)
        assert recalled[within].mean() == pytest.approx(expected[within].mean(), abs=0.03)


def every_pair(sets: Sets, threshold: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """All pairs at or above the threshold, by counting shared shingles: without bands, filters or early stops."""
    sizes = np.diff(sets.offsets)
    order = np.argsort(sets.hash, kind="stable")
    hashes, owners = sets.hash[order], np.repeat(np.arange(len(sizes)), sizes)[order]
    starts, ends = np.searchsorted(hashes, sets.hash, "left"), np.searchsorted(hashes, sets.hash, "right")
    pairs, values = [], []
    for row in range(len(sizes)):
        span = slice(sets.offsets[row], sets.offsets[row + 1])
        several = ends[span] - starts[span] > 1
        start, count = starts[span][several], (ends[span] - starts[span])[several]
        inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        shared = np.bincount(owners[np.repeat(start, count) + inside], minlength=len(sizes))
        value = shared / np.maximum(sizes[row] + sizes - shared, 1)
        others = np.flatnonzero(value >= threshold)
        others = others[others > row]
        pairs.append(np.stack([np.full(len(others), row), others], axis=1))
        values.append(value[others])
    return np.concatenate(pairs), np.concatenate(values)

"""The S-curve, the published presets and the choice of bands."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from dedup.minhash import band_keys
from dedup.probability import PRESETS, Banding, chance, choose, curve, explain, half, midpoint, recall, strictness


def test_presets_have_their_published_numbers() -> None:
    table = {name: [round(recall(s, p.bands, p.rows), 3) for s in (0.7, 0.8, 0.9)] for name, p in PRESETS.items()}
    assert table == {"fineweb": [0.565, 0.924, 1.0], "dolma3": [0.405, 0.903, 1.0], "curator": [0.177, 0.677, 0.997]}
    assert {name: round(midpoint(p.bands, p.rows), 3) for name, p in PRESETS.items()} == {
        "fineweb": 0.719,
        "dolma3": 0.744,
        "curator": 0.794,
    }
    assert {name: p.num_perm for name, p in PRESETS.items()} == {"fineweb": 112, "dolma3": 286, "curator": 260}


def test_more_bands_find_more_and_more_rows_find_fewer() -> None:
    for s in (0.5, 0.8, 0.95):
        assert recall(s, 20, 8) > recall(s, 14, 8) > recall(s, 14, 9)


def test_rows_of_given_similarity_meet_as_often_as_the_curve_says() -> None:
    rng = np.random.default_rng(0)
    pairs = 20_000
    one = rng.integers(0, 2**32, (pairs, 112), dtype=np.uint32)
    for s in (0.6, 0.7, 0.8):
        other = np.where(rng.random((pairs, 112)) < s, one, rng.integers(0, 2**32, (pairs, 112), dtype=np.uint32))
        met = (band_keys(one, 14, 8) == band_keys(other, 14, 8)).any(axis=1).mean()
        assert met == pytest.approx(recall(s, 14, 8), abs=0.015)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_the_chosen_bands_reach_the_target_with_the_least_chance(threshold: float) -> None:
    found = choose(threshold)
    assert found.num_perm <= 128
    assert recall(threshold, found.bands, found.rows) >= 0.95
    for rows in range(1, 129):
        if recall(threshold, 128 // rows, rows) >= 0.95:
            assert chance(threshold, 128 // rows, rows) >= chance(threshold, found.bands, found.rows)


def test_impossible_wishes_are_refused_or_met_as_well_as_can_be() -> None:
    assert choose(0.05, 4) == Banding(4, 1, 5)
    with pytest.raises(ValueError, match="above 0"):
        choose(0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        recall(1.5, 2, 2)


def test_half_of_the_pairs_are_found_where_half_says() -> None:
    for preset in PRESETS.values():
        assert recall(half(preset.bands, preset.rows), preset.bands, preset.rows) == pytest.approx(0.5)


def test_the_words_say_how_many_are_found_and_how_many_are_missed() -> None:
    lines = explain(PRESETS["fineweb"], 0.8)
    (at,) = (line for line in lines if "Jaccard 0.80 " in line)
    assert re.sub("[█░ ]+", " ", at) == " of pairs with Jaccard 0.80 92.4 % are found and removed, 7.6 % missed"
    (below,) = (line for line in lines if "Jaccard 0.70 " in line)
    assert re.sub("[█░ ]+", " ", below) == " of pairs with Jaccard 0.70 56.5 % are found, both rows stay"
    assert any("at the threshold, Jaccard 0.78," in line for line in explain(PRESETS["fineweb"], 0.78))
    for point in curve(PRESETS["fineweb"]):
        assert point["found"] + point["missed"] == pytest.approx(1)


def test_the_words_say_which_preset_is_stricter() -> None:
    """Stricter is what finds fewer pairs at every similarity, whatever its bands look like."""
    names = [name for name, _ in strictness(PRESETS["dolma3"])]
    assert names == ["fineweb", "this recipe (dolma3)", "curator"]
    for loose, strict in itertools.pairwise(PRESETS[name] for name in ("fineweb", "dolma3", "curator")):
        assert recall(0.75, loose.bands, loose.rows) > recall(0.75, strict.bands, strict.rows)
    assert (
        "fineweb 0.68, this recipe (dolma3) 0.72, curator 0.77; the further right, the stricter: it finds fewer"
        in (explain(PRESETS["dolma3"], 0.8)[-1])
    )
    assert ("this recipe", pytest.approx(half(16, 8))) in strictness(Banding(16, 8, 5))

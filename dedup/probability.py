"""How many duplicates banding finds: the S-curve, bands for a threshold, and the published presets.

With signatures of `bands * rows` permutations, two rows of Jaccard s share at least one band with a probability of
1 - (1 - s**rows)**bands (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4). More bands find more
pairs, more rows per band find fewer: **more bands is looser, more rows is stricter**. (The documentation of two other
tools has it the other way round.) Candidates are verified afterwards, so banding affects only which pairs are missed
and what the search costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dedup.shingles import Unit
from dedup.similarity import ROUNDING

PERCENT_PER_BAR_CELL = 5
"""Resolution of the bars that `explain` draws: 20 cells."""


class Banding(NamedTuple):
    """How rows are shingled and banded: `bands` bands of `rows` permutations each, over n-grams of `ngram` units."""

    bands: int
    rows: int
    ngram: int
    unit: Unit = "word"

    @property
    def num_perm(self) -> int:
        """The number of permutations: the length of a signature in uint32 values."""
        return self.bands * self.rows


PRESETS = {
    "fineweb": Banding(14, 8, 5),  # datatrove, examples/fineweb.py: 112 hashes of word 5-grams
    "dolma3": Banding(26, 11, 5),  # duplodocus, the Dolma 3 configuration
    "curator": Banding(20, 13, 24, "character"),  # NeMo Curator's defaults: 260 hashes of 24-character n-grams
}


def recall(similarity: float, bands: int, rows: int) -> float:
    """The probability that two rows of Jaccard `similarity` share at least one band.

    Raises:
        ValueError: if `similarity` is not in [0, 1].
    """
    if not 0 <= similarity <= 1:
        raise ValueError(f"a Jaccard similarity must be between 0 and 1, not {similarity}")
    return 1.0 - float(1.0 - similarity**rows) ** bands


def approximate_threshold(bands: int, rows: int) -> float:
    """The Jaccard near which the S-curve is steepest: (1 / bands) ** (1 / rows)."""
    return float((1.0 / bands) ** (1.0 / rows))


def choose_banding(
    threshold: float, num_perm: int = 128, target: float = 0.95, ngram: int = 5, unit: Unit = "word"
) -> Banding:
    """The strictest banding of at most `num_perm` permutations that finds a pair at `threshold` with probability
    `target`. If none does, the one with the highest recall.

    The strictest banding has the fewest false positives below the threshold, and so the fewest pairs to verify. Recall
    comes first because a pair that is missed here cannot be found later.

    Raises:
        ValueError: if `threshold` is not in (0, 1] or `num_perm` is below 1.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold must be above 0 and at most 1, not {threshold}")
    if num_perm < 1:
        raise ValueError(f"a signature needs at least one permutation, not {num_perm}")
    shapes = [(num_perm // rows, rows) for rows in range(1, num_perm + 1)]
    reaching = [shape for shape in shapes if recall(threshold, *shape) >= target]
    if not reaching:
        bands, rows = max(shapes, key=lambda shape: recall(threshold, *shape))
    else:
        bands, rows = min(reaching, key=lambda shape: (false_positive_area(threshold, *shape), shape[1]))
    return Banding(bands, rows, ngram, unit)


def false_positive_area(threshold: float, bands: int, rows: int, steps: int = 200) -> float:
    """The area under the S-curve from 0 to `threshold`, by the midpoint rule.

    Proportional to the false positives if all similarities below the threshold were equally frequent.
    """
    width = threshold / steps
    return width * sum(recall((i + 0.5) * width, bands, rows) for i in range(steps))


def half_recall(bands: int, rows: int) -> float:
    """The Jaccard at which half of the pairs are found. The higher, the stricter the banding."""
    return float((1.0 - 0.5 ** (1.0 / bands)) ** (1.0 / rows))


def curve(banding: Banding) -> list[dict[str, float]]:
    """The S-curve from 0.5 to 0.95 in steps of 0.05: `jaccard`, and the shares of such pairs `found` and `missed`."""
    points = [percent / 100 for percent in range(50, 100, 5)]
    shares = [recall(point, banding.bands, banding.rows) for point in points]
    return [
        {"jaccard": point, "found": round(share, 6), "missed": round(1 - share, 6)}
        for point, share in zip(points, shares, strict=True)
    ]


def strictness(banding: Banding) -> list[tuple[str, float]]:
    """The presets and this banding, each with its `half_recall`, the loosest first."""
    named = {name: half_recall(preset.bands, preset.rows) for name, preset in PRESETS.items() if preset != banding}
    own = next((f"this recipe ({name})" for name, preset in PRESETS.items() if preset == banding), "this recipe")
    return sorted([*named.items(), (own, half_recall(banding.bands, banding.rows))], key=lambda pair: pair[1])


def explain(banding: Banding, thresholds: Mapping[str, float]) -> list[str]:
    """Sentences for `winnow plan`: which share of the duplicates is found, and what happens to the others.

    thresholds: field -> its least Jaccard.

    Each line has both the share found and the share missed, since a bare probability is easily read the wrong way
    round.
    """
    unit = "tokens" if banding.unit == "word" else "characters"
    threshold = min(thresholds.values())
    least = " and ".join(f"{value:g} of the {field}" for field, value in thresholds.items())
    lines = [
        f"near-duplicates: fields are compared by n-grams of {banding.ngram} {unit}; shorter fields must have the same "
        "words. Numbers and operators must be equal, and the questions and the last sentence of the instruction.",
        f"{banding.bands} bands of {banding.rows} values ({banding.num_perm} in all): two rows are compared if all "
        "values of at least one band are equal.",
        f"Of two rows with a Jaccard of at least {least}, one is removed if they are found. Pairs below that are never "
        "removed.",
    ]
    for point in curve(banding):
        found, missed = 100 * point["found"], 100 * point["missed"]
        filled = round(found / PERCENT_PER_BAR_CELL)
        bar = "█" * filled + "░" * (100 // PERCENT_PER_BAR_CELL - filled)
        at_threshold = point["jaccard"] >= threshold - ROUNDING
        outcome = f" and removed, {missed:.1f} % missed" if at_threshold else ", both rows stay"
        lines.append(f"  of pairs with Jaccard {point['jaccard']:.2f}  {bar} {found:5.1f} % are found{outcome}")
    # The threshold has a line of its own unless it is one of the points above.
    if round(threshold * 20, 6) % 1:
        found = 100 * recall(threshold, banding.bands, banding.rows)
        lines.append(
            f"  of pairs at the threshold, Jaccard {threshold:g}, {found:.1f} % are found and removed, "
            f"{100 - found:.1f} % missed"
        )
    order = ", ".join(f"{name} {at:.2f}" for name, at in strictness(banding))
    lines.append(
        f"Half of the pairs are found at a Jaccard of: {order}; the further right, the stricter: it finds fewer."
    )
    return lines

"""What does a comparison look like? A line per benchmark: the difference with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.ledger import storage
from training.evaluation.compare import Comparison
from training.evaluation.statistics import ALPHA

ROW_INCHES = 0.42


def write_picture(comparisons: Sequence[Comparison], path: str) -> str:
    """Write the picture to `path` (PNG), and return the path."""
    # Imported here because it takes half a second to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    several = len({comparison.names[1] for comparison in comparisons}) > 1
    figure = Figure(figsize=(8, 1.6 + ROW_INCHES * len(comparisons)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    labels = []
    for row, comparison in enumerate(comparisons):
        difference = comparison.all.difference
        interval = difference.best_interval
        colour = (
            "tab:grey"
            if comparison.adjusted_p_value >= ALPHA
            else "tab:green"
            if difference.difference > 0
            else "tab:red"
        )
        axes.plot(
            [100 * interval.low, 100 * interval.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt"
        )
        axes.plot([100 * difference.difference], [row], "o", color=colour)
        axes.annotate(
            f"{difference.worsened} lost, {difference.improved} gained of {difference.n:,}",
            (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="dimgrey",
        )  # fmt: skip
        labels.append(comparison.benchmark + (f"\n{short(comparison.names[1])}" if several else ""))
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(comparisons)), labels)
    axes.set_ylim(len(comparisons) - 0.5, -0.5)
    axes.set_xlabel("difference in points, with 95 % interval; grey: within chance (Holm, 5 %)")
    first, others = comparisons[0].names[0], list(dict.fromkeys(short(one.names[1]) for one in comparisons))
    title = others[0] if len(others) == 1 else f"{len(others)} models"
    axes.set_title(f"{title} minus {short(first)}", fontsize=10, wrap=True)
    axes.grid(axis="x", alpha=0.3)
    with storage.write_file(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return path


def short(name: str) -> str:
    """The last two parts of a model's path."""
    return "/".join(name.rstrip("/").split("/")[-2:])

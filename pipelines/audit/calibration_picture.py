"""What does a calibration look like? The mean rating along a score, for all rows and for each subject."""

from __future__ import annotations

import io

from pipelines.audit.calibration import Calibration, Curve
from pipelines.ledger import storage

COLUMNS = 3
INCHES = (3.6, 2.9)


def write_picture(calibration: Calibration, path: str) -> str:
    """Write the picture to `path` (PNG), and return the path."""
    storage.write_bytes(path, picture(calibration))
    return path


def picture(calibration: Calibration) -> bytes:
    """A panel for each curve: the isotonic fit with its band, tenths of the rows, and the 95 % cut (PNG)."""
    # Imported here because it takes half a second to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = calibration.curves
    columns, rows = min(COLUMNS, max(len(curves), 1)), panel_rows(len(curves))
    figure = Figure(figsize=(INCHES[0] * columns, INCHES[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, curve in zip(panels, curves, strict=False):
        axes.fill_between(curve.x, curve.low, curve.high, color="tab:blue", alpha=0.18, linewidth=0)
        axes.plot(curve.x, curve.fit, color="tab:blue", linewidth=1.8)
        spread = [
            [mean - low for mean, low in zip(curve.bin_mean, curve.bin_low, strict=True)],
            [high - mean for mean, high in zip(curve.bin_mean, curve.bin_high, strict=True)],
        ]
        spread = [[max(one, 0.0) for one in side] for side in spread]
        axes.errorbar(curve.bin_x, curve.bin_mean, spread, fmt="o", color="black", markersize=3.5, linewidth=0.9)
        for cut in calibration.thresholds:
            if cut.subject == curve.subject and cut.kept == 0.95:
                axes.axvline(cut.value, color="tab:red", linewidth=0.9, linestyle="--")
        axes.set_title(
            f"{'all rows' if curve.subject == 'all' else curve.subject} ({_rows(curve, calibration.pairs)})", fontsize=9
        )
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        if calibration.pairs:
            axes.axhline(0.5, color="grey", linewidth=0.8)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    what = "difference of " if calibration.pairs else ""
    figure.supxlabel(f"{what}{calibration.score}", fontsize=9)
    figure.supylabel("share that prefers the first" if calibration.pairs else "mean rating", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def panel_rows(curves: int) -> int:
    """Rows of panels of a picture."""
    return -(-max(curves, 1) // COLUMNS)


def _rows(curve: Curve, pairs: bool) -> str:
    rows = sum(curve.bin_rows)
    return f"{rows // 2:,} pairs" if pairs else f"{rows:,} ratings"  # a pair counts in both orders

"""The curves of a training: loss and dev score over steps, as a picture for the model's card."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from training.dev import METRIC

FIGURE = "figures/training.png"
INK, GRID = "#333333", "#dddddd"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, for all kinds of sight; one a run."""

History = Sequence[Mapping[str, Any]]


def add_curves(folder: Path, runs: Mapping[str, History]) -> dict[str, str]:
    """Draws the curves into a model's folder.

    Args:
        folder: the model.
        runs: name, such as `seed 1` -> history, as `training.watch.history` gives it.

    Returns:
        `figure`, its path in the folder, and `alt`, the picture in words; nothing where no step was logged.
    """
    runs = {name: rows for name, rows in runs.items() if _curve(rows, "loss") or _curve(rows, "dev_ndcg")}
    if not runs:
        return {}
    file = folder / FIGURE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(draw(runs))
    return {"figure": FIGURE, "alt": describe(runs)}


def draw(runs: Mapping[str, History]) -> bytes:
    """A PNG on white: the loss above, the dev score below where it was measured; equal histories, equal bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [key for key in ("loss", "dev_ndcg") if any(_curve(rows, key) for rows in runs.values())]
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 11, "text.color": INK, "axes.labelcolor": INK}):
        figure = Figure(figsize=(8, 0.6 + 2.5 * len(panels)), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, key in zip(grid, panels, strict=True):
            _plot_loss(axes, runs) if key == "loss" else _plot_score(axes, runs)
            axes.grid(color=GRID, linewidth=0.7)
            axes.set_axisbelow(True)
            axes.tick_params(colors=INK, length=3)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            if len(axes.get_legend_handles_labels()[1]) > 1:
                axes.legend(frameon=False, fontsize=9, ncols=2)
        grid[-1].set_xlabel("step")
        grid[-1].xaxis.get_major_locator().set_params(integer=True)
        target = BytesIO()
        figure.savefig(target, format="png", dpi=150, metadata={"Software": None})
    return target.getvalue()


def describe(runs: Mapping[str, History]) -> str:
    """The picture in words, for those who do not see it.

    >>> describe({"seed 1": [{"step": 0, "dev_ndcg": 0.5}, {"step": 9, "loss": 2.0}, {"step": 10, "dev_ndcg": 0.61}]})
    'Training curves of seed 1: loss 2 at step 9; nDCG@10 of held-out queries 0.5000 untouched, 0.6100 at best (step 10), 0.6100 at the end (step 10).'
    """  # noqa: E501
    told = []
    for name, rows in runs.items():
        parts = []
        losses, scores = _curve(rows, "loss"), _curve(rows, "dev_ndcg")
        if losses:
            ends = dict((losses[0], losses[-1]))
            parts.append("loss " + ", ".join(f"{value:.3g} at step {step}" for step, value in ends.items()))
        if scores:
            base, trained = dict(scores).get(0), [point for point in scores if point[0] > 0]
            points = [] if base is None else [f"{base:.4f} untouched"]
            if trained:
                best = max(trained, key=lambda point: point[1])
                points.append(f"{best[1]:.4f} at best (step {best[0]})")
                points.append(f"{trained[-1][1]:.4f} at the end (step {trained[-1][0]})")
            parts.append(f"{METRIC} of held-out queries {', '.join(points)}")
        told.append(f"{name}: {'; '.join(parts)}")
    return f"Training curves of {'. '.join(told)}."


def _plot_loss(axes: Any, runs: Mapping[str, History]) -> None:
    for number, (name, rows) in enumerate(runs.items()):
        colour = COLOURS[number % len(COLOURS)]
        several = f", {name}" if len(runs) > 1 else ""
        losses, dev = _curve(rows, "loss"), _curve(rows, "dev_loss")
        if losses:
            axes.plot(*zip(*losses, strict=True), color=colour, linewidth=1.6, label=f"training rows{several}")
        if dev:
            # Few points on a line that training may hide: marked, and light.
            axes.plot(
                *zip(*dev, strict=True),
                color=colour,
                linewidth=1,
                linestyle=":",
                marker="o",
                markersize=3,
                label=f"held-out rows{several}",
            )
    axes.set_ylabel("loss")


def _plot_score(axes: Any, runs: Mapping[str, History]) -> None:
    bases = [dict(_curve(rows, "dev_ndcg")).get(0) for rows in runs.values()]
    base = next((value for value in bases if value is not None), None)
    if base is not None:  # the same for all runs from it
        axes.axhline(base, color=INK, linestyle=(0, (5, 3)), linewidth=1.2, label=f"untouched base {base:.4f}")
    for number, (name, rows) in enumerate(runs.items()):
        colour = COLOURS[number % len(COLOURS)]
        scores = _curve(rows, "dev_ndcg")
        trained = [point for point in scores if point[0] > 0]
        if not trained:
            continue
        best = max(trained, key=lambda point: point[1])
        axes.plot(*zip(*scores, strict=True), color=colour, linewidth=1.6, marker="o", markersize=3.5)
        axes.plot(
            *([best[0]], [best[1]]),
            color=colour,
            marker="*",
            markersize=13,
            linestyle="none",
            markeredgecolor="white",
            label=f"best{f', {name},' if len(runs) > 1 else ''} {best[1]:.4f} at step {best[0]}",
        )
    axes.set_ylabel(f"{METRIC}, held-out queries")


def _curve(rows: History, key: str) -> list[tuple[int, float]]:
    """Step and value of all rows that have one; a value that is no number makes no point."""
    return [(row["step"], row[key]) for row in rows if key in row and math.isfinite(row[key])]

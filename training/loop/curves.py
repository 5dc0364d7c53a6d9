"""The curves of a training, loss and dev score over steps: a table for the run record, a picture for the card."""

import math
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from training.loop.dev import LOGGED, METRIC

FIGURE = "figures/training.png"
INK, GRID, COLOUR = "#333333", "#dddddd", "#0072b2"
_MOST_ROWS = 200

History = Sequence[Mapping[str, Any]]


def history(log_history: History) -> list[dict[str, Any]]:
    """The trainer's log as a small table, one row a step.

    The losses of a long run are means over stretches of steps, about 200 in all. All measurements are kept.

    >>> history([{"step": 5, "epoch": 0.5, "loss": 2.0, "learning_rate": 1e-5, "grad_norm": 1.0}, {"step": 5,
    ... "epoch": 0.5, "eval_loss": 1.0, "eval_nDCG@10": 0.5}, {"step": 5, "epoch": 0.5, "train_runtime": 9.0}])
    [{'step': 5, 'epoch': 0.5, 'loss': 2.0, 'lr': 1e-05, 'dev_loss': 1.0, 'dev_ndcg': 0.5}]
    """
    names, of_dev = {"loss": "loss", "learning_rate": "lr"}, {"eval_loss": "dev_loss", LOGGED: "dev_ndcg"}
    table: dict[int, dict[str, Any]] = {}
    measured = [row for row in log_history if of_dev.keys() & row.keys()]
    for row in [*_thinned([row for row in log_history if "loss" in row]), *measured]:
        found = table.setdefault(row["step"], {"step": row["step"], "epoch": round(row["epoch"], 4)})
        found |= {name: float(f"{row[key]:.6g}") for key, name in (names | of_dev).items() if key in row}
    return [table[step] for step in sorted(table)]


def add_curves(folder: Path, rows: History, seed: int) -> dict[str, str]:
    """Draws the curves into a model's folder.

    Returns:
        `figure`, its path in the folder, and `alt`, the picture in words; nothing where no step was logged.
    """
    if not (_curve(rows, "loss") or _curve(rows, "dev_ndcg")):
        return {}
    file = folder / FIGURE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(draw(rows))
    return {"figure": FIGURE, "alt": describe(rows, seed)}


def draw(rows: History) -> bytes:
    """A PNG on white: the loss above, the dev score below where it was measured; equal histories give equal bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [key for key in ("loss", "dev_ndcg") if _curve(rows, key)]
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 11, "text.color": INK, "axes.labelcolor": INK}):
        figure = Figure(figsize=(8, 0.6 + 2.5 * len(panels)), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, key in zip(grid, panels, strict=True):
            _plot_loss(axes, rows) if key == "loss" else _plot_score(axes, rows)
            axes.grid(color=GRID, linewidth=0.7)
            axes.set_axisbelow(True)
            axes.tick_params(colors=INK, length=3)
            axes.spines[["top", "right"]].set_visible(False)
            if len(axes.get_legend_handles_labels()[1]) > 1:
                axes.legend(frameon=False, fontsize=9, ncols=2)
        grid[-1].set_xlabel("step")
        grid[-1].xaxis.get_major_locator().set_params(integer=True)
        target = BytesIO()
        figure.savefig(target, format="png", dpi=150, metadata={"Software": None})
    return target.getvalue()


def describe(rows: History, seed: int) -> str:
    """The picture in words, for those who do not see it.

    >>> describe([{"step": 0, "dev_ndcg": 0.5}, {"step": 9, "loss": 2.0}, {"step": 10, "dev_ndcg": 0.61}], 1)
    'Training curves of seed 1: loss 2 at step 9; nDCG@10 of held-out queries 0.5000 untouched, 0.6100 at best (step 10), 0.6100 at the end (step 10).'
    """  # noqa: E501
    parts, losses = [], _curve(rows, "loss")
    if losses:
        ends = dict((losses[0], losses[-1]))
        parts.append("loss " + ", ".join(f"{value:.3g} at step {step}" for step, value in ends.items()))
    base, trained, best = _scores(rows)
    points = [] if base is None else [f"{base:.4f} untouched"]
    if trained:
        points.append(f"{best[1]:.4f} at best (step {best[0]})")
        points.append(f"{trained[-1][1]:.4f} at the end (step {trained[-1][0]})")
    if points:
        parts.append(f"{METRIC} of held-out queries {', '.join(points)}")
    return f"Training curves of seed {seed}: {'; '.join(parts)}."


def _plot_loss(axes: Any, rows: History) -> None:
    losses, dev = _curve(rows, "loss"), _curve(rows, "dev_loss")
    if losses:
        axes.plot(*zip(*losses, strict=True), color=COLOUR, linewidth=1.6, label="training rows")
    if dev:  # few points on a line that training may hide: marked, and light
        style = {"linewidth": 1, "linestyle": ":", "marker": "o", "markersize": 3}
        axes.plot(*zip(*dev, strict=True), color=COLOUR, label="held-out rows", **style)
    axes.set_ylabel("loss")


def _plot_score(axes: Any, rows: History) -> None:
    base, trained, best = _scores(rows)
    if base is not None:
        axes.axhline(base, color=INK, linestyle=(0, (5, 3)), linewidth=1.2, label=f"untouched base {base:.4f}")
    if trained:
        points = zip(*_curve(rows, "dev_ndcg"), strict=True)
        axes.plot(*points, color=COLOUR, linewidth=1.6, marker="o", markersize=3.5)
        star = {"marker": "*", "markersize": 13, "linestyle": "none", "markeredgecolor": "white"}
        axes.plot(*best, color=COLOUR, label=f"best {best[1]:.4f} at step {best[0]}", **star)
    axes.set_ylabel(f"{METRIC}, held-out queries")


def _scores(rows: History) -> tuple[float | None, list[tuple[int, float]], tuple[int, float]]:
    """Dev scores: the base's, step and score of all trained checkpoints, and of the best."""
    scores = _curve(rows, "dev_ndcg")
    trained = [point for point in scores if point[0] > 0]
    return dict(scores).get(0), trained, max(trained, key=lambda point: point[1], default=(0, math.nan))


def _curve(rows: History, key: str) -> list[tuple[int, float]]:
    """Step and value of all rows that have one; a value that is not a number makes no point."""
    return [(row["step"], row[key]) for row in rows if key in row and math.isfinite(row[key])]


def _thinned(rows: History) -> Iterator[dict[str, Any]]:
    """Rows of losses, or means of stretches of them at their last steps."""
    stretch = -(-len(rows) // _MOST_ROWS) or 1
    for start in range(0, len(rows), stretch):
        some = rows[start : start + stretch]
        yield {**some[-1], "loss": sum(row["loss"] for row in some) / len(some)}

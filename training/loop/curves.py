"""The curves of a training, loss and dev score over steps: a table for the run record, a picture for the card."""

import math
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from training.loop.dev import LOGGED, METRIC

FIGURE = "figures/training.png"
LINES = {"loss": "training rows", "dev_loss": "held-out rows", "dev_ndcg": f"{METRIC}, held-out queries"}
"""Keys of the history -> what their lines show."""
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
        `figure`, its path in the folder, and `alt`, what it shows; nothing where no step was logged.
    """
    if not (_curve(rows, "loss") or _curve(rows, "dev_ndcg")):
        return {}
    file = folder / FIGURE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(draw(rows))
    curves = {name: _curve(rows, key) for key, name in LINES.items()}
    said = [f"{name} {curve[0][1]:.4f} to {curve[-1][1]:.4f}" for name, curve in curves.items() if curve]
    return {"figure": FIGURE, "alt": f"Loss by step, seed {seed}, first to last: {'; '.join(said)}."}


def draw(rows: History) -> bytes:
    """A PNG on white: the loss above, the dev score below where it was measured; equal histories give equal bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = [keys for keys in (("loss", "dev_loss"), ("dev_ndcg",)) if _curve(rows, keys[0])]
    with mpl.rc_context({"font.family": "DejaVu Sans", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 0.6 + 2.5 * len(panels)), layout="constrained", facecolor="white")
        for axes, keys in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
            for key in [key for key in keys if _curve(rows, key)]:
                axes.plot(*zip(*_curve(rows, key), strict=True), marker="" if key == "loss" else "o", label=LINES[key])
            base = dict(_curve(rows, "dev_ndcg")).get(0)
            if base is not None and "dev_ndcg" in keys:
                axes.axhline(base, color="black", linestyle="--", label=f"untouched base {base:.4f}")
            axes.set(xlabel="step", ylabel=METRIC if "dev_ndcg" in keys else "loss")
            axes.legend(frameon=False)
        target = BytesIO()
        figure.savefig(target, format="png", dpi=150, metadata={"Software": None})
    return target.getvalue()


def _curve(rows: History, key: str) -> list[tuple[int, float]]:
    """Step and value of all rows that have one; a value that is not a number makes no point."""
    return [(row["step"], row[key]) for row in rows if key in row and math.isfinite(row[key])]


def _thinned(rows: History) -> Iterator[dict[str, Any]]:
    """Rows of losses, or means of stretches of them at their last steps."""
    stretch = -(-len(rows) // _MOST_ROWS) or 1
    for start in range(0, len(rows), stretch):
        some = rows[start : start + stretch]
        yield {**some[-1], "loss": sum(row["loss"] for row in some) / len(some)}

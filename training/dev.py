"""Held-out queries of the data set: they choose the best checkpoint, and stop a run that gains nothing more.

Which queries they are is decided by a hash of their text alone. So all kinds of negatives, all seeds and all orders of
the rows hold out the same ones, and models that are to be compared have been chosen by the same measure. They are
generated queries as those of training are; no evaluation set is ever touched.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from msgspec import Meta, Struct
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from foils.errors import UserError
from foils.metrics import mean_interval
from foils.texts import normalised

logger = logging.getLogger(__name__)

METRIC = "nDCG@10"
LOGGED = f"eval_{METRIC}"
"""The metric's name in the trainer's log."""
INSTEAD = {
    **dict.fromkeys(("eval_strategy", "eval_steps", "eval_delay"), "set dev.every"),
    **dict.fromkeys(
        ("metric_for_best_model", "greater_is_better", "load_best_model_at_end"),
        f"the best checkpoint by {METRIC} of the held-out queries is kept",
    ),
}
"""Arguments of the trainer that held-out queries decide, and what to do instead."""
_SALT = b"foils: dev"
_BATCH = 10_000

Keys = npt.NDArray[np.uint64]
RowsT = TypeVar("RowsT", Dataset, dict[str, Dataset])


class DevConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Queries held out of training.

    Attributes:
        queries: how many different ones; 0 for none, and then the last checkpoint is kept. A difference of one query
            in a hundred is noise: take some hundreds.
        passages: positives of training rows that are searched beside those of the held-out queries. The negatives are
            not: they differ between the kinds, whose models must be measured alike.
        rerank: of these passages, how many a cross-encoder ranks for each query: those most like it in letters.
        every: steps between two measurements, or below 1 the share of all steps.
        patience: stops after so many measurements without a better one; 0 for never.
    """

    queries: Annotated[int, Meta(ge=0)] = 0
    passages: Annotated[int, Meta(ge=0)] = 1000
    rerank: Annotated[int, Meta(ge=2)] = 20
    every: Annotated[float, Meta(gt=0)] = 0.1
    patience: Annotated[int, Meta(ge=0)] = 0


def text_keys(rows: Dataset, column: str) -> Keys:
    """A 64-bit hash of each row's normalised text, `(n_rows,)`; the rows are read batch by batch."""
    batches = rows.select_columns([column]).with_format("arrow").iter(_BATCH)
    texts = (text for batch in batches for text in batch[column].to_pylist())
    return np.fromiter(map(_key, texts), np.uint64, len(rows))


def pairs_hash(rows: Any) -> str | None:
    """SHA-256 of the queries and positives in their order: trainings that share it differ in their negatives alone.

    None for a stream, and for rows without positives.
    """
    tables = list(rows.values()) if isinstance(rows, dict) else [rows]
    if not all(isinstance(table, Dataset) and {"query", "positive"} <= {*table.column_names} for table in tables):
        return None
    digest = hashlib.sha256()
    for table in tables:
        for column in ("query", "positive"):
            digest.update(text_keys(table, column).tobytes())
    return digest.hexdigest()


def hold_out(rows: RowsT, config: DevConfig) -> tuple[RowsT, Dataset | None]:
    """Parts rows into those to train on, and those of the held-out queries.

    Held out are the queries with the smallest hashes, with all their rows. What shares their positives, by text, is
    left out of training as well, though it is of other queries; of several sources, in all of them.

    Args:
        rows: with columns `query` and `positive`; of several sources, queries are held out of the first.
        config: how many.

    Returns:
        Both parts in the order of `rows`; None for the second where none is held out.

    Raises:
        UserError: more queries are asked for than half of what there is, nothing would remain, or the rows are a
            stream, which has no end to choose from.
    """
    if config.queries == 0:
        return rows, None
    sources = rows if isinstance(rows, dict) else {"": rows}
    first = next(iter(sources.values()))
    if not all(isinstance(source, Dataset) for source in sources.values()):
        raise UserError(
            f"recipe: dev.queries {config.queries}: queries cannot be held out of rows that are streamed; set it to 0, "
            "or load the rows without streaming"
        )
    queries, positives = text_keys(first, "query"), text_keys(first, "positive")
    distinct = np.unique(queries)
    if config.queries > len(distinct) // 2:
        raise UserError(
            f"recipe: dev.queries {config.queries}: the data set has {len(distinct)} different queries and at most "
            f"half of them may be held out; set it to {len(distinct) // 2} or lower, or build a larger data set"
        )
    held = np.isin(queries, distinct[: config.queries])
    chosen, answers = np.unique(queries[held]), np.unique(positives[held])
    kept: dict[str, Dataset] = {}
    left_out = -int(held.sum())
    for name, source in sources.items():
        if source is not first:
            queries, positives = text_keys(source, "query"), text_keys(source, "positive")
        ours = np.isin(queries, chosen) | np.isin(positives, answers)
        kept[name] = source.select(np.flatnonzero(~ours))
        left_out += int(ours.sum())
        if not len(kept[name]):
            raise UserError(
                f"recipe: dev.queries {config.queries}: no row {f'of {name} ' if name else ''}would be left to train "
                "on, since all share their positives with held-out queries; set it lower, or build a larger data set"
            )
    logger.info(
        "dev: %d queries (%d rows) held out; %d more rows share their texts and are left out of training",
        *(config.queries, int(held.sum()), left_out),
    )
    dev_rows = first.select(np.flatnonzero(held))
    return (kept if isinstance(rows, dict) else kept[""]), dev_rows


def trainer_defaults(config: DevConfig, batch_size: int) -> dict[str, Any]:
    """What the trainer is told so that it measures as often as wanted, and keeps the best checkpoint.

    The untouched base is measured first (`eval_on_start`); after a restart that must be False.

    Args:
        config: of the recipe.
        batch_size: rows of a training batch per device: in-batch negatives make a dev loss comparable only at the same.

    Raises:
        UserError: `every` is above 1 and no whole number.
    """
    if config.queries == 0:
        return {}
    if config.every > 1 and config.every % 1:
        raise UserError(f"recipe: dev.every {config.every}: wanted a whole number of steps, or a share below 1")
    every = config.every if config.every < 1 else int(config.every)
    return {
        **dict.fromkeys(("eval_strategy", "save_strategy"), "steps"),
        **dict.fromkeys(("eval_steps", "save_steps"), every),
        **dict.fromkeys(("eval_on_start", "load_best_model_at_end", "greater_is_better"), True),
        "metric_for_best_model": LOGGED,
        "save_total_limit": 2,
        "per_device_eval_batch_size": batch_size,
    }


class EarlyStop(TrainerCallback):
    """Stops after `patience` measurements in a row without a better one; the base's own does not count.

    It counts in the trainer's log, which checkpoints carry: a run that was killed and resumed stops at the same step.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Called by the trainer after each measurement."""
        del args, kwargs
        trained = [value for step, value in measurements(state.log_history).items() if step > 0]
        if trained and len(trained) - 1 - trained.index(max(trained)) >= self._patience > 0:
            control.should_training_stop = True
        return control


def measurements(log_history: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Step -> dev score, 0 to 1, in the order of steps; step 0 is the untouched base.

    >>> measurements([{"step": 0, "eval_nDCG@10": 0.5}, {"step": 5, "loss": 1.0}, {"step": 5, "eval_nDCG@10": 0.6}])
    {0: 0.5, 5: 0.6}
    """
    return {int(row["step"]): float(row[LOGGED]) for row in log_history if LOGGED in row}


def summary(state: TrainerState, config: DevConfig, folder: Path) -> dict[str, Any]:
    """What the held-out queries said, for the run record; tells at once where no checkpoint beats the base.

    Args:
        state: the trainer's, after training.
        config: of the recipe.
        folder: where the evaluator wrote each query's score (the trainer's `output_dir/eval`).

    Returns:
        `base`, `best` and `last`, each with step, value and 95 % interval, the latter two with their difference from
        the base and its interval, paired by query. The best is the best of trained checkpoints, the base is none.
    """
    scores = measurements(state.log_history)
    trained = {step: value for step, value in scores.items() if step > 0}
    best = max(trained, key=lambda step: trained[step])  # the first of equals, as the trainer has it
    base = _per_query(folder, 0)
    told: dict[str, Any] = {
        "metric": METRIC,
        "queries": config.queries,
        "measured": len(trained),
        "base": _estimate(0, scores[0], base) if 0 in scores else None,
        "best": _estimate(best, scores[best], _per_query(folder, best), base),
        "last": _estimate(max(trained), scores[max(trained)], _per_query(folder, max(trained)), base),
        "patience": config.patience,
        "stopped_early": state.global_step < state.max_steps,
        "beats_base": scores[best] > scores[0] if 0 in scores else None,
    }
    if told["beats_base"] is False:
        logger.warning(
            "dev: no checkpoint beats the untouched base: %s %.4f at best (step %d), and the base has %.4f; the best "
            "trained one is kept, the base is the better model on these queries",
            *(METRIC, scores[best], best, scores[0]),
        )
    return told


def score_file(folder: Path, step: int) -> Path:
    """Where each query's score at a step is stored."""
    return folder / f"dev-{step:08d}.npy"


def _per_query(folder: Path, step: int) -> npt.NDArray[np.float64] | None:
    file = score_file(folder, step)
    return np.load(file, allow_pickle=False) if file.is_file() else None


def _estimate(
    step: int,
    value: float,
    queries: npt.NDArray[np.float64] | None,
    base: npt.NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """A score with its interval; without one where the queries' own scores are not at hand."""
    told: dict[str, Any] = {"step": step, "value": round(value, 6)}
    if queries is not None:
        told["low"], told["high"] = (round(end, 6) for end in mean_interval(queries.tolist()))
    if queries is not None and base is not None:
        ends = mean_interval((queries - base).tolist())
        told["difference"] = round(float((queries - base).mean()), 6)
        told["difference_low"], told["difference_high"] = (round(end, 6) for end in ends)
    return told


def _key(text: str | None) -> int:
    return int.from_bytes(hashlib.blake2b(normalised(text or "").encode(), digest_size=8, key=_SALT).digest(), "little")

"""Watching a training: one line with a bar, or lines in a log; and the history for the run record."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils.logging import disable_progress_bar

from training.dev import LOGGED, METRIC, measurements

logger = logging.getLogger(__name__)

LOG_S = 30.0
_NEW = 0.3  # weight of a new loss in the smoothed one
_MOST_ROWS = 200


def quiet(trainer: Trainer) -> None:
    """Takes the trainer's own bars and printed dictionaries away; `ProgressBar` tells the same in one line.

    The card that sentence-transformers writes into each checkpoint no longer asks the Hub for the base, either.
    """
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    disable_progress_bar()  # one for every checkpoint's file
    trainer.model.model_card_data.local_files_only = True


class ProgressBar(TrainerCallback):
    """One line with loss, learning rate, samples/s, time left and dev score, on the main process only.

    On a terminal it is redrawn, elsewhere it is a line in the log every half minute; a measurement gets a line always.
    The rate leaves out the time of measurements and checkpoints, the time left does not.

    Args:
        log_s: seconds between two lines in a log.
    """

    def __init__(self, log_s: float = LOG_S) -> None:
        self._log_s = log_s
        self._bar: tqdm[None] | None = None
        self._loss: float | None = None
        self._rate: float | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts the clock, and the bar where somebody can see it move."""
        del control
        if not state.is_world_process_zero:
            return
        self._samples = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        self._started = self._mark = self._logged = self._told = time.perf_counter()
        self._paused = 0.0
        self._first = self._logged_step = state.global_step  # above 0 after a restart
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="training", unit="step", dynamic_ncols=True
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Moves the bar, or writes a line when it is time."""
        del args, control
        if not state.is_world_process_zero:
            return
        self._mark = time.perf_counter()
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(self._parts(state)), refresh=False)
            self._bar.update(state.global_step - self._bar.n)
        elif self._mark - self._told >= self._log_s:
            self._told = self._mark
            logger.info("%s", self.line(state))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        """Smooths the loss, and notes the rate in the trainer's log, which checkpoints carry."""
        del args, control
        if not state.is_world_process_zero or "loss" not in logs:
            return
        self._loss = logs["loss"] if self._loss is None else (1 - _NEW) * self._loss + _NEW * logs["loss"]
        seconds = time.perf_counter() - self._logged - self._paused
        self._rate = (state.global_step - self._logged_step) * self._samples / max(seconds, 1e-9)
        self._logged, self._logged_step, self._paused = time.perf_counter(), state.global_step, 0.0
        state.log_history[-1]["samples_per_second"] = round(self._rate, 3)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, Any], **_: Any
    ) -> None:
        """A line for what was measured."""
        del args, control
        if not state.is_world_process_zero:
            return
        self._pause()
        told = [f"{METRIC} {metrics[LOGGED]:.4f}"] if LOGGED in metrics else []
        scores = measurements(state.log_history)
        if state.global_step > 0 and 0 in scores and LOGGED in metrics:
            told[0] += f" (untouched base {scores[0]:.4f}, best so far {max(scores.values()):.4f})"
        told += [f"loss {metrics['eval_loss']:.4f}"] if "eval_loss" in metrics else []
        with tqdm.external_write_mode(file=sys.stderr):
            logger.info("dev at step %d: %s", state.global_step, ", ".join(told))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leaves the time of a checkpoint out of the rate."""
        del args, control
        if state.is_world_process_zero:
            self._pause()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Closes the bar, or writes the last line."""
        del args, control
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif state.is_world_process_zero:
            logger.info("%s", self.line(state))

    def line(self, state: TrainerState) -> str:
        """The state in words."""
        done = state.global_step - self._first
        seconds = (time.perf_counter() - self._started) / max(done, 1) * (state.max_steps - state.global_step)
        left = f"{duration(seconds)} left" if done else "? left"
        return ", ".join([f"training: step {state.global_step:,} of {state.max_steps:,}", *self._parts(state), left])

    def _parts(self, state: TrainerState) -> list[str]:
        parts = [] if self._loss is None else [f"loss {self._loss:.4f}"]
        rates = [row["learning_rate"] for row in state.log_history[-3:] if "learning_rate" in row]
        parts += [f"lr {rates[-1]:.1e}"] if rates else []
        parts += [] if self._rate is None else [f"{self._rate:,.1f} samples/s"]
        scores = measurements(state.log_history)
        return parts + ([f"dev {METRIC} {list(scores.values())[-1]:.4f}"] if scores else [])

    def _pause(self) -> None:
        now = time.perf_counter()
        self._paused, self._mark = self._paused + now - self._mark, now


def history(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The trainer's log as a small table for the run record: one row a step, without what is not known.

    Of long runs losses are means over stretches of steps, so that there are some two hundred rows; measurements are
    all there.

    >>> history([{"step": 5, "epoch": 0.5, "loss": 2.0, "learning_rate": 1e-5, "grad_norm": 1.0}, {"step": 5,
    ... "epoch": 0.5, "eval_loss": 1.0, "eval_nDCG@10": 0.5}, {"step": 5, "epoch": 0.5, "train_runtime": 9.0}])
    [{'step': 5, 'epoch': 0.5, 'loss': 2.0, 'lr': 1e-05, 'dev_loss': 1.0, 'dev_ndcg': 0.5}]
    """
    names = {"loss": "loss", "learning_rate": "lr", "samples_per_second": "samples_per_s"}
    of_dev = {"eval_loss": "dev_loss", LOGGED: "dev_ndcg"}
    table: dict[int, dict[str, Any]] = {}
    measured = [row for row in log_history if of_dev.keys() & row.keys()]
    for row in [*_thinned([row for row in log_history if "loss" in row]), *measured]:
        told = table.setdefault(row["step"], {"step": row["step"], "epoch": round(row["epoch"], 4)})
        told |= {name: float(f"{row[key]:.6g}") for key, name in (names | of_dev).items() if key in row}
    return [table[step] for step in sorted(table)]


def duration(seconds: float) -> str:
    """Seconds in the unit that says most.

    >>> duration(90), duration(600), duration(7200)
    ('90 s', '10 min', '2.0 h')
    """
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 2:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"  # noqa: PLR2004


def _thinned(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of losses, or means of stretches of them at their last steps."""
    stretch = -(-len(rows) // _MOST_ROWS) or 1
    for start in range(0, len(rows), stretch):
        some = rows[start : start + stretch]
        yield {**some[-1], "loss": sum(row["loss"] for row in some) / len(some)}

"""Trackers: programs that keep the curves of many runs; whichever it is, nothing leaves the machine unasked."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import constants
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TrackioCallback

from foils.errors import UserError

logger = logging.getLogger(__name__)

Tracker = Literal["trackio", "tensorboard", "wandb"]
Watch = Literal["auto", "none"] | Tracker | tuple[Tracker, ...]

INSTALL = {
    "trackio": "pip install trackio (or pip install -e '.[watch]')",
    "tensorboard": "pip install tensorboard (or pip install -e '.[watch]')",
    "wandb": "pip install wandb",
}
SHOW = {
    "trackio": "TRACKIO_DIR={folder} trackio show --project {project}",
    "tensorboard": "tensorboard --logdir {folder}",
    "wandb": "wandb sync {folder}/wandb/offline-run-*, which uploads it",
}
PROJECT = "foils"
REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID", "TRACKIO_DATASET_ID")


def tracking(watch: Watch, out: Path) -> dict[str, Any]:
    """The trainer's arguments for the trackers that a recipe names, which write beside the model's folder.

    Nothing is uploaded: Trackio writes to a local database and makes no Space, W&B stays offline. Who wants more asks
    for it in the environment or in `[trainer]`: `trackio_space_id`, or `WANDB_MODE=online`.

    Args:
        watch: `auto` is Trackio where it is installed.
        out: the model's folder; its name is the run's. The trackers' files lie in `watch/` beside it.

    Raises:
        UserError: a tracker is named that is not installed.
    """
    names = _names(watch)
    for name in names:
        if util.find_spec(name) is None:
            raise UserError(f"recipe: watch {name!r}: not installed; run: {INSTALL[name]}, or set watch = 'none'")
    if not names:
        return {"report_to": "none"}
    beside = out.resolve().parent / "watch"
    # Each tracker takes its folder from the environment only, Trackio when it is imported.
    folders = {
        "trackio": os.environ.setdefault("TRACKIO_DIR", str(beside / "trackio")),
        "tensorboard": str(beside / "tensorboard"),
        "wandb": os.environ.setdefault("WANDB_DIR", str(beside)),
    }
    if "tensorboard" in names:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(beside / "tensorboard" / out.name)
    if "wandb" in names:
        beside.mkdir(parents=True, exist_ok=True)  # without its folder it writes to the system's temporary one
        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_PROJECT", PROJECT)
    for name in names:
        shown = SHOW[name].format(folder=folders[name], project=PROJECT)
        logger.info("watch: %s writes to %s on this machine; see it with: %s", name, folders[name], shown)
    others = [name for name in names if name != "trackio"] or "none"  # that one is a callback
    return {"report_to": others, "run_name": out.name, "project": PROJECT, "trackio_static_space_id": False}


def tracker_callbacks(watch: Watch) -> list[TrainerCallback]:
    """Callbacks for the trackers that `report_to` does not start."""
    return [LocalTrackio()] if "trackio" in _names(watch) else []


class LocalTrackio(TrackioCallback):
    """The trainer's Trackio, which asks the Hub for nothing.

    Trackio 0.43 sends the user's token to the Hub when a run starts, even one that is kept here: it wants their name.
    """

    def setup(self, args: TrainingArguments, state: TrainerState, model: Any, **more: Any) -> None:
        """Starts the run."""
        with _alone(args):
            super().setup(args, state, model, **more)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Ends it."""
        with _alone(args):
            super().on_train_end(args, state, control, **more)


@contextlib.contextmanager
def _alone(args: TrainingArguments) -> Iterator[None]:
    """Without the Hub, and without Trackio's lines of an upload that is none; as ever where the user asked for one."""
    if args.trackio_space_id or args.trackio_bucket_id or any(os.environ.get(name) for name in REMOTE):
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _names(watch: Watch) -> tuple[Tracker, ...]:
    if watch == "auto":
        return ("trackio",) if util.find_spec("trackio") else ()
    return watch if isinstance(watch, tuple) else () if watch == "none" else (watch,)

"""Checkpoints that a killed training goes on from, to the weights that it would have had undisturbed.

transformers writes a checkpoint file by file, so that a kill leaves a folder that looks like one. Here the last file
of a checkpoint is a mark; a folder without it is deleted. The mark also carries the seconds that training had taken by
then, so that a run record holds the time of all attempts.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from cards.publish.files import write_files
from foils.errors import UserError
from foils.folders import locked, put_in_place, recover
from foils.loading import json_in
from foils.words import duration, listed
from training.identity import FOREIGN, REMEDY, Run, differences
from training.publish import finished_record

logger = logging.getLogger(__name__)

CHECKPOINTS, INPUTS, MARK, MODEL = "checkpoints", "inputs.json", "complete.json", "model"


def decided_by_first(decide: Callable[[], Any]) -> Any:
    """Calls a function on the first process, and returns what it returned on all; every process must call this.

    Raises:
        UserError: the function raised one; then every process does.
    """
    found, refusal = None, None
    if PartialState().is_main_process:
        try:
            found = decide()
        except UserError as error:
            refusal = str(error)
    found, refusal = broadcast_object_list([found, refusal])
    if refusal is not None:
        raise UserError(refusal)
    return found


@contextmanager
def run_folder(out: Path, run: Run, *, fresh: bool = False) -> Iterator[Path | None]:
    """The folder that a run writes to, with what an earlier attempt at it left there; None for a run that is done.

    No other run writes there until then. Every process of a run must enter; the first one decides for all. With
    `fresh` it starts over, whatever lies there.

    Raises:
        UserError: another process is writing there, it holds work of another run, or not every process sees it.
    """
    partial = out.with_name(f"{out.name}.partial")
    with ExitStack() as held:

        def is_done() -> bool:
            recover(out)
            if not fresh and not partial.exists() and run.is_done(out):
                return True
            held.enter_context(locked(out))
            partial.mkdir(parents=True, exist_ok=True)
            return _prepared(partial, out, run, fresh=fresh)

        done = decided_by_first(is_done)
        if not (done or all(gather_object([(partial / INPUTS).exists()]))):
            raise UserError(f"output folder {partial}: not seen by every machine; name one on a disk that all share")
        yield None if done else partial


def finish(partial: Path, out: Path) -> None:
    """Moves a finished model, with its record, to its place; only then the checkpoints go.

    Raises:
        UserError: something has been put there while the model was trained.
    """
    if out.exists() and not json_in(partial / INPUTS)["fresh"]:
        raise UserError(
            f"output folder {out}: something was put there during training, and stays; the trained model is in "
            f"{partial / MODEL}: move it where you want it"
        )
    put_in_place(partial / MODEL, out)
    _remove(partial)


def changes(partial: Path) -> list[str]:
    """Lists what differed around a run each time that it was resumed."""
    found: list[str] = json_in(partial / INPUTS)["changes"]
    return found


def _prepared(partial: Path, out: Path, run: Run, *, fresh: bool) -> bool:
    """Makes the folder ready for a run, and says whether there is nothing left to do.

    Raises:
        UserError: it holds work of another run or what no run wrote, or `out` holds something else.
    """
    earlier = json_in(partial / INPUTS)
    others = sorted({path.name for path in partial.iterdir()} - {INPUTS, f"{INPUTS}.partial", CHECKPOINTS, MODEL})
    if others and not earlier:
        raise UserError(
            f"output folder {partial}: it holds {listed(others)}, and no run; move that away, or name another output "
            "folder"
        )
    differing = run.differing(earlier.get("inputs", {})) if earlier else [f"{INPUTS} is missing or unreadable"]
    replaces = fresh or bool(not differing and earlier.get("fresh"))  # one that was killed goes on as any other
    if replaces and out.exists():
        finished_record(out, FOREIGN)  # a folder without a record is not ours to replace
    elif run.is_done(out):
        if not earlier or not differing:  # what a kill left when the model was in its place already
            _remove(partial)
        return True
    work = _work(partial)
    if fresh or not work:
        _empty(partial)
        earlier = None
    elif differing:
        raise UserError(
            f"output folder {partial}: it holds {work} of a run that differs: {listed(differing)}; {REMEDY}"
        )
    around, before = run.surroundings(), earlier or {"surroundings": {}, "changes": []}
    changed = differences(before["surroundings"], {key: around[key] for key in before["surroundings"]})
    if changed:
        logger.info("%s: goes on although these differ, which is recorded: %s", out, listed(changed))
    noted = {"changes": [*before["changes"], *changed], "fresh": replaces}
    write_files(partial, {INPUTS: json.dumps({"inputs": run.inputs, "surroundings": around, **noted}).encode()})
    return False


def _work(partial: Path) -> str | None:
    """Says what would be lost with an interrupted run's folder."""
    checkpoint = last_checkpoint(partial)
    if checkpoint is not None:
        return f"{checkpoint.name.rpartition('-')[2]} steps ({duration(seconds_before(checkpoint))})"
    return "a trained model" if (partial / MODEL / "config.json").exists() else None


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in a run's folder; what a kill left half written is deleted."""
    found = {}
    for path in (folder / CHECKPOINTS).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if json_in(path / MARK):
            found[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path)
    return found[max(found)] if found else None


def seconds_before(checkpoint: Path | None) -> float:
    """The seconds that training had taken up to a checkpoint, over all attempts."""
    return 0.0 if checkpoint is None else float(json_in(checkpoint / MARK)["seconds"])


class Checkpoints(TrainerCallback):
    """Marks checkpoints as whole, and asks for one every few `minutes`; 0 asks for none.

    `before` has the seconds of earlier attempts.
    """

    def __init__(self, before: float, minutes: float) -> None:
        self._started = perf_counter() - before
        self._minutes = minutes
        self._saved = perf_counter()

    @property
    def seconds(self) -> float:
        """The time that training has taken so far, over all attempts."""
        return perf_counter() - self._started

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Asks for a checkpoint when it is time by the first process's clock: all must save at the same step."""
        if self._minutes and decided_by_first(lambda: perf_counter() - self._saved >= 60 * self._minutes):
            control.should_save, self._saved = True, perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Marks the checkpoint that was just written, once every process has written its part."""
        PartialState().wait_for_everyone()
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        for file in folder.iterdir():
            if file.is_file():  # the mark must not outlive, in a crash of the machine, what it vouches for
                with file.open("rb") as opened:
                    os.fsync(opened)
        write_files(folder, {MARK: json.dumps({"seconds": self.seconds}).encode()})


def _remove(partial: Path) -> None:
    """Deletes a run's folder; without its inputs it holds nothing that counts, should a kill leave the rest."""
    (partial / INPUTS).unlink(missing_ok=True)
    shutil.rmtree(partial, ignore_errors=True)


def _empty(folder: Path) -> None:
    """Removes what a folder holds, and not the folder, which may be a link to a larger disk."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

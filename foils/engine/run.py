"""Runs what is left of a plan.

    run_stage(folder, plan, EngineConfig(workers=8), "embedding passages")
    for table in read_parts(folder, plan): ...

A run that is interrupted, or whose driver is killed, leaves parts and markers, from which any engine continues.
"""

import logging
import shlex
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from foils.engine import cluster, local
from foils.engine.commands import commands, submission
from foils.engine.config import EngineConfig
from foils.engine.parts import as_ranges, failed_file, state_of, tried_file
from foils.engine.plan import Plan, check_versions, read_plan, write_plan
from foils.engine.worker import Outcome, note
from foils.errors import UserError

logger = logging.getLogger(__name__)

ENGINES: Mapping[str, Callable[[Path, list[int], EngineConfig], Generator[Outcome, None, None]]] = {
    "local": local.run,
    "ray": cluster.run,
}


def check(engine: EngineConfig) -> None:
    """Refuses an engine that cannot work, before anything is computed.

    Raises:
        UserError: no cluster answers or it is too small, this machine has too few GPUs, or the Hub no such machine.
    """
    if engine.kind == "ray":
        cluster.check(engine)
    elif engine.kind != "local":
        commands(Path(), [0], engine)
    elif engine.workers > 1:
        local.environments(engine, engine.workers)


def run_stage(folder: Path, plan: Plan, engine: EngineConfig, label: str) -> None:
    """Writes a plan, unless it is there, and runs the shards that have no valid marker.

    Raises:
        UserError: as `write_plan` and `finish`.
    """
    write_plan(folder, plan, begun=any(folder.glob("part-*.json")))
    finish(folder, engine, label)


def finish(folder: Path, engine: EngineConfig, label: str, shards: list[int] | None = None) -> None:
    """Runs the shards of the plan in a folder that have no valid marker.

    Args:
        folder: the plan's.
        engine: who runs them.
        label: what is done, for the bar.
        shards: some of them; without it all.

    Raises:
        UserError: shards failed, others were made by other versions, or the user is to start their jobs.
    """
    folder = folder.resolve()
    plan = read_plan(folder)
    wanted = list(range(len(plan.shards))) if shards is None else shards
    left = state_of(folder, plan, wanted).left
    if not left:
        return
    check_versions(plan, folder)
    if engine.kind not in ENGINES:
        for command in commands(folder, left, engine):
            print(shlex.join(command))
        raise UserError(
            f"{label}: {len(left)} of {len(wanted)} shards are left; run the commands above, or have them started by: "
            f"{submission(folder, engine)}; then run the same command again"
        )
    for number in left:  # what a run that was ended wrote down
        tried_file(folder, number).unlink(missing_ok=True)
        failed_file(folder, number).unlink(missing_ok=True)
    failed: dict[int, str] = {}
    counts = {"total": len(wanted), "initial": len(wanted) - len(left)}
    with (
        tqdm(**counts, desc=label, unit="shard", dynamic_ncols=True, disable=None) as bar,
        closing(ENGINES[engine.kind](folder, left, engine)) as outcomes,  # ends the workers, whatever is raised
    ):
        for outcome in outcomes:
            if outcome.error is None:
                bar.update()
                continue
            if outcome.fatal:
                raise UserError(f"{label}: {outcome.error}")
            failed[outcome.number] = outcome.error
            note(folder, outcome.number, outcome.error, only_new=True)
            bar.set_postfix(failed=len(failed))
    if failed:
        raise UserError(f"{label}: {len(failed)} of {len(wanted)} {_reason(folder, failed)}")
    _remove_partial(folder, plan)


def _remove_partial(folder: Path, plan: Plan) -> None:
    """Removes what killed workers had begun to write, once no shard is left."""
    if not state_of(folder, plan).left:
        for file in folder.glob(".part-*"):
            file.unlink(missing_ok=True)


def _reason(folder: Path, failed: Mapping[int, str]) -> str:
    status = shlex.join(["foils", "status", str(folder)])
    first = min(failed)
    return (
        f"shards failed ({as_ranges(sorted(failed))}); shard {first}: {failed[first]}; the others are kept: remove the "
        f"cause and run the same command again ({status})"
    )

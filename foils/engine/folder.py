"""The folder of a plan that one command makes, has finished and removes, and that a kill leaves for the next."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from foils.engine.config import EngineConfig
from foils.engine.plan import PLAN, Plan, read_plan, versions_of, write_plan
from foils.engine.run import finish
from foils.errors import UserError


@contextmanager
def finished(folder: Path, make: Callable[[], Plan], engine: EngineConfig, label: str) -> Iterator[Plan]:
    """Gives a plan whose shards are all made; its folder goes at the end, unless an error ends the use of it.

    Another command that wants the same plan waits meanwhile.

    Args:
        folder: the plan's. One that was begun is finished as it is, by whatever engine.
        make: writes the rows of all shards into the folder and returns the plan.
        engine: who computes.
        label: what is computed, for the bar.

    Raises:
        UserError: as `foils.engine.run.finish`; the folder cannot be written.
    """
    with _lock(folder, label):
        if not _stands(folder):
            try:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                plan = make()
            except OSError as error:
                raise UserError(f"{label}: {folder}: {error.strerror}; make room or name another folder") from None
            write_plan(folder, plan, begun=False)
        finish(folder, engine, label)
        yield read_plan(folder)
        (folder / PLAN).unlink()
        shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path, label: str) -> FileLock:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(folder.with_name(f"{folder.name}.lock"))
    except OSError as error:
        raise UserError(f"{label}: {folder}: {error.strerror}; make room or name another folder") from None


def _stands(folder: Path) -> bool:
    """Whether a folder has a plan that goes on: one of other versions does not, as long as it has no part."""
    if not (folder / PLAN).exists():
        return False
    plan = read_plan(folder)
    return any(folder.glob("part-*.json")) or plan.versions == versions_of(plan.stage, plan.versions)

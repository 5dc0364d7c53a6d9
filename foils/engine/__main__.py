"""Works on a shard plan: makes some of its shards here, starts jobs for them, or says how far it is.

    foils shard PLAN [--shards 0-99] [--engine slurm --workers 8 [--submit]]
    foils status PLAN

PLAN is the folder that holds plan.json. Any number of machines may work on one plan.
"""

import argparse
import shlex
import sys
from pathlib import Path

import msgspec

from foils.engine.commands import IMAGE, commands, submit
from foils.engine.config import EngineConfig
from foils.engine.parts import numbers_in, state_of, summary
from foils.engine.plan import read_plan
from foils.engine.run import ENGINES, finish
from foils.errors import UserError, run_entry


def main(folder: Path, shards: str | None, engine: EngineConfig, image: str | None, *, start: bool) -> None:
    """Makes shards here, or prints or starts jobs that do.

    Raises:
        UserError: there is no plan, a shard failed, or a job cannot be started.
    """
    folder = folder.resolve()
    plan = read_plan(folder)
    numbers = numbers_in(shards, len(plan.shards)) if shards else list(range(len(plan.shards)))
    if engine.kind in ENGINES:
        finish(folder, engine, folder.name, numbers)
        return
    left = state_of(folder, plan, numbers).left
    if start:
        print("\n".join(submit(folder, left, engine, image)))
        return
    for command in commands(folder, left, engine, image or IMAGE):
        print(shlex.join(command))


def _entry() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, metavar="PLAN", help="a folder with a plan.json")
    parser.add_argument("--shards", metavar="0-99", help="numbers and ranges; default: all that are left")
    parser.add_argument("--engine", default="local", help="local, ray, slurm or hf-jobs; default: %(default)s")
    for name, what in (("workers", "processes or jobs"), ("cpus-per-worker", "cores"), ("gpus-per-worker", "GPUs")):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=what)
    parser.add_argument("--address", help="of a Ray cluster; the bucket of hf-jobs")
    parser.add_argument("--image", help="the Docker image of hf-jobs")
    parser.add_argument("--submit", action="store_true", help="start the jobs of slurm or hf-jobs, not print them")
    parser.add_argument("--status", action="store_true", help="say what is done, failed and left")
    arguments = parser.parse_args()
    if arguments.status:
        print(summary(arguments.plan, read_plan(arguments.plan)))
        return
    names = ("workers", "cpus_per_worker", "gpus_per_worker", "address")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    try:
        engine = msgspec.convert({"kind": arguments.engine, **given}, EngineConfig)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        where = f"--{path[:-1].replace('_', '-').replace('kind', 'engine')}: " if path else ""
        allowed = "; allowed engines: local, ray, slurm, hf-jobs" if path == "kind`" else ""
        raise UserError(f"foils shard: {where}{problem}{allowed}") from None
    main(arguments.plan, arguments.shards, engine, arguments.image, start=arguments.submit)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))

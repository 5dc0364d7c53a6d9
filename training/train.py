"""Trains a retriever (or a cross-encoder) on one kind of negatives of a data set.

    foils train training/recipes/quickstart.toml --set kind=bm25 [--out DIR] [--processes N]
        [--push OWNER/NAME --version v1.0.0] [--preflight]

Killed at any point, it goes on from its last checkpoint when it is run again. What is finished stays: other packages,
code or hardware are recorded and reported. A folder with a run of other rows, base or recipe is refused without
`--fresh`.

`--processes N` trains on N GPUs, or in N processes on a CPU. So does `accelerate launch training/train.py RECIPE`, on
several machines too; an error ends the launcher by a signal, before it puts a traceback behind the error's line.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

if __package__ in (None, ""):  # run as a script: `training/` would stand in for the checkout's root
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from foils.__main__ import main as foils

    sys.argv[1:1] = ["train"]  # which says in one line that a package is missing
    sys.exit(foils())

import logging
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
from msgspec.structs import replace

from cards.publish.release import add_push_arguments, push_target
from foils.errors import EXIT_INTERRUPTED, UserError, run_entry
from foils.recipe import Recipe, load_recipe, recipe_arguments
from training.recipe import TrainRecipe

if TYPE_CHECKING:
    from training.identity import Run
    from training.loop.making import Job

logger = logging.getLogger(__name__)

RANK = int(os.environ.get("RANK", "0"))
"""The number of this process among those of a launch."""
FIRST_REPORTS_S = 10.0
_LAUNCHERS = (["accelerate", "launch"], ["-m", "accelerate.commands.launch"])


def main(
    recipe: Recipe[TrainRecipe], out: Path, threads: int | None = None, *, fresh: bool = False, only_look: bool = False
) -> list[Path]:
    """Trains by a recipe, or finds what it trains at `out`; returns the folders with model, card and run record.

    Args:
        recipe: what to train.
        out: the model's folder; with several seeds, `-seedN` is put behind its name for each.
        threads: CPU threads per process; the machine's cores shared between the processes by default.
        fresh: trains from the start and replaces what an earlier run has left at `out`.
        only_look: prints what pre-flight finds, of the first seed, and trains nothing.

    Raises:
        UserError: the recipe, the data set or the base is not as it must be, or `out` holds something else.
    """
    # These take ten seconds to import, which a misspelt key is not worth.
    import torch
    from accelerate import PartialState

    from foils.models import resolve_model
    from training.identity import Run
    from training.loop.arguments import check_trainer
    from training.loop.checkpoints import run_folder
    from training.model import merging
    from training.preflight.base import check_base
    from training.rows.source import resolve, resolve_more

    config, folders = recipe.config, []
    _check_devices(torch.accelerator.device_count())
    state = PartialState(cpu=not torch.accelerator.is_available())
    # A launcher gives each process one thread by default, which wastes a machine without a GPU.
    here = int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes))  # of this machine, as far as it is known
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // here))
    check_trainer(config)
    merging.check(config)
    source, also = resolve(config.dataset, config.revision), [resolve_more(more) for more in config.also]
    base = resolve_model(config.base)
    check_base(base, config.task)
    for seed in config.seeds or (config.seed,):
        folder = out.with_name(f"{out.name}-seed{seed}") if config.seeds else out
        single = replace(recipe, config=replace(config, seed=seed, seeds=()))
        run = Run(single, source, also, base, state.num_processes)
        if only_look:
            _look(run, folder)
            return []
        with run_folder(folder, run, fresh=fresh) as partial:
            if partial is not None:
                _train(run, folder, partial)
        folders.append(folder)
    return folders


def _look(run: "Run", folder: Path) -> None:
    """Prints what the training of a run will be; the trainer writes to a folder that goes.

    Raises:
        UserError: pre-flight refuses.
    """
    from training.loop.making import make
    from training.preflight.examine import examine

    with TemporaryDirectory() as scratch:
        report = examine(make(_job(run, folder, Path(scratch))))
    if not RANK:
        print(report.table())
    report.refuse(run.recipe.config.allow)


def _job(run: "Run", folder: Path, partial: Path) -> "Job":
    """Loads the rows of a run that writes to `partial` and ends up in `folder`."""
    from training.loop.making import Job
    from training.rows import mixture
    from training.rows.seen import seen_by

    config = run.recipe.config
    data = mixture.load(config, run.source, run.also)
    logger.info("%s, base %s, seed %d", data.summary(), run.base.name, config.seed)
    return Job(config, data, run.base, seen_by(run.source, run.base, run.also), partial, folder)


def _train(run: "Run", folder: Path, partial: Path) -> None:
    """Trains one model in `partial` and moves it to its `folder`."""
    from accelerate import PartialState

    from foils.hardware import PeakMemory
    from training.loop.checkpoints import MODEL, changes, finish
    from training.loop.making import make
    from training.loop.trainer import train
    from training.record import write_record

    job = _job(run, folder, partial)
    with PeakMemory() as memory:
        outcome = train(make(job))
    if PartialState().is_main_process:
        beside = {"peak_memory": memory.figures(), **({"changes": found} if (found := changes(partial)) else {})}
        write_record(run, job, partial / MODEL, outcome, beside)
        finish(partial, folder)
        logger.info("%s: trained in %.1f s", folder, outcome["seconds"])


def _check_devices(devices: int) -> None:
    """Refuses processes on this machine of which each does not have a GPU, unless these are hidden.

    Raises:
        UserError: says how many there are.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all")[:2] in {"", "-1"}
    if processes > max(devices, 1) and not hidden:
        raise UserError(
            f"num_processes {processes}: torch sees {devices} GPUs here, and each process needs one; launch as many as "
            f"there are, or on the CPU: CUDA_VISIBLE_DEVICES=-1 foils train RECIPE --processes {processes}"
        )
    if processes == 1 and devices > 1:
        logger.warning("one process trains on one of %d GPUs; --processes %d uses all", devices, devices)


def _launch(processes: int) -> int:
    """Runs this command in several processes, and returns the exit code of the first that failed."""
    import torch
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    if not torch.accelerator.is_available():
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # `main` sets the number; torch would warn that none is set
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup
        os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM,SIGINT,SIGQUIT"
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # each process says itself what is wrong
    words = ["--standalone", "--nproc-per-node", str(processes), str(Path(__file__)), *sys.argv[1:]]
    try:
        run(parse_args(words))  # type: ignore[no-untyped-call]
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            raise UserError(
                f"process {rank} was ended by signal {-failure.exitcode} (9: often for want of memory); run the "
                "same command again to go on"
            ) from None
        return failure.exitcode
    except SignalException as stopped:
        logger.warning("stopped by signal %d: run the same command again to go on", stopped.sigval)
        return 128 + stopped.sigval
    return 0


def _end_launcher() -> None:
    """Ends the `accelerate launch` above this process, if there is one, and the others that run the same command.

    Behind an error it would put a traceback of its own, and of several processes a table of all.
    """
    with suppress(psutil.Error):
        own = psutil.Process()
        parent, command = own.parent(), own.cmdline()
        words = [] if parent is None else [Path(word).name for word in parent.cmdline()]
        called = words[words[0].lower().startswith("python") :] if words else []
        is_launcher = called[:1] == ["accelerate-launch"] or called[:2] in _LAUNCHERS
        if parent is None or not is_launcher:
            return
        others = [each for each in parent.children() if each != own]
        # With several processes torch turns SIGTERM into a traceback too.
        parent.send_signal(signal.SIGUSR1 if "RANK" in os.environ else signal.SIGTERM)
        for other in others:
            with suppress(psutil.Error):
                if other.cmdline() == command:
                    other.terminate()


def _entry() -> None:
    try:
        _run()
    except RuntimeError as error:
        # gloo's words where a process has gone that this one talks to
        if "by peer" not in str(error) or int(os.environ.get("WORLD_SIZE", "1")) == 1:
            raise
        raise UserError(
            "another process of this training has ended; see what it printed on its machine, then run the same "
            "command again on every machine to go on"
        ) from None
    except UserError:
        if RANK:  # the first process reports what all have met; the launcher then ends the others
            time.sleep(FIRST_REPORTS_S)
        raise
    except KeyboardInterrupt:
        if RANK:
            sys.exit(EXIT_INTERRUPTED)
        raise


def _run() -> None:
    if RANK:
        logging.getLogger().setLevel(logging.ERROR)
    parser = recipe_arguments(__doc__)
    parser.add_argument("--out", type=Path, help="the model's folder; default: outputs/models/KIND-seedN")
    parser.add_argument("--processes", type=int, default=1, help="on this machine, one for each GPU; default: 1")
    parser.add_argument("--threads", type=int, help="CPU threads per process; default: all cores, shared")
    parser.add_argument(
        "--fresh", action="store_true", help="train from the start and replace what an earlier run has left in --out"
    )
    parser.add_argument("--preflight", action="store_true", help="print what pre-flight finds, and train nothing")
    add_push_arguments(parser, licence=True)
    arguments = parser.parse_args()
    target = push_target(arguments)
    recipe = load_recipe(arguments.recipe, arguments.overrides, TrainRecipe)
    config = recipe.config
    default = Path("outputs") / "models" / (config.kind if config.seeds else f"{config.kind}-seed{config.seed}")
    if target is not None and len(config.seeds) > 1:
        parser.error("--push takes one model; name one seed, or publish each with training.publish FOLDER --push ...")
    options = {"fresh": arguments.fresh, "only_look": arguments.preflight}
    if arguments.processes < 1:
        parser.error(f"--processes {arguments.processes}: wanted 1 or more")
    if arguments.processes > 1 and "RANK" not in os.environ:
        sys.exit(_launch(arguments.processes))
    folders = main(recipe, arguments.out or default, arguments.threads, **options)
    if target is not None and folders and not RANK:
        from training.publish import publish_model

        publish_model(folders[-1], target)


if __name__ == "__main__":
    try:
        sys.exit(run_entry(_entry))
    except SystemExit as ended:
        if ended.code and ended.code != EXIT_INTERRUPTED:  # Ctrl-C reaches the launcher too
            _end_launcher()
        raise

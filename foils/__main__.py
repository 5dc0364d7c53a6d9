"""The command `foils`: one name for every step, each the same as its `python -m` form.

foils build RECIPE        python -m builders.build RECIPE
"""

import runpy
import signal
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from foils.errors import UserError, run_entry


class Command(NamedTuple):
    """A step that can be run by itself.

    Attributes:
        module: what `python -m` runs.
        takes: what its command line begins with.
        purpose: what it does, in one line.
        options: further arguments that the name stands for.
    """

    module: str
    takes: str
    purpose: str
    options: tuple[str, ...] = ()


GROUPS: dict[str, dict[str, Command]] = {
    "From a corpus to a verdict": {
        "doctor": Command("builders.build", "RECIPE", "try the LLM's endpoint with real requests", ("--doctor",)),
        "build": Command("builders.build", "RECIPE", "make a data set: queries, negatives of every kind, selection"),
        "train": Command("training.train", "RECIPE", "train a retriever or a cross-encoder on one kind of negatives"),
        "eval": Command("eval.run", "RECIPE", "measure a model beside its untouched base"),
        "compare": Command("eval.compare", "RECIPE", "train and measure every kind; say which is better, how surely"),
        "judge": Command("builders.judge", "DATASET", "grade what a comparison found for an exam"),
        "report": Command("eval.report", "FOLDER", "make a comparison's page, pictures and CSV again"),
    },
    "Before training": {
        "select": Command("builders.selection", "DATASET", "choose a data set's negatives again by other rules"),
        "audit": Command("builders.audit", "DATASET", "count the chosen negatives that answer their query after all"),
        "leakage": Command("builders.leakage", "DATASET", "look for texts of evaluation sets in a data set"),
        "realism": Command("builders.realism", "DATASET", "compare generated texts with real ones"),
        "preflight": Command("training.train", "RECIPE", "check a training without running it", ("--preflight",)),
        "calls": Command("builders.calls", "show STORE", "look at the stored answers of an LLM"),
    },
    "Beyond one machine": {
        "shard": Command("foils.engine", "PLAN", "make shards of a plan here, or start jobs for them"),
        "status": Command("foils.engine", "PLAN", "say what of a plan is done, failed and left", ("--status",)),
    },
    "On the Hub": {
        "publish": Command("builders.publish", "FOLDER --push NAME", "publish a data set or a model as a new version"),
        "export": Command("training.export", "FOLDER --to FORMATS", "add ONNX and OpenVINO files to a model"),
        "verify": Command("cards.verify", "NAME", "check a model or a data set against all that it states"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def page() -> str:
    """The help: every command with what it takes and does."""
    width = max(len(f"{name} {command.takes}") for name, command in COMMANDS.items())
    lines = ["Foils says which hard negatives should train a retriever on your corpus, and trains it."]
    for title, group in GROUPS.items():
        lines += ["", title]
        lines += [f"  foils {f'{name} {command.takes}':{width}}  {command.purpose}" for name, command in group.items()]
    return "\n".join(
        [
            *lines,
            "",
            "`foils COMMAND --help` says more. Recipes lie in */recipes/*.toml; `--set key=value` changes one.",
            "Several GPUs: foils train RECIPE --processes 8.",
        ]
    )


def _entry() -> None:
    name, *arguments = sys.argv[1:] or ["--help"]
    if not {"-h", "--help", "help"}.isdisjoint([name, *arguments]):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `foils --help | head` ends without a traceback
    if name in {"-h", "--help", "help"}:
        print(page())
        return
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        wanted = f"did you mean {near[0]}?" if near else f"wanted one of {', '.join(COMMANDS)}"
        raise UserError(f"foils {name}: no such command; {wanted} `foils --help` lists them all")
    command = COMMANDS[name]
    is_model = name == "publish" and any(Path(argument, "run.json").exists() for argument in arguments)
    sys.argv[1:] = [*arguments, *command.options]
    runpy.run_module("training.publish" if is_model else command.module, run_name="__main__", alter_sys=True)


def main() -> int:
    """Runs the command that the arguments name, and returns its exit code."""
    return run_entry(_entry)


if __name__ == "__main__":
    sys.exit(main())

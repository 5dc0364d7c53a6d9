"""Compares arms: the same training on each kind of negatives, or with whatever an arm sets, beside the untouched base.

    python -m eval.compare eval/recipes/quickstart.toml [--set seeds=[1,2,3]] [--push]
    python -m eval.compare eval/recipes/paper.toml --dry-run

Every training and every evaluation is a process of its own. What is finished is not run again, so the command can be
killed and started again, and a new arm, seed or base costs only itself.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from eval.recipe import CompareRecipe
from foils.errors import UserError, run_entry
from foils.recipe import Recipe, load_recipe, recipe_arguments

if TYPE_CHECKING:
    from eval.measure.tasks import Task
    from eval.plan import Plan


def main(recipe: Recipe[CompareRecipe], *, push: bool = False, fresh: bool = False) -> None:
    """Runs what is missing, then prints the tables and writes the report, base by base.

    Where runs fail, the arms that finished with every seed are reported all the same, and so are the other bases. The
    data set's card says what the first base's comparison found.

    Args:
        recipe: the comparison.
        push: whether the data set's repository gets summary and forest plot into its card, as all folders here do.
        fresh: models of other rows or of another recipe are trained again and replaced.

    Raises:
        UserError: the recipe is not as it must be, or a run failed; what finished is kept.
    """
    # These take seven seconds to import, which nobody should wait for only to read of a misspelt key.
    from eval.gathering import reported
    from eval.measure.tasks import load_tasks
    from eval.plan import Run
    from eval.report import cards, terminal
    from eval.runs import check, execute
    from foils.comparison import Comparison
    from foils.verdicts import BASE

    config = recipe.config
    if push and (Path(config.dataset).exists() or config.dataset.count("/") != 1):
        raise UserError(f"--push: dataset {config.dataset} is not a Hub repository; publish it, and name it OWNER/NAME")
    _build(config)
    config = with_tasks(config)
    tasks = load_tasks(config.tasks, config.ignore_identical_ids)
    comparisons, problems = list[Comparison](), list[UserError]()
    for plan in _plans(config, tasks, problems, fresh=fresh):
        try:
            base = [Run(BASE, 0)]
            check(plan, base, execute(plan, base, jobs=1))  # first: all others set their scores beside these
            failed = execute(plan, plan.runs(), plan.config.jobs)
            finished = plan.without(failed)
            if finished.config.arms:
                comparisons.append(reported(finished, recipe, tasks))
            check(plan, plan.runs(), failed)
        except UserError as error:
            problems.append(error)
    if len(comparisons) > 1:
        print(f"\nnDCG@10 less that of each base\n{terminal.bases_table(comparisons)}")
    if comparisons:
        content = cards.for_card(comparisons[0])
        cards.write_card(Path(config.dataset), content)
        if push:
            cards.push_card(config.dataset, content)
    if problems:
        raise problems[0] if len(problems) == 1 else UserError("; ".join(map(str, problems)))


def _plans(config: CompareRecipe, tasks: "Sequence[Task]", problems: list[UserError], *, fresh: bool) -> "list[Plan]":
    """The plans of all bases whose arms can be run; what is wrong with the others is put to the problems."""
    from eval.arms import check_arms
    from eval.plan import make_plan

    plans = []
    for training, part in config.by_base().items():
        try:
            plan = make_plan(part, training, tasks, fresh=fresh)
            check_arms(plan)
            plans.append(plan)
        except UserError as error:
            problems.append(error)
    return plans


def dry_run(config: CompareRecipe) -> None:
    """Prints which runs are done and to do, base by base, and how long the latter take by those that finished.

    Raises:
        UserError: the recipe is not as it must be.
    """
    from eval.measure.tasks import load_tasks
    from eval.plan import forecast, make_plan

    if config.build is not None and not Path(config.dataset).exists():
        build = config.build.recipe
        print(f"{config.dataset} is not built yet; its calls, money and time: builders.build {build} --dry-run")
        if not config.tasks:  # its exam, which is not there yet
            return
    config = with_tasks(config)
    tasks = load_tasks(config.tasks, config.ignore_identical_ids)
    for training, part in config.by_base().items():
        print(forecast(make_plan(part, training, tasks)))


def _build(config: CompareRecipe) -> None:
    """Builds the data set's folder, if it is not there and the recipe says how.

    Raises:
        UserError: the build failed; run again, it goes on.
    """
    if config.build is None or Path(config.dataset).exists():
        return
    values = (word for value in config.build.set for word in ("--set", value))
    command = [sys.executable, "-m", "builders.build", config.build.recipe, *values, "--out", config.dataset]
    if subprocess.run(command, check=False).returncode != 0:
        raise UserError(f"build {config.build.recipe}: did not end well, see above; run again, and it goes on")


def with_tasks(config: CompareRecipe) -> CompareRecipe:
    """The comparison with its tasks: where it names none, the exam of its data set, with BM25 beside it.

    People's own queries that stand beside an LLM's are a second task, which is left out of the advice.

    Raises:
        UserError: it names none, and the data set has no exam.
    """
    from eval.measure.tasks import OWN, exam_of

    if config.tasks:
        return config
    exam = exam_of(config.dataset, config.revision)
    if exam is None:
        raise UserError(
            f"tasks: none named, and dataset {config.dataset} has no exam; add [exam] to the building recipe, build "
            "again, or name tasks"
        )
    place = config.dataset if Path(config.dataset).is_dir() else f"{config.dataset}@{config.revision}"
    return replace(config, tasks=(place, *([f"{place}#{OWN}"] if exam.own else [])), baselines=("bm25",))


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument(
        "--push", action="store_true", help="put summary and forest plot into the card of the data set's repository"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="train models of other rows or another recipe again, and replace them"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say which runs are done and to do, and how long")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.overrides, CompareRecipe)
    if arguments.dry_run:
        dry_run(recipe.config)
    else:
        from eval.runs import stop

        signal.signal(signal.SIGTERM, stop)
        main(recipe, push=arguments.push, fresh=arguments.fresh)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))

"""Compares kinds of negatives: the same training on each, the same tasks, the untouched base on top.

    python -m eval.compare eval/recipes/quickstart.toml [--set seeds=[1,2,3]] [--push]
    python -m eval.compare eval/recipes/paper.toml --dry-run

Every training and every evaluation is a process of its own. What is finished is not run again, so the command can be
killed and started again, and a new arm, seed or base costs only itself.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cards.comparison import Comparison
from eval import announce
from eval.bases import on_one_base, write_over_bases
from eval.encoder import resolve_precision
from eval.forecast import forecast
from eval.one_base import Outcome, compare_on_base
from eval.page import OneBase, mean_of
from eval.recipe import CompareRecipe
from eval.report import comparison_table
from eval.task_list import load_tasks
from eval.tasks import Reading
from foils.errors import UserError, run_entry
from foils.recipe import Recipe, load_recipe, recipe_arguments


def main(recipe: Recipe[CompareRecipe], *, push: bool = False, fresh: bool = False) -> None:
    """Runs what is missing, then prints the tables and writes `comparison.json`, `report.html` and every number as CSV.

    Where runs fail, the arms that finished with every seed are reported all the same; so are the other bases.

    Args:
        recipe: the comparison.
        push: whether the data set's repository gets summary and forest plot into its card, as all folders here do.
        fresh: models of other rows or of another recipe are trained again and replaced.

    Raises:
        UserError: the recipe is not as it must be, or a run failed; what finished is kept.
    """
    config = recipe.config
    if push and (Path(config.dataset).exists() or config.dataset.count("/") != 1):
        raise UserError(f"--push: dataset {config.dataset} is no Hub repository; publish it, and name it OWNER/NAME")
    _build(config)
    tasks = load_tasks(config.tasks, Reading(None, config.ignore_identical_ids))
    parts = on_one_base(recipe)
    outcomes, problems = dict[str, Outcome](), list[UserError]()
    for training, part in parts.items():
        try:
            outcome = compare_on_base(part, training, tasks, fresh=fresh)
        except UserError as problem:
            problems.append(problem)
            continue
        problems += [outcome.problem] if outcome.problem is not None else []
        if outcome.told is not None:
            outcomes[part.config.folder().name] = outcome
    if outcomes:
        told = next(iter(outcomes.values())).told if len(parts) == 1 else _over_bases(recipe, outcomes)
        if told is not None:
            announce.write_dataset_card(config.dataset, told)
            if push:
                announce.push_card(config.dataset, told)
    if problems:
        raise problems[0] if len(problems) == 1 else UserError("; ".join(map(str, problems)))


def _build(config: CompareRecipe) -> None:
    """Builds the data set's folder, if it is not there and the recipe says how.

    Raises:
        UserError: the build ended otherwise than well; run again, it goes on.
    """
    if config.build is None or Path(config.dataset).exists():
        return
    values = (word for value in config.build.set for word in ("--set", value))
    command = [sys.executable, "-m", "builders.build", config.build.recipe, *values, "--out", config.dataset]
    if subprocess.run(command, check=False).returncode != 0:
        raise UserError(f"build {config.build.recipe}: did not end well, see above; run again, and it goes on")


def _over_bases(recipe: Recipe[CompareRecipe], outcomes: Mapping[str, Outcome]) -> Comparison:
    """Prints and writes the mean over the bases that came to something: folder of a base's report -> its outcome."""
    config, precision = recipe.config, resolve_precision(recipe.config.precision)
    bases = [OneBase(outcome.base, f"{folder}/report.html", outcome.tables) for folder, outcome in outcomes.items()]
    found, numbers = write_over_bases(recipe, bases, [outcome.measured for outcome in outcomes.values()], precision)
    names = [base.name for base in bases]
    print(f"\nMean over {len(names)} bases: {', '.join(names)}. No interval speaks of further bases.")
    for table in found:
        print(f"\n{comparison_table(table, config, precision)}")
    print(f"\nreport    {config.folder() / 'report.html'}, numbers {config.folder() / 'comparison.json'}")
    return announce.comparison(config, mean_of(bases), found, numbers)


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument(
        "--push", action="store_true", help="put summary and forest plot into the card of the data set's repository"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="train models of other rows or another recipe again, and replace them"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what it would take: calls, GPU hours, money")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.overrides, CompareRecipe)
    if arguments.dry_run:
        tasks = load_tasks(recipe.config.tasks, Reading(None, recipe.config.ignore_identical_ids))
        print(forecast(recipe.config, list(on_one_base(recipe)), tasks))
        return
    main(recipe, push=arguments.push, fresh=arguments.fresh)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))

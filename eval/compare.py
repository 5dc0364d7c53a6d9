"""Compares kinds of negatives: the same training on each, the same tasks, the untouched base on top.

    python -m eval.compare eval/recipes/quickstart.toml [--set seeds=[1,2,3]] [--push]
    python -m eval.compare eval/recipes/paper.toml --dry-run

Every training and every evaluation is a process of its own. What is finished is not run again, so the command can be
killed and started again, and a new arm, seed or base costs only itself.
"""

import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from eval.gathering import gathered
from eval.measure.encoder import resolve_precision
from eval.measure.results import MEASURING
from eval.measure.task_data import Reading
from eval.measure.tasks import Task, load_tasks
from eval.recipe import CompareRecipe
from eval.report import cards
from eval.report.files import write_comparison
from eval.report.terminal import bases_table, comparison_text
from eval.runs import READING, Plan, Run, check, execute, forecast
from foils.comparison import BASE, Comparison, RecipeText
from foils.errors import UserError, run_entry
from foils.hub import pin
from foils.provenance import sha256_file, sha256_json
from foils.recipe import Recipe, load_recipe, recipe_arguments


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
    config = recipe.config
    if push and (Path(config.dataset).exists() or config.dataset.count("/") != 1):
        raise UserError(f"--push: dataset {config.dataset} is not a Hub repository; publish it, and name it OWNER/NAME")
    _build(config)
    tasks = load_tasks(config.tasks, Reading(None, config.ignore_identical_ids))
    comparisons, problems = list[Comparison](), list[UserError]()
    for training, part in by_base(config).items():
        try:
            plan = _plan(part, training, tasks, fresh=fresh)
            base = [Run(BASE, 0)]
            check(plan, base, execute(plan, base, jobs=1))  # first: all others set their scores beside these
            failed = execute(plan, plan.runs(), config.jobs)
            finished = plan.without(failed)
            if finished.config.arms:
                comparisons.append(_report(finished, recipe, tasks))
            check(plan, plan.runs(), failed)
        except UserError as error:
            problems.append(error)
    if len(comparisons) > 1:
        print(f"\nnDCG@10 less that of each base\n{bases_table(comparisons)}")
    if comparisons:
        content = cards.for_card(comparisons[0])
        cards.write_card(Path(config.dataset), content)
        if push:
            cards.push_card(config.dataset, content)
    if problems:
        raise problems[0] if len(problems) == 1 else UserError("; ".join(map(str, problems)))


def by_base(config: CompareRecipe) -> dict[str, CompareRecipe]:
    """Training recipe -> the comparison on its base; of several, each in a folder named as its training recipe.

    Raises:
        UserError: two of them have the same name, and so would share a folder.
    """
    if isinstance(config.training, str):
        return {config.training: config}
    stems = Counter(Path(training).stem for training in config.training)
    name, count = stems.most_common(1)[0]
    if count > 1:
        raise UserError(
            f"training: {count} recipes are called {name}, and each base's folder has its recipe's name; rename all "
            "but one"
        )
    return {
        training: msgspec.structs.replace(
            config, name=f"{config.name}, {stem}", training=training, out=str(config.folder() / stem)
        )
        for training, stem in zip(config.training, stems, strict=True)
    }


def dry_run(config: CompareRecipe) -> None:
    """Prints which runs are done and to do, base by base, and how long the latter take by those that finished.

    Raises:
        UserError: the recipe is not as it must be.
    """
    tasks = load_tasks(config.tasks, Reading(None, config.ignore_identical_ids))
    if config.build is not None and not Path(config.dataset).exists():
        build = config.build.recipe
        print(f"{config.dataset} is not built yet; its calls, money and time: builders.build {build} --dry-run")
    for training, part in by_base(config).items():
        print(forecast(_plan(part, training, tasks)))


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


def _plan(config: CompareRecipe, training: str, tasks: Sequence[Task], *, fresh: bool = False) -> Plan:
    """The runs of a comparison on one base.

    The fingerprint changes with anything that could change a run's figures. A run is then looked at again: training and
    evaluation decide by their own records what must be made anew.

    Raises:
        UserError: the training recipe is not one with a base, or the data set's tag has moved.
    """
    try:
        text = Path(training).read_text("utf-8")
        values = tomllib.loads(text)
        base = str(values["base"])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UserError(
            f"training {training}: not a training recipe with a base ({type(error).__name__}: {error})"
        ) from None
    fingerprint = sha256_json(
        {
            "dataset": _dataset_revision(config),
            "training": text,
            "precision": resolve_precision(config.precision),
            "tasks": [(task.name, task.revision, task.ignores_identical_ids) for task in tasks],
            "measuring": MEASURING,
        }
    )
    return Plan(config, training, base, {key: values[key] for key in READING if key in values}, fingerprint, fresh)


def _dataset_revision(config: CompareRecipe) -> str:
    """What pins the data set's content; a tag is looked up once, so that all arms train on the same commit."""
    manifest = Path(config.dataset) / "manifest.json"
    if manifest.exists():
        return sha256_file(manifest)
    if Path(config.dataset).is_dir() or config.revision is None:  # training says what is wrong, or reads plain files
        return f"{config.dataset}@{config.revision}"
    return pin(config.dataset, config.revision, "dataset")


def _report(plan: Plan, recipe: Recipe[CompareRecipe], tasks: Sequence[Task]) -> Comparison:
    """Writes and prints what the finished runs found, and puts it into the cards of their models."""
    comparison = gathered(plan, RecipeText(recipe.text, recipe.overrides), tasks)
    out = plan.config.folder()
    write_comparison(out, comparison)
    content = cards.for_card(comparison)
    for run in plan.runs():
        cards.write_card(Path(plan.model(run)), content, this=f"arm `{run.arm}`, seed {run.seed},")
    print(f"\n{comparison_text(comparison)}")
    print(f"\ndata set  {comparison.dataset}\nmodels    {out / 'models'} (each with its card)")
    print(f"report    {out / 'report.html'}")
    return comparison


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
        main(recipe, push=arguments.push, fresh=arguments.fresh)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))

"""Compares kinds of negatives: the same training on each, the same tasks, the untouched base on top.

    python -m eval.compare eval/recipes/quickstart.toml [--set seeds=[1,2,3]] [--push]

Every training and every evaluation is a process of its own. What is finished is not run again, so the command can be
killed and started again, and a new arm or seed costs only itself.
"""

import logging
import sys
import tomllib
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import msgspec

from cards.errors import UserError, run_entry
from cards.evidence import read_rankings
from cards.hub import pin
from cards.metrics import PerQuery
from cards.models import resolve_model
from cards.provenance import code_version, package_versions, sha256_file, sha256_json
from cards.recipe import Recipe, load_recipe, recipe_arguments
from eval import announce
from eval.account import read_account
from eval.changed import changes, query_lines, texts_of
from eval.costs import costs
from eval.encoder import resolve_precision
from eval.guarantees import lines, losses, read_record, shared_by
from eval.numbers import write_numbers
from eval.page import About, ArmChanges, TaskQueries, write_report
from eval.recipe import CompareRecipe
from eval.report import comparison_table, costs_table
from eval.results import Key, read_scores
from eval.run import base_prompts
from eval.runs import BASE, PROMPTS, Plan, Run, check, execute
from eval.tables import Measured, Runs, tables
from eval.tasks import Task, load_task

logger = logging.getLogger(__name__)

_MEASURING = tuple(
    f"eval/{name}.py"
    for name in "encoder measuring per_query prompts recipe results run task_files tasks".split()  # noqa: SIM905
)
"""What a run's figures come from; what is said of them can change without a new run."""


def main(recipe: Recipe[CompareRecipe], *, push: bool = False) -> None:
    """Runs what is missing, then prints the tables and writes `comparison.json`, `report.html` and every number as CSV.

    Where runs fail, the arms that finished with every seed are reported all the same.

    Args:
        recipe: the comparison.
        push: whether the data set's repository gets summary and forest plot into its card, as all folders here do.

    Raises:
        UserError: the recipe is not as it must be, or a run failed; what finished is kept.
    """
    config = recipe.config
    if push and (Path(config.dataset).exists() or config.dataset.count("/") != 1):
        raise UserError(f"--push: dataset {config.dataset} is no Hub repository; publish it, and name it OWNER/NAME")
    tasks = [load_task(reference) for reference in config.tasks]
    plan = Plan(config, *_training_recipe(Path(config.training)), _fingerprint(config, tasks))
    base, runs = Run(BASE, 0), [Run(arm, seed) for arm, seed in product(config.arms, config.seeds)]
    check(plan, [base], execute(plan, [base], jobs=1))  # first: every other run sets its scores beside these
    failed = execute(plan, runs, config.jobs)
    arms = tuple(arm for arm in config.arms if arm not in {run.arm for run in failed})
    if arms:
        _report(plan._replace(config=msgspec.structs.replace(config, arms=arms)), recipe, tasks, push=push)
    check(plan, runs, failed)


def _report(plan: Plan, recipe: Recipe[CompareRecipe], tasks: Sequence[Task], *, push: bool) -> None:
    """Says what the finished runs of a plan's arms found."""
    config, out = plan.config, plan.config.folder()
    records = {
        run.name: read_record(Path(plan.model(run)))
        for run in (Run(arm, seed) for arm, seed in product(config.arms, config.seeds))
    }
    account = read_account(config.dataset, config.revision)
    shared, spent = shared_by(records), costs(config, account, records)
    measured = [_measured(plan, task) for task in tasks]
    found = tables(measured, config.margin, logger.info)
    precision = resolve_precision(config.precision)
    comparison = {
        "name": config.name,
        "recipe": {"text": recipe.text, "overrides": recipe.overrides},
        "base": plan.base,
        "arms": config.arms,
        "seeds": config.seeds,
        "precision": precision,
        "guarantees": shared.guarantees,
        "tokens_of_a_row": shared.tokens,
        "costs": spent,
        "margin": config.margin,
        "tables": found,
        "packages": package_versions(),
    }
    numbers = msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n"
    (out / "comparison.json").write_bytes(numbers)
    write_numbers(out, measured, found)
    queries = [_queries(plan, task, scored.runs) for task, scored in zip(tasks, measured, strict=True)]
    about = About(config, resolve_model(plan.base).name, precision, shared, spent, account, losses(records))
    report = write_report(out, about, found, queries)
    told = announce.comparison(about, found, numbers)
    announce.write_cards(plan, told)
    for table in found:
        print(f"\n{comparison_table(table, config, precision)}")
    print(f"\n{costs_table(spent, found[-1])}")
    print("\n" + "\n".join(lines(shared)))
    print(f"\ndata set  {config.dataset}\nmodels    {out / 'models'} (each with its card)")
    print(f"report    {report}")
    if push:
        announce.push_card(config.dataset, told)


def _measured(plan: Plan, task: Task) -> Measured:
    runs: dict[str, dict[int, PerQuery]] = {BASE: {0: _scores(plan, Run(BASE, 0), task)}}
    for arm in plan.config.arms:
        runs[arm] = {seed: _scores(plan, Run(arm, seed), task) for seed in plan.config.seeds}
    return Measured(task.name, task.revision, runs)


def _queries(plan: Plan, task: Task, runs: Runs) -> TaskQueries:
    texts, qrels = texts_of(task), task.qrels()
    before = read_rankings(_result(plan, Run(BASE, 0), task) / "rankings.parquet")
    arms = []
    for arm in plan.config.arms:
        after = read_rankings(_result(plan, Run(arm, plan.config.seeds[0]), task) / "rankings.parquet")
        arms.append(ArmChanges(arm, *changes(runs, arm, (before, after), qrels, texts)))
    return TaskQueries(task.name, list(runs), query_lines(runs, texts), arms)


def _scores(plan: Plan, run: Run, task: Task) -> PerQuery:
    return read_scores(_result(plan, run, task))


def _result(plan: Plan, run: Run, task: Task) -> Path:
    model = resolve_model(plan.model(run))
    prompts = base_prompts(plan.evaluation(run), model, model) if run.arm == BASE else None
    key = Key(model.weights, resolve_precision(plan.config.precision), task.name, task.revision, prompts)
    return key.folder(plan.config.folder() / "results")


def _fingerprint(config: CompareRecipe, tasks: Sequence[Task]) -> str:
    """Changes with anything that could change a run's figures."""
    return sha256_json(
        {
            "dataset": _dataset_revision(config),
            "training": Path(config.training).read_text("utf-8"),
            "precision": resolve_precision(config.precision),
            "tasks": {task.name: task.revision for task in tasks},
            "code": code_version("training", "cards", *_MEASURING)["sha256"],
            "packages": dict(package_versions()),
        }
    )


def _dataset_revision(config: CompareRecipe) -> str:
    """What pins the data set's content; a tag is looked up once, so that all arms train on the same commit."""
    manifest = Path(config.dataset) / "manifest.json"
    if manifest.exists():
        return sha256_file(manifest)
    if Path(config.dataset).is_dir() or config.revision is None:  # training says what is wrong, or reads plain files
        return f"{config.dataset}@{config.revision}"
    return pin(config.dataset, config.revision, "dataset")


def _training_recipe(recipe: Path) -> tuple[str, dict[str, str]]:
    """What a comparison needs to know of its training recipe: the base, and the prompts that it sets."""
    try:
        values = tomllib.loads(recipe.read_text("utf-8"))
        return str(values["base"]), {key: str(values[key]) for key in PROMPTS if key in values}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UserError(
            f"training {recipe}: not a training recipe with a base ({type(error).__name__}: {error})"
        ) from None


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument(
        "--push", action="store_true", help="put summary and forest plot into the card of the data set's repository"
    )
    arguments = parser.parse_args()
    main(load_recipe(arguments.recipe, arguments.overrides, CompareRecipe), push=arguments.push)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))

"""A comparison on one base: the runs that are missing, then tables, report, cards and every number as CSV."""

import logging
import tomllib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from cards.comparison import Comparison
from eval import announce
from eval.account import read_account
from eval.changed import changes, query_lines, texts_of
from eval.costs import costs
from eval.encoder import resolve_precision
from eval.guarantees import lines, losses, read_record, shared_by
from eval.measuring import Measurable
from eval.numbers import write_numbers
from eval.page import About, ArmChanges, TaskQueries, write_report
from eval.prompts import Prompts
from eval.recipe import CompareRecipe
from eval.report import comparison_table, costs_table
from eval.results import MEASURING, read_result, read_scores
from eval.run import base_pooling, base_prompts
from eval.runs import BASE, READING, Plan, Run, execute, failure
from eval.tables import Measured, Runs, Table, tables
from eval.tasks import Task
from foils.errors import UserError
from foils.evidence import read_rankings
from foils.hub import pin
from foils.metrics import PerQuery
from foils.models import resolve_model
from foils.provenance import package_versions, sha256_file, sha256_json
from foils.recipe import Recipe

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What a comparison on one base came to.

    Attributes:
        base: the model that all arms started from.
        measured: by task, the arms that finished with every seed; none if no arm did.
        tables: what follows from it, the last for all tasks.
        told: for cards; None if no arm finished.
        problem: of the runs that failed; None if none did.
    """

    base: str
    measured: list[Measured]
    tables: list[Table]
    told: Comparison | None
    problem: UserError | None


def compare_on_base(
    recipe: Recipe[CompareRecipe], training: str, tasks: Sequence[Task], *, fresh: bool = False
) -> Outcome:
    """Runs what is missing, and reports the arms that finished with every seed.

    Args:
        recipe: the comparison.
        training: the training recipe, which names the base.
        tasks: where all is measured.
        fresh: models of other rows or of another recipe are trained again and replaced.

    Raises:
        UserError: the training recipe is not as it must be, or the base could not be measured.
    """
    config = recipe.config
    plan = Plan(config, training, *_training_recipe(Path(training)), _fingerprint(config, training, tasks), fresh)
    base, runs = Run(BASE, 0), [Run(arm, seed) for arm, seed in product(config.arms, config.seeds)]
    broken = failure(plan, [base], execute(plan, [base], jobs=1))  # first: all others set their scores beside these
    if broken is not None:
        raise broken
    failed = execute(plan, runs, config.jobs)
    arms = tuple(arm for arm in config.arms if arm not in {run.arm for run in failed})
    name = resolve_model(plan.base).name
    if not arms:
        return Outcome(name, [], [], None, failure(plan, runs, failed))
    finished = plan._replace(config=msgspec.structs.replace(config, arms=arms))
    return Outcome(name, *_report(finished, name, recipe, tasks), failure(plan, runs, failed))


def _report(
    plan: Plan, base: str, recipe: Recipe[CompareRecipe], tasks: Sequence[Task]
) -> tuple[list[Measured], list[Table], Comparison]:
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
    known = read_result(_result(plan, Run(BASE, 0), tasks[0]))
    drift = known.drift if known else None
    comparison = {
        "name": config.name,
        "recipe": {"text": recipe.text, "overrides": recipe.overrides},
        "base": plan.base,
        "arms": config.arms,
        "seeds": config.seeds,
        "precision": precision,
        "drift_of_base": drift,
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
    about = About(config, base, precision, shared, spent, account, losses(records))
    report = write_report(out, about, found, queries)
    told = announce.comparison(config, base, found, numbers)
    announce.write_model_cards(plan, told)
    print(f"\nbase: {base}")
    for table in found:
        print(f"\n{comparison_table(table, config, precision)}")
    print(f"\n{costs_table(spent, found[-1])}")
    print("\n" + "\n".join(lines(shared)))
    if drift is not None:
        print(f"\n{precision} beside fp32, the base on texts of {tasks[0].name}: {drift.told()}")
    print(f"\ndata set  {config.dataset}\nmodels    {out / 'models'} (each with its card)")
    print(f"report    {report}")
    return measured, found, told


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
    how: tuple[Prompts | None, str | None] = (None, None)
    if run.arm == BASE:
        recipe = plan.evaluation(run)
        how = base_prompts(recipe, model, model), base_pooling(recipe, model, model)
    key = Measurable(model, task, resolve_precision(plan.config.precision), *how).key()
    return key.folder(plan.config.folder() / "results")


def _fingerprint(config: CompareRecipe, training: str, tasks: Sequence[Task]) -> str:
    """Changes with anything that could change a run's figures.

    A run is then looked at again: training and evaluation decide by their own records what must be made anew.
    """
    return sha256_json(
        {
            "dataset": _dataset_revision(config),
            "training": Path(training).read_text("utf-8"),
            "precision": resolve_precision(config.precision),
            "tasks": [(task.name, task.revision, task.ignores_identical_ids) for task in tasks],
            "measuring": MEASURING,
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


def _training_recipe(recipe: Path) -> tuple[str, dict[str, Any]]:
    """What a comparison needs to know of its training recipe: the base, and how it has it read texts."""
    try:
        values = tomllib.loads(recipe.read_text("utf-8"))
        return str(values["base"]), {key: values[key] for key in READING if key in values}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UserError(
            f"training {recipe}: not a training recipe with a base ({type(error).__name__}: {error})"
        ) from None

"""What the finished runs of a comparison left, gathered into one record."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.measure.encoder import resolve_precision
from eval.measure.prompts import Prompts
from eval.measure.results import read_result, read_scores
from eval.measure.search import Measurable
from eval.measure.tasks import Task
from eval.report import dataset, trainings
from eval.report.queries import task_queries
from eval.run import base_pooling, base_prompts
from eval.runs import Plan, Run
from eval.statistics.tables import Measured, tables
from foils.comparison import BASE, Comparison, RecipeText
from foils.errors import UserError
from foils.evidence import read_rankings
from foils.metrics import Rankings
from foils.models import resolve_model
from foils.provenance import package_versions
from foils.records import RunRecord, read_record

logger = logging.getLogger(__name__)


def gathered(plan: Plan, recipe: RecipeText, tasks: Sequence[Task]) -> Comparison:
    """Reads what finished runs left, and compares.

    Args:
        plan: whose arms finished with every seed.
        recipe: as it was given.
        tasks: that were measured on.

    Raises:
        UserError: a record or a result is missing or broken, or runs were measured on different queries.
    """
    config = plan.config
    records = {run.name: _record(Path(plan.model(run))) for run in plan.runs()}
    by_arm = {arm: [records[Run(arm, seed).name] for seed in config.seeds] for arm in config.arms}
    account = dataset.read_account(config.dataset, config.revision)
    folders = _results(plan, tasks)
    measured = [
        Measured(
            task.name,
            task.revision,
            {
                arm: {seed: read_scores(folders[Run(arm, seed), task.name]) for seed in seeds}
                for arm, seeds in ((BASE, (0,)), *((arm, config.seeds) for arm in config.arms))
            },
        )
        for task in tasks
    ]
    known = read_result(folders[Run(BASE, 0), tasks[0].name])
    return Comparison(
        name=config.name,
        recipe=recipe,
        dataset=config.dataset,
        revision=config.revision,
        training=plan.training,
        base=plan.base,
        base_name=resolve_model(plan.base).name,
        arms=config.arms,
        seeds=config.seeds,
        margin=config.margin,
        precision=resolve_precision(config.precision),
        drift_of_base=known.drift if known else None,
        guarantees=trainings.guarantees(records),
        tokens_of_a_row=trainings.tokens_of_a_row(by_arm),
        costs=dataset.costs(account, by_arm),
        tables=tables(measured, config.margin, logger.info),
        packages=dict(package_versions()),
        losses=trainings.losses(by_arm),
        funnel=account.manifest.funnel if account else {},
        reasons=dataset.reasons(account, config.arms),
        examples=dataset.examples(account, config.arms),
        hardness=dataset.hardness(account),
        queries=[
            task_queries(task, scored.runs, *_rankings(plan, folders, task))
            for task, scored in zip(tasks, measured, strict=True)
        ],
    )


def _record(folder: Path) -> RunRecord:
    """A trained model's run record.

    Raises:
        UserError: it is missing or broken.
    """
    remedy = f"delete {folder} and run again"
    record = read_record(folder / "run.json", RunRecord, remedy)
    if record is None:
        raise UserError(f"{folder / 'run.json'}: no such file; {remedy}")
    return record


def _results(plan: Plan, tasks: Sequence[Task]) -> dict[tuple[Run, str], Path]:
    """Run and task -> the folder of the result."""
    precision, root = resolve_precision(plan.config.precision), plan.config.folder() / "results"
    found = {}
    for run in [Run(BASE, 0), *plan.runs()]:
        model = resolve_model(plan.model(run))
        how: tuple[Prompts | None, str | None] = (None, None)
        if run.arm == BASE:
            recipe = plan.evaluation(run)
            how = base_prompts(recipe, model, model), base_pooling(recipe, model, model)
        for task in tasks:
            found[run, task.name] = Measurable(model, task, precision, *how).key().folder(root)
    return found


def _rankings(plan: Plan, folders: Mapping[tuple[Run, str], Path], task: Task) -> tuple[Rankings, dict[str, Rankings]]:
    """The rankings of the base, and of each arm's first seed."""

    def of(run: Run) -> Rankings:
        return read_rankings(folders[run, task.name] / "rankings.parquet")

    return of(Run(BASE, 0)), {arm: of(Run(arm, plan.config.seeds[0])) for arm in plan.config.arms}

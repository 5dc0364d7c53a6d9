"""What the finished runs of a comparison left, gathered into one record, written and printed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.measure.encoding import Encoding, base_encoding, resolve_precision
from eval.measure.results import read_result, read_scores
from eval.measure.search import key_of
from eval.measure.tasks import Task
from eval.recipe import CompareRecipe
from eval.report import cards, dataset, trainings
from eval.report.files import write_comparison
from eval.report.queries import task_queries
from eval.report.terminal import comparison_text
from eval.runs import Plan, Run
from eval.statistics.tables import Measured, tables
from foils.comparison import BASE, Comparison, RecipeText, TaskQueries
from foils.errors import UserError
from foils.evidence import read_rankings
from foils.metrics import PerQuery
from foils.models import resolve_model
from foils.provenance import package_versions
from foils.recipe import Recipe
from foils.records import RunRecord, read_record


def reported(plan: Plan, recipe: Recipe[CompareRecipe], tasks: Sequence[Task]) -> Comparison:
    """Writes and prints what finished runs found, and puts it into the cards of their models.

    Args:
        plan: whose arms finished with every seed.
        recipe: as it was given.
        tasks: that were measured on.

    Raises:
        UserError: a record or a result is missing or broken, or runs were measured on different queries.
    """
    comparison = _gathered(plan, RecipeText(recipe.text, recipe.overrides), tasks)
    out = plan.config.folder()
    write_comparison(out, comparison)
    content = cards.for_card(comparison)
    for run in plan.runs():
        cards.write_card(Path(plan.model(run)), content, this=f"arm `{run.arm}`, seed {run.seed},")
    print(f"\n{comparison_text(comparison)}")
    print(f"\ndata set  {comparison.dataset}\nmodels    {out / 'models'} (each with its card)")
    print(f"report    {out / 'report.html'}")
    return comparison


def _gathered(plan: Plan, recipe: RecipeText, tasks: Sequence[Task]) -> Comparison:
    config, base = plan.config, Run(BASE, 0)
    records = {run.name: _record(Path(plan.model(run))) for run in plan.runs()}
    by_arm = {arm: [records[Run(arm, seed).name] for seed in config.seeds] for arm in config.arms}
    account = dataset.read_account(config.dataset, config.revision)
    folders = _results(plan, tasks)
    by_task = [_measured(plan, folders, task) for task in tasks]
    known = read_result(folders[base, tasks[0].name])
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
        tables=tables(by_task, config.margin),
        packages=dict(package_versions()),
        funnel=account.manifest.funnel,
        examples=dataset.examples(account, config.arms),
        queries=[_queries(plan, folders, task, scored) for task, scored in zip(tasks, by_task, strict=True)],
    )


def _measured(plan: Plan, folders: Mapping[tuple[Run, str], Path], task: Task) -> Measured:
    """What each run scored on a task."""
    runs: dict[str, dict[int, PerQuery]] = {}
    for run in (Run(BASE, 0), *plan.runs()):
        runs.setdefault(run.arm, {})[run.seed] = read_scores(folders[run, task.name])
    return Measured(task.name, task.revision, runs)


def _queries(plan: Plan, folders: Mapping[tuple[Run, str], Path], task: Task, scored: Measured) -> TaskQueries:
    """Every query of a task, and those that changed most between the base and each arm's first seed."""
    first = [Run(BASE, 0), *(Run(arm, plan.config.seeds[0]) for arm in plan.config.arms)]
    before, *after = (read_rankings(folders[run, task.name] / "rankings.parquet") for run in first)
    return task_queries(task, scored.runs, before, dict(zip(plan.config.arms, after, strict=True)))


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
    found, root = {}, plan.config.folder() / "results"
    for run in (Run(BASE, 0), *plan.runs()):
        model, how = resolve_model(plan.model(run)), Encoding(resolve_precision(plan.config.precision))
        if run.arm == BASE:
            how = base_encoding(plan.evaluation(run), how, model, model)
        for task in tasks:
            found[run, task.name] = key_of(model, task, how).folder(root)
    return found

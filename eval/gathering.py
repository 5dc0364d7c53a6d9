"""What the finished runs of a comparison left, gathered into one record, written and printed."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.measure.baselines import bm25
from eval.measure.encoding import Encoding, base_encoding, resolve_precision
from eval.measure.results import Key, first_hits, read_result, read_scores
from eval.measure.search import key_of
from eval.measure.tasks import OWN, Task
from eval.outside import outside
from eval.plan import Plan, Run
from eval.recipe import CompareRecipe
from eval.report import cards, dataset, trainings
from eval.report.advice import recommended
from eval.report.files import write_comparison
from eval.report.queries import task_queries
from eval.report.terminal import comparison_text
from eval.statistics.tables import Measured, tables
from foils.comparison import VERSION, Comparison, Example, RecipeText, TaskQueries
from foils.errors import UserError
from foils.evidence import read_rankings
from foils.folders import partial_folder, put_in_place
from foils.metrics import JUDGED, PerQuery
from foils.models import resolve_model
from foils.provenance import package_versions
from foils.recipe import Recipe
from foils.records import RunRecord, read_record
from foils.verdicts import BASE

_BM25 = "BM25"


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
    for run in filter(plan.trains, plan.runs()):
        cards.write_card(Path(plan.model(run)), content, this=f"arm `{run.arm}`, seed {run.seed},")
    print(f"\n{comparison_text(comparison)}")
    print(f"\ndata set  {comparison.dataset}\nmodels    {out / 'models'} (each with its card)")
    print(f"report    {out / 'report.html'}\n{model_to_take(plan, comparison)}")
    return comparison


def _gathered(plan: Plan, recipe: RecipeText, tasks: Sequence[Task]) -> Comparison:
    config, base = plan.config, Run(BASE, 0)
    records = {run: _record(plan, run) for run in plan.runs()}
    trained = {run: record for run, record in records.items() if record is not None and plan.trains(run)}
    by_arm: dict[str, list[RunRecord]] = {}
    for run, record in trained.items():
        by_arm.setdefault(run.arm, []).append(record)
    account = dataset.read_account(config.dataset, config.revision)
    accounts = {data: dataset.read_account(*data) for data in {config.data_of(arm) for arm in by_arm}}
    of_arm = {arm: (accounts[config.data_of(arm)], found) for arm, found in by_arm.items()}
    folders = _results(plan, tasks)
    systems = _systems(plan, folders, tasks)
    by_task = [_measured(plan, folders, task, systems[task.name].get(_BM25)) for task in tasks]
    known, exam = read_result(folders[base, tasks[0].name]), next((task for task in tasks if task.is_generated), None)
    peoples = f"{exam.name}-{OWN}" if exam and all(judge.of for judge in account.manifest.judges) else None
    own = next((task.name for task in tasks if task.name == peoples), "")  # unless the build had an LLM judge them
    made = tables(by_task, config.margin, beside=own)
    judged = {row.arm: row.metrics[JUDGED] for each in made if exam and each.task == exam.name for row in each.rows}
    return Comparison(
        version=VERSION,
        name=config.name,
        recipe=recipe,
        dataset=config.dataset,
        revision=config.revision,
        training=plan.training,
        base=plan.base,
        base_name=resolve_model(plan.base).name,
        arms=tuple(config.arms),
        seeds=config.seeds,
        margin=config.margin,
        precision=resolve_precision(config.precision),
        drift_of_base=known.drift if known else None,
        pairs=trainings.pairings(
            {arm: [each for run in plan.runs_of(arm) if (each := records[run])] for arm in config.arms},
            {arm: config.arm(arm) for arm in config.arms},
        ),
        tokens_of_a_row=trainings.tokens_of_a_row(by_arm),
        costs=[dataset.cost(arm, about, found) for arm, (about, found) in of_arm.items()],
        tables=made,
        packages=dict(package_versions()),
        funnel=account.manifest.funnel,
        examples=_examples(of_arm),
        queries=[_queries(plan, folders, task, scored) for task, scored in zip(tasks, by_task, strict=True)],
        rankings=systems,
        own=own,
        outside=outside(plan, records, judged) if exam else {},
        **(_of_exam(account, exam.name) if exam else {}),
        seed_seconds=plan.seconds_of_one(filter(plan.trains, plan.runs())) * len(by_arm) / config.jobs,
    )


def _of_exam(account: dataset.Account, name: str) -> dict[str, Any]:
    """What a comparison says of the exam that a build generated."""
    manifest = account.manifest
    return {
        "exam": name,
        "exam_as_negatives": manifest.exam.as_negatives if manifest.exam else None,
        "one_llm_wrote_all": manifest.one_llm_wrote_all,
        **dataset.of_a_query(account),
    }


def _examples(of_arm: Mapping[str, tuple[dataset.Account, list[RunRecord]]]) -> dict[str, list[Example]]:
    found = {arm: dataset.examples(about, runs[0].dataset.kind or arm) for arm, (about, runs) in of_arm.items()}
    return {arm: rows for arm, rows in found.items() if rows}


def model_to_take(plan: Plan, comparison: Comparison) -> str:
    """Puts the recommended model, of the first seed, into the folder `model`; a line that says what lies there."""
    verdict, folder = recommended(comparison), plan.config.folder() / "model"
    record, taken = folder / "run.json", plan.config.folder() / "runs" / "model.json"
    if folder.exists() and not (record.exists() and taken.exists() and record.read_bytes() == taken.read_bytes()):
        raise UserError(f"{folder}: not the copy that this comparison put there; move it away and run again")
    run = plan.runs_of(verdict.first)[0] if verdict else Run(BASE, 0)
    if not plan.trains(run):
        if not folder.exists():
            return f"to take   {plan.model(run)}"
        shutil.rmtree(folder)  # a copy: what was trained stays in `models`
        return f"to take   {plan.model(run)}; {folder}, a copy of what was taken before, is removed"
    partial = partial_folder(folder)
    shutil.copytree(plan.model(run), partial, dirs_exist_ok=True)
    put_in_place(partial, folder)
    taken.parent.mkdir(exist_ok=True)
    shutil.copyfile(record, taken)  # by which the copy is known again, whatever is trained in its place
    return f"to take   {folder} (arm {run.arm}, seed {run.seed})"


def _measured(plan: Plan, folders: Mapping[tuple[Run, str], Path], task: Task, lexical: str | None) -> Measured:
    """What each run scored on a task, and BM25 where it has rankings."""
    runs: dict[str, dict[int, PerQuery]] = {}
    for run in (Run(BASE, 0), *plan.runs()):
        runs.setdefault(run.arm, {})[run.seed] = read_scores(folders[run, task.name])
    given = [run.arm for run in plan.runs() if not plan.trains(run)]
    scores = read_scores((plan.config.folder() / lexical).parent) if lexical else {}
    first = {BASE: first_hits(runs[BASE][0]), **({"BM25": first_hits(scores)} if scores else {})}
    return Measured(task.name, task.revision, runs, given, task.overlap(), scores, task.is_generated, first)


def _queries(plan: Plan, folders: Mapping[tuple[Run, str], Path], task: Task, scored: Measured) -> TaskQueries:
    """Every query of a task, and those that changed most between the base and each arm's first seed."""
    first = [Run(BASE, 0), *(plan.runs_of(arm)[0] for arm in plan.config.arms)]
    before, *after = (read_rankings(folders[run, task.name] / "rankings.parquet") for run in first)
    return task_queries(task, scored.runs, before, dict(zip(plan.config.arms, after, strict=True)))


def _systems(plan: Plan, folders: Mapping[tuple[Run, str], Path], tasks: Sequence[Task]) -> dict[str, dict[str, str]]:
    """Task -> system -> its rankings, below the comparison's folder: all runs, and BM25 where it was measured."""
    out = plan.config.folder()
    named = [(task, run.name, folder) for (run, task), folder in folders.items()]
    lexical = bm25(tasks, out / "results") if plan.config.baselines else []
    named += [(result.task, _BM25, Key.of(result).folder(out / "results")) for result in lexical]
    found: dict[str, dict[str, str]] = {}
    for task, name, folder in named:
        found.setdefault(task, {})[name] = (folder / "rankings.parquet").relative_to(out).as_posix()
    return found


def _record(plan: Plan, run: Run) -> RunRecord | None:
    """The run record of a model; None for one that was trained elsewhere and has none.

    Raises:
        UserError: it is missing or broken.
    """
    folder = Path(plan.model(run) if plan.trains(run) else resolve_model(plan.model(run)).location)
    remedy = f"delete {folder} and run again"
    record = read_record(folder / "run.json", RunRecord, remedy)
    if record is None and plan.trains(run):
        raise UserError(f"{folder / 'run.json'}: no such file; {remedy}")
    return record


def _results(plan: Plan, tasks: Sequence[Task]) -> dict[tuple[Run, str], Path]:
    """Run and task -> the folder of the result."""
    found, root = {}, plan.config.folder() / "results"
    for run in (Run(BASE, 0), *plan.runs()):
        model, how = resolve_model(plan.model(run)), Encoding(resolve_precision(plan.config.precision))
        if not plan.trains(run):
            how = base_encoding(plan.evaluation(run), how, model, model)
        for task in tasks:
            found[run, task.name] = key_of(model, task, how).folder(root)
    return found

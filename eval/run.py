"""Measures a model on retrieval tasks, beside its untouched base, and puts the scores into its card.

python -m eval.run eval/recipes/scifact.toml --set model=outputs/quickstart/models/llm-seed1
"""

import json
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

import mteb
from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

from cards.errors import UserError, run_entry
from cards.hardware import has_native_bf16
from cards.model import Score, add_scores
from cards.models import ModelReference, resolve_model
from cards.provenance import package_versions
from cards.recipe import Recipe, load_recipe, recipe_arguments
from eval.recipe import EvalRecipe
from eval.report import metrics_table
from eval.results import METRICS, Key, Rankings, Result, means, per_query_scores, read_result, write_result
from eval.tasks import Task, load_task

logger = logging.getLogger(__name__)


def main(recipe: Recipe[EvalRecipe]) -> None:
    """Evaluates base and model on all tasks; prints a table and writes the scores into the model's card.

    Raises:
        UserError: a model or a task is not as it must be.
    """
    config = recipe.config
    model = resolve_model(config.model)
    base_name = config.base or _recorded_base(Path(config.model))
    base = resolve_model(base_name) if base_name else model
    tasks = [load_task(reference) for reference in config.tasks]
    root = Path(config.results)
    encoding = Encoding(config.batch_size, resolve_precision(config.precision))
    base_results = evaluate(base, tasks, root, encoding)
    results = base_results if model == base else evaluate(model, tasks, root, encoding)
    folder = Path(config.model)
    if folder.is_dir() and model != base:
        add_scores(folder, model.name, card_scores(results, base_results))
    rows = (
        [("untouched base", base_results)]
        if model == base
        else [("untouched base", base_results), (model.name, results)]
    )
    print(metrics_table(rows))
    logger.info("results: %s", root)


class Encoding(NamedTuple):
    """How texts are encoded; `precision` is `fp32` or `bf16`."""

    batch_size: int = 32
    precision: str = "fp32"


def resolve_precision(wanted: str) -> str:
    """`auto` as what this machine is good at."""
    return wanted if wanted != "auto" else "bf16" if has_native_bf16() else "fp32"


def evaluate(model: ModelReference, tasks: list[Task], root: Path, encoding: Encoding) -> list[Result]:
    """Results of a model on tasks, in their order; those that stand under `root` are read."""
    results = []
    loaded: SentenceTransformer | None = None
    for task in tasks:
        folder = Key(model.revision, encoding.precision, task.name, task.revision).folder(root)
        result = read_result(folder)
        if result is None:
            loaded = loaded or _load(model, encoding.precision)
            started = perf_counter()
            logger.info("%s on %s (%s)", model.name, task.name, task.split)
            scores = per_query_scores(rankings(loaded, model, task, encoding.batch_size), task.qrels())
            result = Result(
                model=model.name,
                model_revision=model.revision,
                task=task.name,
                task_revision=task.revision,
                split=task.split,
                queries=len(scores),
                metrics=means(scores),
                precision=encoding.precision,
                seconds=round(perf_counter() - started, 1),
                packages=dict(package_versions()),
            )
            write_result(folder, result, scores)
        results.append(result)
    return results


def _load(model: ModelReference, precision: str) -> SentenceTransformer:
    loaded = SentenceTransformer(model.location, revision=model.hub_revision)
    return loaded.bfloat16() if precision == "bf16" else loaded


def rankings(model: SentenceTransformer, reference: ModelReference, task: Task, batch_size: int) -> Rankings:
    """Query id -> passage id -> cosine similarity of the best 1,000 passages, as mteb finds them."""
    wrapper = SentenceTransformerEncoderWrapper(model)
    # mteb keys its caches by name and revision, and knows neither for a folder: two models would be one to it.
    wrapper.mteb_model_meta = wrapper.mteb_model_meta.model_copy(
        update={"name": f"foils/{reference.name}", "revision": reference.revision}
    )
    with TemporaryDirectory() as scratch:
        mteb.evaluate(
            wrapper,
            task.mteb,
            cache=None,
            overwrite_strategy="always",
            prediction_folder=scratch,
            encode_kwargs={"batch_size": batch_size},
            co2_tracker=False,
        )
        (file,) = Path(scratch).rglob("*_predictions.json")
        predictions: dict[str, dict[str, Rankings]] = json.loads(file.read_text("utf-8"))
    return predictions["default"][task.split]


def card_scores(results: list[Result], base_results: list[Result]) -> list[Score]:
    """All metrics of all tasks, each beside the base's, for a model's card."""
    return [
        Score(
            task=result.task,
            revision=result.task_revision,
            split=result.split,
            metric=metric,
            value=result.metrics[metric],
            queries=result.queries,
            precision=result.precision,
            base_value=base.metrics[metric],
        )
        for result, base in zip(results, base_results, strict=True)
        for metric in METRICS
    ]


def _recorded_base(folder: Path) -> str | None:
    """The base that a run record names, as it can be loaded again; None where there is no record."""
    record = folder / "run.json"
    if not record.exists():
        return None
    try:
        location: str = json.loads(record.read_text("utf-8"))["base"]["reference"]
    except (ValueError, KeyError):
        raise UserError(f"{record}: unreadable; name the base in the recipe") from None
    return location


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    arguments = parser.parse_args()
    main(load_recipe(arguments.recipe, arguments.overrides, EvalRecipe))


if __name__ == "__main__":
    sys.exit(run_entry(_entry))

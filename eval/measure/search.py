"""Measuring by mteb, and keeping what was measured."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import mteb

from eval.measure.prompts import Prompts
from eval.measure.results import NAMES, Key, Measured, read_result, scores_of, write_result
from eval.measure.tasks import Task
from foils.errors import UserError
from foils.metrics import Rankings, means
from foils.models import ModelReference
from foils.provenance import package_versions
from foils.records import Result

logger = logging.getLogger(__name__)


class Measurable(NamedTuple):
    """A model on a task, and how texts are encoded; see `Result` for the parts."""

    model: ModelReference
    task: Task
    precision: str
    prompts: Prompts | None = None
    pooling: str | None = None

    def key(self) -> Key:
        """What decides the result."""
        task, how = self.task, (self.prompts, self.pooling, self.task.ignores_identical_ids)
        return Key(self.model.identity, self.precision, task.name, task.revision, *how)


def kept(what: Measurable, root: Path, measure: Callable[[], Measured]) -> Result:
    """The result that stands under `root`, or a new one that is put there."""
    folder, (model, task, precision, prompts, pooling) = what.key().folder(root), what
    known = read_result(folder)
    if known is not None:
        return known
    started = perf_counter()
    logger.info("%s on %s (%s)", model.name, task.name, task.split)
    measured = measure()
    result = Result(
        model=model.name,
        model_revision=model.revision,
        weights=model.weights,
        identity=model.identity,
        task=task.name,
        task_revision=task.revision,
        split=task.split,
        dataset=task.dataset,
        queries_of=task.queries_of,
        queries=len(measured.scores),
        unanswerable=task.unanswerable(),
        metrics=means(measured.scores, NAMES),
        precision=precision,
        drift=measured.drift,
        prompts=None if prompts is None else dict(prompts),
        pooling=pooling,
        ignore_identical_ids=task.ignores_identical_ids,
        seconds=round(perf_counter() - started, 1),
        packages=dict(package_versions()),
    )
    write_result(folder, result, measured)
    return result


def searched(model: Any, task: Task) -> Measured:
    """What a model of mteb's finds on a task: the best 1,000 passages of each query, and what follows from them.

    Args:
        model: an encoder or a search of mteb's, with its account in `mteb_model_meta`.
        task: where to search.

    Raises:
        UserError: a score is not a number.
    """
    with TemporaryDirectory() as scratch:
        outcome = mteb.evaluate(
            model,
            task.mteb,
            cache=None,
            overwrite_strategy="always",
            prediction_folder=scratch,
            encode_kwargs={"show_progress_bar": False},
            co2_tracker=False,
        )
        (file,) = Path(scratch).rglob("*_predictions.json")
        predictions = json.loads(file.read_text("utf-8"))["default"][task.split]
        own = Path(scratch) / "result.json"
        outcome.task_results[0].to_disk(own)
        account = {
            "result": json.loads(own.read_text("utf-8")),
            "model": json.loads(json.dumps(model.mteb_model_meta.to_dict(), default=str)),
        }
    if task.ignores_identical_ids:  # as mteb does after the search, so that whoever reads the rankings has its figures
        predictions = {
            query: {passage: score for passage, score in hits.items() if passage != query}
            for query, hits in predictions.items()
        }
    _check_numbers(predictions, str(model.mteb_model_meta.name), task)
    qrels = task.qrels()
    return Measured(predictions, qrels, scores_of(predictions, qrels), account)


def _check_numbers(rankings: Rankings, model: str, task: Task) -> None:
    """Refuses a model whose scores are not numbers: any ranking by them would be chance."""
    for query, hits in rankings.items():
        broken = next((passage for passage, score in hits.items() if not math.isfinite(score)), None)
        if broken is not None:
            raise UserError(
                f"model {model}: its score of passage {broken!r} for query {query!r} of {task.name} is not a finite "
                'number; set precision = "fp32", or train the model again'
            )

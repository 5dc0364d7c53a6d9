"""Measuring by mteb, and keeping what was measured."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import mteb
from mteb.models import SearchEncoderWrapper, SentenceTransformerEncoderWrapper
from mteb.types import PromptType

from eval.measure.encoder import Encoder
from eval.measure.encoding import Encoding, load
from eval.measure.encoding_shards import ROWS, Spread
from eval.measure.results import NAMES, Key, Measured, read_result, scores_of, write_result
from eval.measure.tasks import Task
from foils.engine.config import EngineConfig
from foils.errors import UserError
from foils.metrics import means
from foils.models import ModelReference
from foils.provenance import package_versions
from foils.records import Result

logger = logging.getLogger(__name__)


def evaluate(
    model: ModelReference, tasks: Sequence[Task], root: Path, how: Encoding, engine: EngineConfig | None = None
) -> list[Result]:
    """Results of a model on tasks, in their order; those that stand under `root` are read.

    Raises:
        UserError: the model cannot be loaded, or see `searched` and `foils.engine.run.finish`.
    """
    encoder: Encoder | None = None

    def measured(task: Task) -> Measured:
        nonlocal encoder
        if encoder is None:
            keep_in = root if len(tasks) > 1 else None
            encoder = Encoder(load(model, how), how.precision, task.sample(), how.batch_tokens, keep_in=keep_in)
            if (drift := encoder.drift) is not None:
                logger.log(
                    logging.WARNING if drift.drifted else logging.INFO,
                    "%s in %s against fp32, %d queries and %d passages of %s: %s",
                    *(model.name, how.precision, drift.queries, drift.passages, task.name, drift.line()),
                )
        return measure(encoder, model, task, spread)

    with ExitStack() as plans:  # until all tasks are measured, as some may have the same passages
        spread = None if engine is None else Spread(how, root, engine, plans)
        # By name, as two evaluations that share a folder would wait for each other's plans in another order.
        found = {
            task.name: kept(model, task, how, root, measured) for task in sorted(tasks, key=lambda each: each.name)
        }
        return [found[task.name] for task in tasks]


def measure(encoder: Encoder, reference: ModelReference, task: Task, spread: Spread | None = None) -> Measured:
    """Rankings of the best 1,000 passages by cosine similarity, as mteb finds them.

    Args:
        encoder: the model.
        reference: names it.
        task: where to search.
        spread: has the passages encoded by an engine first.
    """
    wrapper = SentenceTransformerEncoderWrapper(encoder.model)
    # mteb keys its caches by name and revision, and knows neither for a folder: two models would be one to it.
    about = {"name": f"foils/{reference.name.rpartition('/')[2]}", "revision": reference.revision}
    wrapper.mteb_model_meta = wrapper.mteb_model_meta.model_copy(update=about)
    wrapper.model = encoder
    if spread is not None:
        name = wrapper.get_prompt_name(task.mteb.metadata, PromptType.document)
        spread(encoder, reference, task, (wrapper.model_prompts or {}).get(name))
    return searched(SearchEncoderWrapper(wrapper, ROWS), task)._replace(drift=encoder.drift)


def key_of(model: ModelReference, task: Task, how: Encoding) -> Key:
    """What decides the result of a model on a task."""
    reading = how.prompts, how.pooling, task.ignores_identical_ids
    return Key(model.identity, how.precision, task.name, task.revision, *reading)


def kept(
    model: ModelReference, task: Task, how: Encoding, root: Path, measure_on: Callable[[Task], Measured]
) -> Result:
    """The result that stands under `root`, or a new one that is put there."""
    folder = key_of(model, task, how).folder(root)
    known = read_result(folder)
    if known is not None:
        return known
    started = perf_counter()
    logger.info("%s on %s (%s)", model.name, task.name, task.split)
    measured = measure_on(task)
    scores = scores_of(measured.rankings, measured.qrels)
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
        queries=len(scores),
        unanswerable=task.unanswerable(),
        metrics=means(scores, NAMES),
        precision=how.precision,
        drift=measured.drift,
        prompts=None if how.prompts is None else dict(how.prompts),
        pooling=how.pooling,
        ignore_identical_ids=task.ignores_identical_ids,
        seconds=round(perf_counter() - started, 1),
        packages=dict(package_versions()),
    )
    write_result(folder, result, measured, scores)
    return result


def searched(model: Any, task: Task) -> Measured:
    """What a model of mteb's finds on a task: the best 1,000 passages of each query.

    Args:
        model: an encoder or a search of mteb's, with its account in `mteb_model_meta`.
        task: where to search.

    Raises:
        UserError: a score is not a number, so any ranking by it would be chance.
    """
    with TemporaryDirectory() as scratch:
        mteb.evaluate(
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
    for query, hits in predictions.items():
        if task.ignores_identical_ids:  # as mteb does after the search, so that the rankings have its figures
            hits.pop(query, None)
        broken = next((passage for passage, score in hits.items() if not math.isfinite(score)), None)
        if broken is not None:
            raise UserError(
                f"model {model.mteb_model_meta.name}: its score of passage {broken!r} for query {query!r} of "
                f'{task.name} is not a finite number; set precision = "fp32", or train the model again'
            )
    return Measured(predictions, task.qrels())

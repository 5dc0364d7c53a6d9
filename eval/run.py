"""Measures a model on retrieval tasks, beside its untouched base, and puts the scores into its card.

    python -m eval.run eval/recipes/scifact.toml --set model=outputs/quickstart/models/llm-seed1
    python -m eval.run eval/recipes/scifact.toml --set model=OWNER/NAME@v1.0.0 --push [--mteb-results DIR]

With `--push` the scores go to the model's repository, in one commit that keeps everything else.
"""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

from eval.measure.baselines import baselines, ceiling
from eval.measure.encoder import Encoder, resolve_precision
from eval.measure.prompts import Prompts, given, other_than_own, own_prompts
from eval.measure.results import Measured
from eval.measure.search import Measurable, kept, searched
from eval.measure.task_data import Reading
from eval.measure.tasks import Task, load_tasks
from eval.measure.zero_shot import with_training_datasets, zero_shot
from eval.publish import Evaluation, check_push, push_scores, write_mteb_results, write_scores
from eval.recipe import EvalRecipe
from eval.report.terminal import metrics_table
from foils.errors import UserError, run_entry
from foils.loading import check_retriever, is_raw, load_retriever, own_pooling
from foils.models import ModelReference, resolve_model
from foils.recipe import Recipe, load_recipe, recipe_arguments
from foils.records import ModelEntry, Result, RunRecord, read_record

logger = logging.getLogger(__name__)

_ZERO_SHOT = {
    True: "yes, as far as training data and base were compared with it",
    False: "no, it stands in what model or base were trained on",
    None: "not known; compare the training data with it (leakage.against in the building recipe)",
}


def main(recipe: Recipe[EvalRecipe], push: str | None = None, mteb_results: Path | None = None) -> None:
    """Evaluates base and model on all tasks; prints a table and writes the scores into the model's card.

    Args:
        recipe: what to measure.
        push: the Hub repository whose card gets the scores; an empty string for the model's own.
        mteb_results: a folder that gets the results in the form of MTEB's results repository.

    Raises:
        UserError: a model or a task is not as it must be, or the repository holds other weights.
    """
    config = recipe.config
    model = resolve_model(config.model)
    repo_id = None if push is None else check_push(push or model.name, model)
    record = read_record(
        Path(model.location) / "run.json", RunRecord, "mend or delete it, and name the base: --set base=..."
    )
    base = resolve_model(config.base) if config.base else model if record is None else _recorded_base(record.base)
    for reference in (model, base):
        check_retriever(reference.location, "name it as cross_encoder to see it rank the hits of an embedding model")
    tasks = load_tasks(config.tasks, Reading(config.language, config.ignore_identical_ids))
    root = Path(config.results)
    encoding = Encoding(resolve_precision(config.precision), config.batch_tokens)
    reading = base_prompts(config, model, base), base_pooling(config, model, base)
    base_results = evaluate(base, tasks, root, encoding, *reading)
    trained = model.identity != base.identity
    results = evaluate(model, tasks, root, encoding) if trained else base_results
    rows = [*baselines(config, tasks, root), ("untouched base", base_results)]
    if trained:
        rows.append((model.name, results))
    if config.cross_encoder is not None:
        rows.append(ceiling(config.cross_encoder, tasks, base_results, root))
    print(metrics_table(rows))
    logger.info("results: %s", root)
    data = record.dataset.all() if record else []
    trained_on = {name for each in data for name in (each.name, each.revision)}
    evaluation = Evaluation(model, base, results, base_results, root, trained_on)
    for task in evaluation.seen():
        logger.warning("%s: its queries are those that the model was trained on: no measure of search", task)
    for each in tasks:
        logger.info("%s on %s: zero-shot: %s", model.name, each.name, _ZERO_SHOT[zero_shot(model, each)])
    if trained and Path(config.model).is_dir():
        write_scores(Path(config.model), evaluation)
    if repo_id is not None:
        push_scores(repo_id, evaluation)
    if mteb_results is not None:
        write_mteb_results(mteb_results, evaluation)


class Encoding(NamedTuple):
    """How texts are encoded: see `eval.measure.encoder.Encoder`."""

    precision: str = "fp32"
    batch_tokens: int | None = None


def base_prompts(config: EvalRecipe, model: ModelReference, base: ModelReference) -> Prompts | None:
    """What is put before the base's texts: what the recipe or the model says, or None for the base's own."""
    theirs = own_prompts(Path(model.location))
    query = theirs.get("query") if config.query_prompt is None else config.query_prompt
    document = theirs.get("document") if config.passage_prompt is None else config.passage_prompt
    return other_than_own(given(query, document), Path(base.location))


def base_pooling(config: EvalRecipe, model: ModelReference, base: ModelReference) -> str | None:
    """How a base pools that does not say it: as the recipe says, or the model that was trained from it; else None.

    Raises:
        UserError: the recipe says it of a base that says it itself.
    """
    if is_raw(base.location):
        return config.pooling or own_pooling(model.location) or "mean"
    if config.pooling is not None:
        raise UserError(f"recipe: pooling {config.pooling!r}: base {base.name} says how it pools; remove the key")
    return None


def evaluate(
    model: ModelReference,
    tasks: list[Task],
    root: Path,
    encoding: Encoding,
    prompts: Prompts | None = None,
    pooling: str | None = None,
) -> list[Result]:
    """Results of a model on tasks, in their order; those that stand under `root` are read.

    Args:
        model: what to measure.
        tasks: on what.
        root: where results are kept.
        encoding: how.
        prompts: in place of the model's own.
        pooling: of a model that does not say it.
    """
    loaded: list[Encoder] = []

    def measured(task: Task) -> Measured:
        if not loaded:
            own = _load(model, prompts, pooling)
            loaded.append(Encoder(own, encoding.precision, task.sample(), encoding.batch_tokens))
            _report_drift(model, loaded[0], encoding, task)
        return measure(loaded[0], model, task)

    how = encoding.precision, prompts, pooling
    return [kept(Measurable(model, task, *how), root, partial(measured, task)) for task in tasks]


def _load(model: ModelReference, prompts: Prompts | None = None, pooling: str | None = None) -> SentenceTransformer:
    loaded: SentenceTransformer = load_retriever(model.location, pooling)
    if prompts is not None:
        loaded.prompts = {"query": "", "document": "", **prompts}
    return loaded


def _report_drift(model: ModelReference, encoder: Encoder, encoding: Encoding, task: Task) -> None:
    drift = encoder.drift
    if drift is not None:
        level = logging.WARNING if drift.drifted else logging.INFO
        logger.log(
            level,
            "%s in %s against fp32, %d queries and %d passages of %s: %s",
            *(model.name, encoding.precision, drift.queries, drift.passages, task.name, drift.line()),
        )


def measure(encoder: Encoder, reference: ModelReference, task: Task) -> Measured:
    """Rankings of the best 1,000 passages by cosine similarity, as mteb finds them, and what follows from them."""
    wrapper = SentenceTransformerEncoderWrapper(encoder.model)
    # mteb keys its caches by name and revision, and knows neither for a folder: two models would be one to it.
    meta = wrapper.mteb_model_meta.model_copy(
        update={"name": f"foils/{reference.name.rpartition('/')[2]}", "revision": reference.revision}
    )
    wrapper.mteb_model_meta = with_training_datasets(meta, reference, task)
    wrapper.model = encoder
    return searched(wrapper, task)._replace(drift=encoder.drift)


def _recorded_base(base: ModelEntry) -> ModelReference:
    """The base that a model was trained from: by its commit where it has one, else as its folder lies now.

    Raises:
        UserError: it is gone, or another one lies there.
    """
    reference = base.reference if base.revision.startswith("sha256:") else f"{base.name}@{base.revision}"
    found = resolve_model(reference)
    if base.revision not in (found.revision, found.weights):  # the latter is what version 0.1 wrote
        raise UserError(
            f"base {reference}: has changed since the model was trained from it ({base.revision[:19]} then, "
            f"{found.revision[:19]} now); name the untouched one: --set base=..."
        )
    return found


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument(
        "--push",
        nargs="?",
        const="",
        metavar="OWNER/NAME",
        help="put the scores into this Hub repository's card; without a value, into the model's own",
    )
    parser.add_argument(
        "--mteb-results", type=Path, metavar="DIR", help="also write them as MTEB's results repository takes them"
    )
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.overrides, EvalRecipe)
    main(recipe, arguments.push, arguments.mteb_results)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))

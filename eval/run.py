"""Measures a model on retrieval tasks, beside its untouched base, and puts the scores into its card.

    python -m eval.run eval/recipes/scifact.toml --set model=outputs/quickstart/models/llm-seed1
    python -m eval.run eval/recipes/scifact.toml --set model=OWNER/NAME@v1.0.0 --push

With `--push` the scores go to the model's repository, in one commit that keeps everything else.
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eval.recipe import EvalRecipe
from foils.errors import UserError, run_entry
from foils.recipe import Recipe, load_recipe, recipe_arguments
from foils.records import RunRecord, read_record

if TYPE_CHECKING:
    from foils.models import ModelReference

logger = logging.getLogger(__name__)

_ZERO_SHOT = {
    True: "yes, as far as training data and base were compared with it",
    False: "no, it stands in what model or base were trained on",
    None: "not known; compare the training data with it (leakage.against in the building recipe)",
}


def main(recipe: Recipe[EvalRecipe], push: str | None = None) -> None:
    """Evaluates base and model on all tasks; prints a table and writes the scores into the model's card.

    Args:
        recipe: what to measure.
        push: the Hub repository whose card gets the scores; an empty string for the model's own.

    Raises:
        UserError: a model or a task is not as it must be, or the repository holds other weights.
    """
    # These take seven seconds to import, which nobody should wait for only to read of a misspelt key.
    from eval import publish
    from eval.measure.baselines import bm25, ceiling
    from eval.measure.encoding import Encoding, base_encoding, resolve_precision
    from eval.measure.search import evaluate
    from eval.measure.tasks import load_tasks
    from eval.measure.zero_shot import zero_shot
    from eval.report.terminal import metrics_table
    from foils.models import resolve_model

    config = recipe.config
    model = resolve_model(config.model)
    repo_id = None if push is None else publish.check_push(push or model.name, model)
    record, base = _record_and_base(config, model)
    root = Path(config.results)
    root.mkdir(parents=True, exist_ok=True)  # refused now, and not after hours
    tasks = load_tasks(config.tasks, config.ignore_identical_ids)
    how = Encoding(resolve_precision(config.precision), config.batch_tokens)
    base_results = evaluate(base, tasks, root, base_encoding(config, how, model, base), config.engine)
    trained = model.identity != base.identity
    results = evaluate(model, tasks, root, how, config.engine) if trained else base_results
    rows = [("BM25", bm25(tasks, root))] if "bm25" in config.baselines else []
    rows += [("untouched base", base_results), *([(model.name, results)] if trained else [])]
    if config.cross_encoder is not None:
        rows.append(ceiling(config.cross_encoder, tasks, base_results, root))
    print(metrics_table(rows, root))
    logger.info("results: %s", root)
    data = record.dataset.all() if record else []
    trained_on = {name for each in data for name in (each.name, each.revision)}
    evaluation = publish.Evaluation(model, base, results, base_results, root, trained_on)
    for task in evaluation.seen():
        logger.warning("%s: its queries are those that the model was trained on: no measure of search", task)
    for each in tasks:
        logger.info("%s on %s: zero-shot: %s", model.name, each.name, _ZERO_SHOT[zero_shot(model, each)])
    if trained and Path(config.model).is_dir():
        publish.write_scores(Path(config.model), evaluation)
    if repo_id is not None:
        publish.push_scores(repo_id, evaluation)


def _record_and_base(config: EvalRecipe, model: "ModelReference") -> "tuple[RunRecord | None, ModelReference]":
    """A model's run record, if it has one, and the base: the recipe's, else the record's, else the model itself.

    A recorded base is looked up by its commit where it has one, else as its folder lies now.

    Raises:
        UserError: the record is broken, a model is not an embedding model, or the recorded base has changed since.
    """
    from foils.loading import check_retriever
    from foils.models import resolve_model

    file = Path(model.location) / "run.json"
    record, base = read_record(file, RunRecord, "mend or delete it, and name the base: --set base=..."), model
    if config.base:
        base = resolve_model(config.base)
    elif record is not None:
        stated = record.base
        reference = stated.reference if stated.revision.startswith("sha256:") else f"{stated.name}@{stated.revision}"
        base = resolve_model(reference)
        if stated.revision not in (base.revision, base.weights):  # the latter is what version 0.1 wrote
            raise UserError(
                f"base {reference}: has changed since the model was trained from it ({stated.revision[:19]} then, "
                f"{base.revision[:19]} now); name the untouched one: --set base=..."
            )
    for each in (model, base):
        check_retriever(each.location, "name it as cross_encoder to see it rank the hits of an embedding model")
    return record, base


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument(
        "--push",
        nargs="?",
        const="",
        metavar="OWNER/NAME",
        help="put the scores into this Hub repository's card; without a value, into the model's own",
    )
    arguments = parser.parse_args()
    main(load_recipe(arguments.recipe, arguments.overrides, EvalRecipe), arguments.push)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))

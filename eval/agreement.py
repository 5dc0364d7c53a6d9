"""Asks whether the queries that an LLM wrote rank systems as people's judgements do.

    python -m eval.agreement eval/studies/exams/cranfield.toml

Both sets of queries are put to the same systems: a base, the base with fewer dimensions or with noise, BM25, both
joined, and trained models. A pair of systems is decided where the 95 % interval of its difference in nDCG@10, over
the queries, is on one side of 0. What counts is how many pairs the exam decides, and where it contradicts people.
"""

import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct
from scipy.stats import kendalltau

from eval.recipe import LocalTask, Precision
from foils.errors import run_entry
from foils.metrics import CONFIDENCE, MAIN_METRIC, RESAMPLES, per_query_scores
from foils.recipe import Recipe, load_recipe, recipe_arguments
from foils.words import table

if TYPE_CHECKING:
    from eval.measure.tasks import Task

Share = Annotated[float, Meta(gt=0, lt=1)]


class AgreementRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """Two sets of queries on one corpus, and the systems that both rank.

    Attributes:
        name: of the collection, as the table prints it.
        exam: a task of `eval.run` whose queries an LLM wrote, such as a data set's folder.
        judged: a task on the same corpus whose queries people asked and judged.
        base: an embedding model.
        dimensions: systems that have only this many of the base's first dimensions.
        noise: systems whose vectors have noise of this share of their length.
        hybrids: systems that join BM25, with this weight, and the base by their ranks.
        models: trained models.
        results: where results are kept.
        precision: of the weights while encoding.
    """

    name: str
    exam: str | LocalTask
    judged: str | LocalTask
    base: str
    dimensions: tuple[Annotated[int, Meta(ge=1)], ...] = ()
    noise: tuple[Annotated[float, Meta(gt=0)], ...] = ()
    hybrids: tuple[Share, ...] = ()
    models: tuple[str, ...] = ()
    results: str = "outputs/results"
    precision: Precision = "fp32"


class Agreement(NamedTuple):
    """How two sets of queries agree on the pairs of some systems.

    Attributes:
        tau: Kendall's, of the systems' mean scores.
        agree: pairs that both decide alike; `contradict`: that they decide otherwise.
        exam_only: pairs that the exam alone decides; `judged_only`: the judgements alone.
    """

    tau: float
    agree: int
    contradict: int
    exam_only: int
    judged_only: int


Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def orders(scores: Floats) -> Floats:
    """Which of each two systems is better for certain, `(n_systems, n_systems)`: 1, -1, or 0 where nothing is.

    Args:
        scores: `(n_systems, n_queries)`.
    """
    queries = scores.shape[1]
    weights = np.random.default_rng(0).multinomial(queries, np.full(queries, 1 / queries), RESAMPLES)
    means = (weights @ scores.T) / queries  # the same resamples for all pairs
    found = np.zeros((len(scores), len(scores)))
    for first, second in combinations(range(len(scores)), 2):
        tails = (1 - CONFIDENCE) / 2
        low, high = np.quantile(means[:, first] - means[:, second], [tails, 1 - tails])
        found[first, second] = np.sign(low) if low * high > 0 else 0
        found[second, first] = -found[first, second]
    return found


def agreement(exam: Floats, judged: Floats, doubted: Flags | None = None) -> Agreement:
    """How an exam and judgements agree on systems, each a row of both.

    Args:
        exam: `(n_systems, n_queries)`.
        judged: `(n_systems, n_other_queries)`.
        doubted: `(n_systems, n_systems)`, True for pairs that the exam is not to decide.
    """
    ours, theirs = orders(exam), orders(judged)
    if doubted is not None:
        ours[doubted] = 0
    pairs = np.triu_indices(len(exam), 1)
    ours, theirs = ours[pairs], theirs[pairs]
    return Agreement(
        float(kendalltau(exam.mean(axis=1), judged.mean(axis=1)).statistic),
        agree=int((ours * theirs > 0).sum()),
        contradict=int((ours * theirs < 0).sum()),
        exam_only=int(((ours != 0) & (theirs == 0)).sum()),
        judged_only=int(((ours == 0) & (theirs != 0)).sum()),
    )


def doubtful(exam: Floats, overlaps: Floats) -> Flags:
    """Pairs that comparisons leave undecided: certain on one half of the queries, the other way round on the other.

    The halves are of the queries that share fewest words with their passages and of those that share most. This comes
    close to the rule of `eval.statistics.tables`, which corrects for all pairs and breaks ties by id.

    Args:
        exam: `(n_systems, n_queries)`.
        overlaps: `(n_queries,)`.

    Returns:
        `(n_systems, n_systems)`.
    """
    order = np.argsort(overlaps, kind="stable")
    halves = [exam[:, places] for places in np.array_split(order, 2)]
    certain = [orders(half) for half in halves]
    signs = [np.sign(half.mean(axis=1)[:, None] - half.mean(axis=1)[None, :]) for half in halves]
    return np.asarray((certain[0] * signs[1] < 0) | (certain[1] * signs[0] < 0))


def text(name: str, systems: Sequence[str], exam: Floats, judged: Floats, overlaps: Floats) -> str:
    """The table of how an exam agrees with judgements, and the pairs on which it contradicts them."""
    few = np.argsort(overlaps, kind="stable")[: len(overlaps) // 2]
    doubted = doubtful(exam, overlaps)
    variants = {
        "all queries": (exam, None),
        "pairs whose order the overlap turns left undecided": (exam, doubted),
        "the half that shares fewest words": (exam[:, few], None),
    }
    rows = [[name, "queries", "tau", "agree", "contradict", "exam only", "judgements only"]]
    for label, (scores, out) in variants.items():
        found = agreement(scores, judged, out)
        rows.append([label, str(scores.shape[1]), f"{found.tau:.2f}", *map(str, found[1:])])
    ours, theirs = orders(exam), orders(judged)
    ours[doubted] = 0
    against = [
        f"{systems[first]} and {systems[second]}: exam {exam[first].mean() - exam[second].mean():+.4f}, judgements "
        f"{judged[first].mean() - judged[second].mean():+.4f}"
        for first, second in combinations(range(len(systems)), 2)
        if ours[first, second] * theirs[first, second] < 0
    ]
    means = zip(systems, exam.mean(axis=1), judged.mean(axis=1), strict=True)
    lines = [["nDCG@10", "exam", "judgements"], *([each, f"{mine:.4f}", f"{other:.4f}"] for each, mine, other in means)]
    return "\n".join([*table(lines), "", *table(rows), *(["", "Contradictions:", *against] if against else [])])


def main(recipe: Recipe[AgreementRecipe]) -> None:
    """Measures the systems on both sets of queries, and prints how these agree.

    Raises:
        UserError: a task or a model is not as it must be.
    """
    from eval.measure.tasks import load_task

    tasks = [load_task(reference) for reference in (recipe.config.exam, recipe.config.judged)]
    of_exam, of_people = _scores(recipe.config, tasks)
    overlaps = tasks[0].overlap()
    exam, judged = (np.array(list(scores.values())) for scores in (of_exam, of_people))
    shares = np.array([overlaps.get(query, 0.0) for query in tasks[0].qrels()])
    print(text(recipe.config.name, list(of_exam), exam, judged, shares))


def _scores(config: AgreementRecipe, tasks: "Sequence[Task]") -> list[dict[str, list[float]]]:
    """For each task: system -> nDCG@10 of each query, in the order of the task's judgements."""
    from eval.measure.baselines import bm25
    from eval.measure.encoder import Encoder
    from eval.measure.encoding import Encoding, resolve_precision
    from eval.measure.results import Key
    from eval.measure.search import evaluate
    from eval.measure.variants import joined, variants
    from foils.evidence import read_rankings
    from foils.loading import load_retriever
    from foils.models import resolve_model

    root, how = Path(config.results), Encoding(resolve_precision(config.precision))
    base = resolve_model(config.base)
    root.mkdir(parents=True, exist_ok=True)
    encoder = Encoder(load_retriever(base.location), how.precision, tasks[0].sample(), keep_in=root)
    measured = {model: evaluate(resolve_model(model), tasks, root, how) for model in config.models}
    measured["BM25"] = bm25(tasks, root)
    found = []
    for place, task in enumerate(tasks):
        systems = dict(variants(encoder, task, config.dimensions, config.noise))
        for name, results in measured.items():
            systems[name] = read_rankings(Key.of(results[place]).folder(root) / "rankings.parquet")
        for weight in config.hybrids:
            systems[f"BM25 {weight:g} and base"] = joined(systems["BM25"], systems["base"], weight)
        qrels = task.qrels()
        scored = {name: per_query_scores(rankings, qrels) for name, rankings in systems.items()}
        found.append({name: [scores[query][MAIN_METRIC] for query in qrels] for name, scores in scored.items()})
    return found


def _entry() -> None:
    arguments = recipe_arguments(__doc__).parse_args()
    main(load_recipe(arguments.recipe, arguments.overrides, AgreementRecipe))


if __name__ == "__main__":
    sys.exit(run_entry(_entry))

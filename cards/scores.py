"""Measured scores in a model's card: `model-index` and a table in its README, `.eval_results`, and the evidence.

All of it is a merge: figures of other tasks, of other people, and all other text stay; a figure that is measured again
replaces itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from cards.merging import Card, block, parse_card, with_block
from cards.publish.files import CARD
from cards.templates import environment
from foils.metrics import MAIN_METRIC, PerQuery, mean_interval, means

SCORES = "evaluation/scores.json"
BLOCK, HEADING = "scores", "## Evaluation\n\n"
NOT_EVALUATED = block(BLOCK, "Not evaluated yet.")
TYPES = {"nDCG@10": "ndcg_at_10", "Precision@10": "precision_at_10", "Recall@100": "recall_at_100"}
"""Printed metric name -> the name that `model-index` and MTEB use."""


class Score(msgspec.Struct, frozen=True):
    """One measured figure for a card.

    Attributes:
        task: the retrieval task's name; `revision` pins its data, `split` names its part.
        metric: as it is printed, such as `nDCG@10`.
        value: mean over the queries, 0 to 1; `low` and `high` end its 95 % interval over queries.
        queries: how many queries the mean is over.
        precision: of the weights while encoding, or the runtime of a converted model, such as `openvino`.
        evaluated: the Hub commit, or `sha256:...`, that was measured; `weights` are its weights.
        identity: `sha256:...` of all that shapes the model's output; empty in records from before it was kept.
        base: name and revision of the untouched base.
        base_value: the same metric of the base.
        difference: model minus base, paired by query; `difference_low` and `difference_high` end its 95 % interval.
        dataset: the task's Hub data set; None where its data lies elsewhere.
        evidence: the folder with rankings and judgements, beside the card.
        trained_on: whether the task's queries are those that the model was trained on.
    """

    task: str
    revision: str
    split: str
    metric: str
    value: float
    low: float
    high: float
    queries: int
    precision: str
    evaluated: str
    weights: str
    base: str
    base_value: float
    difference: float
    difference_low: float
    difference_high: float
    dataset: str | None
    evidence: str
    trained_on: bool = False
    identity: str = ""


def scored_files(card: str, earlier_scores: bytes | None, name: str, scores: Sequence[Score]) -> dict[str, bytes]:
    """The files that put scores into a model's repository or folder.

    Args:
        card: its README; may be empty.
        earlier_scores: its `evaluation/scores.json`; those of another model, or of a task's data as it was before, are
            left out.
        name: how `model-index` calls the model.
        scores: what was measured, all of the same model.

    Returns:
        Path -> content.
    """
    weights, same = scores[0].weights, ("", scores[0].identity)
    revisions = {(score.task, score.split): score.revision for score in scores}
    known = {
        _key(score): score
        for score in read_scores(earlier_scores)
        if score.weights == weights
        and score.identity in same
        and revisions.get((score.task, score.split), score.revision) == score.revision
    }
    known |= {_key(score): score for score in scores}
    shown = sorted(known.values(), key=lambda score: (score.task, score.split, list(TYPES).index(score.metric)))
    parsed = parse_card(card) if card else Card({"tags": ["foils"]}, f"# {name}\n")
    text = block(BLOCK, environment.get_template("scores.md").render(scores=shown))
    data = {**parsed.data, "model-index": _model_index(parsed.data.get("model-index"), name, shown)}
    files = {
        CARD: parsed._replace(data=data, text=with_block(parsed.text, BLOCK, text, HEADING)).render().encode(),
        SCORES: msgspec.json.format(msgspec.json.encode(shown), indent=2) + b"\n",
    }
    for score in shown:
        # Leaderboards read these files: figures on training queries have no place there.
        if score.dataset is not None and score.metric == MAIN_METRIC and not score.trained_on:
            files[f".eval_results/{score.task}.yaml"] = _eval_results(score)
    return files


def figures(scores: PerQuery, base: PerQuery, metric: str) -> dict[str, Any]:
    """All figures of one metric, by their names in `Score`: of a model, of its base, and of their difference.

    Intervals resample queries; the difference is paired by query.
    """
    values = [query[metric] for query in scores.values()]
    differences = [scores[query][metric] - base[query][metric] for query in scores]
    (low, high), (difference_low, difference_high) = mean_interval(values), mean_interval(differences)
    return {
        "value": means(scores)[metric],
        "low": low,
        "high": high,
        "queries": len(scores),
        "base_value": means(base)[metric],
        "difference": float(np.mean(differences)),
        "difference_low": difference_low,
        "difference_high": difference_high,
    }


def read_scores(content: bytes | None) -> list[Score]:
    """The scores of an `evaluation/scores.json`."""
    return msgspec.json.decode(content, type=list[Score]) if content else []


def without_scores(data: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """A card's YAML without our figures of other weights."""
    kept = [
        {**model, "results": results}
        for model in data.get("model-index") or []
        if (results := [result for result in model["results"] if _weights_of(result) in (None, weights)])
    ]
    rest = {key: value for key, value in data.items() if key != "model-index"}
    return {**rest, "model-index": kept} if kept else rest


def _model_index(existing: list[dict[str, Any]] | None, name: str, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Ours under the model's entry, in place of ours from before; entries and results of others stay."""
    models = [dict(model) for model in existing or []] or [{"name": name}]
    ours = next((model for model in models if model.get("name") == name), models[0])
    by_task: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        by_task.setdefault((score.task, score.split, score.precision), []).append(score)
    foreign = [result for result in ours.get("results") or [] if _weights_of(result) is None]
    ours["results"] = [*foreign, *map(_result, by_task.values())]
    return models


def _result(scores: Sequence[Score]) -> dict[str, Any]:
    first = scores[0]
    return {
        "task": {"type": "retrieval", "name": "Retrieval"},
        "dataset": {
            "name": first.task,
            "type": first.dataset or f"local/{first.task}",
            "split": first.split,
            "revision": first.revision,
        },
        "metrics": [
            {
                "type": TYPES[score.metric],
                "name": score.metric,
                "value": round(score.value, 5),
                "args": {
                    "interval_95": [round(score.low, 5), round(score.high, 5)],
                    "queries": score.queries,
                    "untouched_base": round(score.base_value, 5),
                    "precision": score.precision,
                    "evaluated": score.evaluated,
                    "weights": score.weights,
                    **({"trained_on": True} if score.trained_on else {}),
                },
            }
            for score in scores
        ],
    }


def _weights_of(result: Mapping[str, Any]) -> str | None:
    """The weights that one of our results is of; None for other people's."""
    arguments = [metric.get("args") for metric in result.get("metrics") or []]
    return next((args["weights"] for args in arguments if isinstance(args, dict) and "weights" in args), None)


def _eval_results(score: Score) -> bytes:
    """A file as the Hub's leaderboards of data sets read it."""
    entry = EvalResultEntry(
        dataset_id=str(score.dataset),
        task_id=score.task,
        value=round(score.value, 5),
        dataset_revision=score.revision,
        notes=(
            f"{score.metric} on {score.split}, 95 % interval {score.low:.4f} to {score.high:.4f} over {score.queries} "
            f"queries, {score.precision}; evaluated {score.evaluated}; untouched base {score.base_value:.4f}"
        ),
    )
    text: str = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, width=1000)
    return text.encode()


def _key(score: Score) -> tuple[str, str, str, str]:
    return score.task, score.split, score.metric, score.precision

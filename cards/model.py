"""The model's card: written after training from the run record, then given its measured scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from cards.templates import environment

SCORES = "scores.json"
SCORES_BEGIN, SCORES_END = "<!-- scores: begin -->", "<!-- scores: end -->"


class Score(msgspec.Struct, frozen=True):
    """One measured figure for a card.

    Attributes:
        task: the retrieval task's name; `revision` pins its data, `split` names its part.
        metric: as it is printed, such as `nDCG@10`.
        value: mean over the queries, 0 to 1.
        queries: how many queries the mean is over.
        precision: of the weights while encoding, `fp32` or `bf16`.
        base_value: the same of the untouched base; None for the base itself.
    """

    task: str
    revision: str
    split: str
    metric: str
    value: float
    queries: int
    precision: str = "fp32"
    base_value: float | None = None


def write_model_card(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes a model folder's README from its run record.

    Args:
        folder: the model.
        record: as `training/train.py` writes it.
    """
    retriever = record["task"] == "retriever"
    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity" if retriever else "text-ranking",
        base_model=record["base"]["name"] if "/" in record["base"]["name"] else None,
        datasets=[record["dataset"]["name"]] if "/" in record["dataset"]["name"] else None,
        tags=["sentence-transformers", "foils", "hard-negatives"],
    )
    text = environment.get_template("model.md").render(
        yaml=data.to_yaml(), record=record, retriever=retriever, begin=SCORES_BEGIN, end=SCORES_END
    )
    (folder / "README.md").write_text(text, "utf-8")


def add_scores(folder: Path, name: str, scores: Sequence[Score]) -> None:
    """Puts scores into a model's card: `model-index` in its YAML, a table in its text, `scores.json` beside it.

    Figures of other tasks and all else that stands in the README stay; those of the same task, split and metric are
    replaced.
    """
    known = {_key(score): score for score in [*_read_scores(folder), *scores]}
    (folder / SCORES).write_bytes(msgspec.json.format(msgspec.json.encode(list(known.values())), indent=2) + b"\n")
    path = folder / "README.md"
    card = ModelCard.load(path) if path.exists() else ModelCard(f"---\ntags:\n- foils\n---\n\n# {name}\n")
    data = cast("ModelCardData", card.data)
    foreign = [
        result
        for result in data.eval_results or []
        if (result.dataset_name, result.dataset_split, result.metric_type) not in known
    ]
    data.model_name = name
    data.eval_results = [*foreign, *map(_eval_result, known.values())]
    card.text = _with_table(card.text, list(known.values()))
    card.save(path)


def _read_scores(folder: Path) -> list[Score]:
    file = folder / SCORES
    return msgspec.json.decode(file.read_bytes(), type=list[Score]) if file.exists() else []


def _eval_result(score: Score) -> EvalResult:
    return EvalResult(
        task_type="retrieval",
        task_name="Retrieval",
        dataset_type=score.task if "/" in score.task else f"local/{score.task}",
        dataset_name=score.task,
        dataset_split=score.split,
        dataset_revision=score.revision,
        metric_type=score.metric,
        metric_name=score.metric,
        metric_value=round(score.value, 5),
    )


def _key(score: Score) -> tuple[str, str, str]:
    return score.task, score.split, score.metric


def _with_table(text: str, scores: Sequence[Score]) -> str:
    """The card's text with its table of scores replaced, or added at the end."""
    block = environment.get_template("scores.md").render(scores=scores, begin=SCORES_BEGIN, end=SCORES_END).strip()
    before, begin, rest = text.partition(SCORES_BEGIN)
    _, end, after = rest.partition(SCORES_END)
    if begin and end:
        return before + block + after
    return f"{text.rstrip()}\n\n## Evaluation\n\n{block}\n"

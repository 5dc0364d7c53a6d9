"""Scores into cards: of a folder, of a Hub repository, and in the form that MTEB's results repository takes."""

import json
import logging
import re
from collections.abc import Set as AbstractSet
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from cards.publish.contribution import contribute
from cards.publish.files import CARD, read_remote, write_files
from cards.scores import SCORES, Score, scored_files
from eval.measure.results import Key, read_scores
from eval.statistics.differences import paired_difference
from foils.errors import UserError
from foils.evidence import read_rankings, write_rankings
from foils.hub import explained, pin
from foils.metrics import METRICS, mean_interval
from foils.models import ModelReference, remote_identity, remote_weights
from foils.records import Result

logger = logging.getLogger(__name__)


class Evaluation(NamedTuple):
    """A model beside its base on the same tasks, in the same order.

    Attributes:
        root: holds the results' files.
        trained_on: the model's training data, by name and by revision.
    """

    model: ModelReference
    base: ModelReference
    results: list[Result]
    base_results: list[Result]
    root: Path
    trained_on: AbstractSet[str | None] = frozenset()

    def seen(self) -> list[str]:
        """The tasks whose queries are the model's training queries."""
        return [result.task for result in self.results if self._has_seen(result)]

    def scores(self) -> list[Score]:
        """Every metric of every task, for a card."""
        return [
            self._score(result, base, metric)
            for result, base in zip(self.results, self.base_results, strict=True)
            for metric in METRICS
        ]

    def evidence(self) -> dict[str, bytes]:
        """Path beside the card -> content: rankings of model and base, judgements, and the result."""
        files = {}
        for result, base in zip(self.results, self.base_results, strict=True):
            folder, place = Key.of(result).folder(self.root), _place(result)
            for name in ("result.json", "judgements.parquet"):
                files[f"{place}/{name}"] = (folder / name).read_bytes()
            files[f"{place}/rankings.parquet"] = _published(folder)
            files[f"{place}/base-rankings.parquet"] = _published(Key.of(base).folder(self.root))
        return files

    def _score(self, result: Result, base: Result, metric: str) -> Score:
        scores, base_scores = (read_scores(Key.of(measured).folder(self.root)) for measured in (result, base))
        difference = paired_difference(scores, base_scores, metric)
        low, high = mean_interval([query[metric] for query in scores.values()])
        return Score(
            task=result.task,
            revision=result.task_revision,
            split=result.split,
            metric=metric,
            value=result.metrics[metric],
            low=low,
            high=high,
            queries=result.queries,
            precision=result.precision,
            evaluated=self.model.revision,
            weights=self.model.weights,
            base=f"{self.base.name}@{self.base.revision}",
            base_value=base.metrics[metric],
            difference=difference.mean,
            difference_low=difference.low,
            difference_high=difference.high,
            dataset=result.dataset,
            evidence=_place(result),
            trained_on=self._has_seen(result),
            identity=self.model.identity,
        )

    def _has_seen(self, result: Result) -> bool:
        return result.queries_of is not None and result.queries_of in self.trained_on


def write_scores(folder: Path, evaluation: Evaluation) -> None:
    """Puts the scores into a model folder's card, and what they rest on beside it."""
    card, earlier = folder / CARD, folder / SCORES
    files = scored_files(
        card.read_text("utf-8") if card.exists() else "",
        earlier.read_bytes() if earlier.exists() else None,
        evaluation.model.name,
        evaluation.scores(),
    )
    write_files(folder, {**evaluation.evidence(), **files})


def check_push(repo_id: str, model: ModelReference) -> str:
    """The repository that gets the scores, before anything is measured.

    Raises:
        UserError: it is not a repository, or holds another model.
    """
    if repo_id.count("/") != 1 or not repo_id.replace("/", "").strip():
        raise UserError(f"--push: {model.name} is a folder; say which repository has these weights: --push OWNER/NAME")
    _check_model(repo_id, pin(repo_id, "main", "model"), model)
    return repo_id


def push_scores(repo_id: str, evaluation: Evaluation) -> None:
    """Merges the scores into a repository's card in one commit; what others write meanwhile is merged with.

    Raises:
        UserError: the repository holds another model by now, or the Hub refuses.
    """

    def made(head: str) -> dict[str, bytes]:
        _check_model(repo_id, head, evaluation.model)
        earlier = read_remote(repo_id, "model", head, SCORES)
        files = scored_files(
            read_remote(repo_id, "model", head, CARD) or "",
            earlier.encode() if earlier else None,
            repo_id.rpartition("/")[2],
            evaluation.scores(),
        )
        return {**evaluation.evidence(), **files}

    tasks = ", ".join(sorted({result.task for result in evaluation.results}))
    contribute(repo_id, "model", "scores", f"Scores on {tasks}", made)


def _check_model(repo_id: str, commit: str, model: ModelReference) -> None:
    """Scores belong beside the model they were measured on, whatever the commit is called."""
    with explained(f"model {repo_id}"):
        found = remote_weights(repo_id, commit)
        same_settings = found != model.weights or remote_identity(repo_id, commit) == model.identity
    if found != model.weights:
        raise UserError(
            f"model {repo_id}: main holds weights {found}, and what is evaluated ({model.name}@{model.revision}) has "
            f"{model.weights}; evaluate what is there (model={repo_id}), or publish these weights first"
        )
    if not same_settings:
        raise UserError(
            f"model {repo_id}: main holds the weights of what is evaluated ({model.name}@{model.revision}) in other "
            f"settings (such as pooling or prompts); evaluate what is there (model={repo_id}), or publish it first"
        )


def write_mteb_results(folder: Path, evaluation: Evaluation) -> None:
    """Writes `results/OWNER__NAME/COMMIT/TASK.json` and `model_meta.json`, as MTEB's results repository holds them.

    Raises:
        UserError: the model has no commit on the Hub, which that repository asks for.
    """
    model = evaluation.model
    if not model.on_hub:
        raise UserError(
            f"--mteb-results: {model.name} is a folder, and MTEB's results name a Hub model and commit; publish it, "
            "and evaluate model=OWNER/NAME@VERSION"
        )
    place = folder / "results" / model.name.replace("/", "__") / model.revision
    place.mkdir(parents=True, exist_ok=True)
    accounts = [
        (result, json.loads((Key.of(result).folder(evaluation.root) / "mteb.json").read_text("utf-8")))
        for result in evaluation.results
    ]
    lists = [found for _, account in accounts if (found := account["model"].get("training_datasets")) is not None]
    for result, account in accounts:
        (place / f"{result.task}.json").write_text(json.dumps(account["result"], indent=2), "utf-8")
        meta = {**account["model"], "name": model.name, "revision": model.revision}
        meta["training_datasets"] = sorted(set().union(*lists)) if lists else None
        (place / "model_meta.json").write_text(json.dumps(meta, indent=4), "utf-8")
    logger.info("%s: copy it into a clone of github.com/embeddings-benchmark/results", place)


def _published(folder: Path) -> bytes:
    """A result's rankings, as deep as the published metrics look."""
    target = BytesIO()
    write_rankings(target, read_rankings(folder / "rankings.parquet"))
    return target.getvalue()


def _place(result: Result) -> str:
    """The folder of a result's evidence, beside the card."""
    revision = result.task_revision.removeprefix("sha256:")[:12]
    return f"evaluation/{re.sub(r'[^A-Za-z0-9._-]', '-', result.task)}-{revision}-{result.precision}"

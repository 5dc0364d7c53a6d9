"""Scores into the card of a folder or a Hub repository, with what they rest on."""

import re
from collections.abc import Set as AbstractSet
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from cards.publish.commits import contribute
from cards.publish.files import CARD, read_remote, write_files
from cards.scores import SCORES, Score, figures, scored_files
from eval.measure.results import Key, read_scores
from foils.errors import UserError
from foils.evidence import read_rankings, write_rankings
from foils.hub import explained, pin
from foils.metrics import METRICS
from foils.models import ModelReference, remote_identity, remote_weights
from foils.records import Result


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
        asked = self.trained_on - {None}
        return [result.task for result in self.results if result.queries_of in asked]

    def scores(self) -> list[Score]:
        """Every metric of every task, for a card."""
        found, seen = [], self.seen()
        for result, base in zip(self.results, self.base_results, strict=True):
            own, untouched = (read_scores(Key.of(each).folder(self.root)) for each in (result, base))
            for metric in METRICS:
                score = Score(
                    task=result.task,
                    revision=result.task_revision,
                    split=result.split,
                    metric=metric,
                    **figures(own, untouched, metric),
                    precision=result.precision,
                    evaluated=self.model.revision,
                    weights=self.model.weights,
                    base=f"{self.base.name}@{self.base.revision}",
                    dataset=result.dataset,
                    evidence=_place(result),
                    trained_on=result.task in seen,
                    identity=self.model.identity,
                )
                found.append(score)
        return found

    def files(self, card: str, earlier_scores: bytes | None, name: str) -> dict[str, bytes]:
        """The files that put the scores beside a card, and what they rest on: path -> content.

        Arguments as of `scored_files`. The evidence is rankings of model and base, judgements, and the result.
        """
        files = {}
        for result, base in zip(self.results, self.base_results, strict=True):
            folder, place = Key.of(result).folder(self.root), _place(result)
            for file in ("result.json", "judgements.parquet"):
                files[f"{place}/{file}"] = (folder / file).read_bytes()
            files[f"{place}/rankings.parquet"] = _published(folder)
            files[f"{place}/base-rankings.parquet"] = _published(Key.of(base).folder(self.root))
        return files | scored_files(card, earlier_scores, name, self.scores())


def write_scores(folder: Path, evaluation: Evaluation) -> None:
    """Puts the scores into a model folder's card, and what they rest on beside it."""
    card, earlier = folder / CARD, folder / SCORES
    text = card.read_text("utf-8") if card.exists() else ""
    scores = earlier.read_bytes() if earlier.exists() else None
    write_files(folder, evaluation.files(text, scores, evaluation.model.name))


def check_push(repo_id: str, model: ModelReference) -> str:
    """The repository that gets the scores, before anything is measured.

    Raises:
        UserError: it is not a repository, or holds another model.
    """
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", repo_id):
        raise UserError(f"--push: {model.name} is a folder; say which repository has these weights: --push OWNER/NAME")
    _check_model(repo_id, pin(repo_id, "main", "model"), model)
    return repo_id


def push_scores(repo_id: str, evaluation: Evaluation) -> None:
    """Merges the scores into a repository's card in one commit on top of what others have written.

    Raises:
        UserError: the repository holds another model, or the Hub refuses.
    """

    def made(head: str) -> dict[str, bytes]:
        _check_model(repo_id, head, evaluation.model)
        card, earlier = (read_remote(repo_id, "model", head, path) for path in (CARD, SCORES))
        return evaluation.files(card or "", earlier.encode() if earlier else None, repo_id.rpartition("/")[2])

    tasks = ", ".join(sorted({result.task for result in evaluation.results}))
    contribute(repo_id, "model", "scores", f"Scores on {tasks}", made)


def _check_model(repo_id: str, commit: str, model: ModelReference) -> None:
    """Scores belong beside the model they were measured on, whatever the commit is called."""
    with explained(f"model {repo_id}"):
        found = remote_weights(repo_id, commit)
        same = found == model.weights and remote_identity(repo_id, commit) == model.identity
    if not same:
        settings = " in other settings, such as pooling or prompts" if found == model.weights else ""
        raise UserError(
            f"model {repo_id}: main holds weights {found}{settings}, and what is evaluated "
            f"({model.name}@{model.revision}) has {model.weights}; evaluate what is there (model={repo_id}), or "
            "publish this model first"
        )


def _published(folder: Path) -> bytes:
    """A result's rankings, as deep as the published metrics look."""
    target = BytesIO()
    write_rankings(target, read_rankings(folder / "rankings.parquet"))
    return target.getvalue()


def _place(result: Result) -> str:
    """The folder of a result's evidence, beside the card."""
    revision = result.task_revision.removeprefix("sha256:")[:12]
    return f"evaluation/{re.sub(r'[^A-Za-z0-9._-]', '-', result.task)}-{revision}-{result.precision}"

"""A model's figures, computed again from the rankings and judgements that are stored beside it."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from cards.merging import parse_card
from cards.publish.files import CARD
from cards.scores import SCORES, Score, figures, read_scores, scored_files
from cards.verify.artefact import Artefact, hub_commit
from cards.verify.links import BrokenError, Link, UnverifiableError, examine, require
from foils.beir import by_query, judgements
from foils.errors import UserError
from foils.evidence import read_judgements, read_rankings
from foils.hub import COMMIT, data_files
from foils.metrics import Qrels, per_query_scores
from foils.models import identity_of

TOLERANCE = 1e-9


def evaluation_links(artefact: Artefact, weights: str) -> Iterator[Link]:
    """The figures of a model's card, down to what they were computed from; nothing where it was not evaluated.

    Args:
        artefact: the model.
        weights: `sha256:...` of the weights that lie there.
    """
    file = artefact.folder / SCORES
    if not file.is_file():
        return
    scores: list[Score] = []

    def read() -> str:
        try:
            scores.extend(read_scores(file.read_bytes()))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BrokenError(f"{SCORES}: {error}") from None
        for each in scores:
            other = f"{each.task}: measured on weights {each.weights[:19]}, and here lie {weights[:19]}"
            require(each.weights == weights, other)
            other = f"{each.task}: measured with another tokenizer, pooling, prompts or length"
            require(each.identity in ("", identity_of(artefact.folder, weights)), other)
        return f"{len(scores)} figures, all of the model that lies here"

    yield examine("scores: weights", read)
    if not scores:
        return
    yield examine("scores: card", partial(_card, artefact, scores))
    for place in dict.fromkeys(score.evidence for score in scores):
        of_task = [score for score in scores if score.evidence == place]
        yield examine(f"scores: {of_task[0].task}", partial(_figures, artefact.file(place), of_task))
        yield examine(f"scores: {of_task[0].task}, task data", partial(_task_data, artefact.file(place), of_task[0]))


def _card(artefact: Artefact, scores: list[Score]) -> str:
    """The card has the scores if putting them in again changes nothing."""
    card = artefact.card()
    try:
        index = parse_card(card).data.get("model-index") or [{}]
        expected = scored_files(card, None, str(index[0].get("name", "")), scores)[CARD].decode()
    except (KeyError, TypeError, AttributeError) as error:  # anyone may have written the card
        raise BrokenError(f"README.md: its model-index is not of the Hub's form ({error!r})") from None
    require(expected == card, f"README.md does not show what {SCORES} holds")
    return f"model-index and table show what {SCORES} holds"


def _figures(folder: Path, scores: list[Score]) -> str:
    qrels = read_judgements(folder / "judgements.parquet")
    require(qrels, "no judgements are stored")
    model, base = (
        per_query_scores(read_rankings(folder / f"{name}.parquet"), qrels) for name in ("rankings", "base-rankings")
    )
    for score in scores:
        for name, found in figures(model, base, score.metric).items():
            stated = getattr(score, name)
            other = f"{score.metric}: {name} is {found:.6f} from the rankings, and stated as {stated:.6f}"
            require(math.isclose(found, stated, abs_tol=TOLERANCE), other)
    listed = ", ".join(f"{score.metric} {score.value:.4f}" for score in scores)
    return f"{listed}: computed again from the rankings of {len(qrels)} queries, with intervals and base"


def _task_data(folder: Path, score: Score) -> str:
    """The judgements are those of the task's data set at its revision."""
    if score.dataset is None or not COMMIT.fullmatch(score.revision):
        raise UnverifiableError(f"{score.task} comes from local files, {score.revision[:19]}")
    hub_commit(score.dataset, "dataset", score.revision)
    where, stored = f"{score.dataset}@{score.revision[:12]}", read_judgements(folder / "judgements.parquet")
    try:
        files = data_files(score.dataset, "default", score.split, score.revision)
        published = by_query(row for file in files for row in judgements(file, "judgements"))
    except UserError as error:
        raise UnverifiableError(f"{where}: judgements in another form: {error}") from None
    require(_relevant(stored) == _relevant(published), f"the stored judgements are not those of {where}")
    return f"judgements are those of {where}"


def _relevant(qrels: Qrels) -> set[tuple[str, str, int]]:
    return {
        (query, passage, grade) for query, judged in qrels.items() for passage, grade in judged.items() if grade > 0
    }

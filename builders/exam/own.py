"""People's own queries and judgements, in place of an exam that an LLM writes or beside it."""

from pathlib import Path

from builders.corpus import Corpus
from builders.exam import STAGE
from builders.exam.config import ExamConfig
from builders.queries import labelled
from builders.queries.config import QueriesConfig
from foils.archives import unpacked
from foils.beir import splits
from foils.errors import UserError


def own_queries(config: ExamConfig, corpus: Corpus) -> labelled.Labelled | None:
    """Reads the queries that `exam.source` names; None where it names none.

    Raises:
        UserError: as `labelled.read`; also if there are no judgements.
    """
    if config.source is None:
        return None
    folder = unpacked(Path(config.source), "exam.source")
    if folder.is_dir() and not splits(folder):
        raise UserError(
            f"exam.source {config.source}: it has no judgements (qrels/{config.split}.tsv), which say what answers a "
            "query; add them, or leave exam.source out, and an LLM writes the exam"
        )
    return labelled.read(QueriesConfig(config.source, config.split, config.sample), corpus, config.seed, STAGE)

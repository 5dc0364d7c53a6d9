"""People's own queries, in place of an exam that an LLM writes or beside it."""

import logging
from pathlib import Path

from builders.corpus import Corpus
from builders.exam import STAGE
from builders.exam.config import ExamConfig
from builders.queries import labelled
from builders.queries.config import QueriesConfig
from foils.archives import unpacked
from foils.beir import splits
from foils.errors import UserError

logger = logging.getLogger(__name__)


def own_queries(config: ExamConfig, corpus: Corpus) -> labelled.Labelled | None:
    """Reads the queries that `exam.source` names; None where it names none.

    Raises:
        UserError: as `labelled.read`, or `exam.llm` would have nothing to do.
    """
    if config.source is None:
        return None
    asked = QueriesConfig(config.source, config.split, config.sample)
    if not splits(unpacked(Path(config.source), "exam.source")):
        words = (
            "exam.source %s: it has no judgements (qrels/%s.tsv), so the LLM judges what the build's retrieval finds"
        )
        logger.warning(words, config.source, config.split)
        return labelled.unjudged(asked, config.seed, STAGE)
    if config.llm is not None and not config.wanted:
        raise UserError(
            f"exam.llm is for queries that an LLM writes or judges, and exam.source {config.source} has judgements; "
            "say with exam.queries how many to write beside them, or leave exam.llm out"
        )
    return labelled.read(asked, corpus, config.seed, STAGE)

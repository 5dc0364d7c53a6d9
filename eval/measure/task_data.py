"""The data of a retrieval task: read from folders, checked, and put into the form in which mteb runs it."""

import logging
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyarrow as pa
from datasets import Dataset, Features, Value
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from eval.measure.languages import language_code, seems_in
from foils.beir import Qrels, by_query, judgements, of_queries, records
from foils.errors import UserError
from foils.provenance import sha256_texts

logger = logging.getLogger(__name__)

CORPUS = Features({"id": Value("string"), "title": Value("string"), "text": Value("string")})
QUERIES = Features({"id": Value("string"), "text": Value("string")})
_BATCH = 10_000
_READ = 200  # passages that tell the language


class TaskData(NamedTuple):
    """A retrieval task's data.

    Attributes:
        scratch: the folder that the passages' file lies in.
        corpus: passages, mapped from a file: a million of them are several gigabytes.
        queries: those that are judged.
        qrels: judgements.
    """

    scratch: "TemporaryDirectory[str]"
    corpus: Dataset
    queries: list[dict[str, str]]
    qrels: Qrels

    @classmethod
    def read(
        cls, corpus: Sequence[Path], asked: Sequence[Path], judged: Sequence[Path], where: str, corpus_name: str
    ) -> "TaskData":
        """Reads a task's files, and reports judgements of passages that are not there; these count, as in MTEB.

        Args:
            corpus: of its passages.
            asked: of its queries, judged or not.
            judged: of its judgements.
            where: opens errors.
            corpus_name: what errors call the corpus.

        Raises:
            UserError: an id or a text is missing, not text or not unique; no judged query or no judged passage is
                there; or nothing is relevant.
        """
        scratch = TemporaryDirectory(prefix="foils-")
        rows = ({"id": row.id, "title": row.title or "", "text": row.stated()} for row in records(corpus, "task"))
        passages = _on_disk(rows, Path(scratch.name) / "corpus.arrow")
        queries = [{"id": row.id, "text": row.stated()} for row in records(asked, "task")]
        known, stated = set(passages["id"]), by_query(row for file in judged for row in judgements(file, "task"))
        qrels = of_queries(stated, {row["id"] for row in queries}, where)
        lost = [(query, passage) for query, found in qrels.items() for passage in found if passage not in known]
        if lost:
            found = f"{where}: query {lost[0][0]!r} names passage {lost[0][1]!r}, which is not among the {len(known)} "
            found += f"passages of {corpus_name}"
            if len(lost) == sum(map(len, qrels.values())):
                raise UserError(found)
            logger.warning("%s; %d judgements of this sort count, as in MTEB, and cannot be met", found, len(lost))
        if not any(score > 0 for found in qrels.values() for score in found.values()):
            raise UserError(f"{where}: no judgements above 0")
        return cls(scratch, passages, [row for row in queries if row["id"] in qrels], qrels)

    def content_hash(self) -> str:
        """SHA-256 (hex) of all that is measured on."""
        batches = self.corpus.iter(_BATCH)  # a list of all rows would hold every passage
        return sha256_texts(
            chain(
                (row for batch in batches for row in zip(*(batch[name] for name in CORPUS), strict=True)),
                ((row["id"], row["text"]) for row in self.queries),
                ((query, passage, str(score)) for query, hits in self.qrels.items() for passage, score in hits.items()),
            )
        )

    def as_task(
        self, name: str, split: str, revision: str, language: str | None, *, ignore_identical_ids: bool
    ) -> AbsTaskRetrieval:
        """The data as mteb runs it; without a language, in that of its passages."""
        unknown = ("reference", "date", "domains", "task_subtypes", "license", "annotations_creators", "dialect")
        about = TaskMetadata(
            name=name,
            description=f"Local retrieval task {name}.",
            dataset={"path": name, "revision": revision},
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_splits=[split],
            eval_langs=[language_code(language or seems_in(self.corpus[:_READ]["text"]))],
            main_score="ndcg_at_10",
            bibtex_citation="",
            **dict.fromkeys((*unknown, "sample_creation")),
        )
        task = type("Local", (AbsTaskRetrieval,), {"metadata": about})()
        task.ignore_identical_ids = ignore_identical_ids
        if not ignore_identical_ids and (count := self._find_themselves()):
            logger.warning(
                "task %s: %d of its queries stand in the corpus under their own ids, and each finds itself; set "
                "ignore_identical_ids = true to leave these hits out, as MTEB does for such tasks",
                *(name, count),
            )
        queries = Dataset.from_list(self.queries, features=QUERIES)
        data = {"corpus": self.corpus, "queries": queries, "relevant_docs": self.qrels, "top_ranked": None}
        task.dataset = {"default": {split: data}}
        task.data_loaded = True
        task.scratch = self.scratch  # goes with the task
        return task

    def _find_themselves(self) -> int:
        """How many queries have a passage with their id and text."""
        known = set(self.corpus["id"])
        texts = {row["id"]: row["text"] for row in self.queries if row["id"] in known}
        return sum(texts.get(row["id"]) == row["text"] for row in self.corpus) if texts else 0


def _on_disk(rows: Iterator[dict[str, str]], file: Path) -> Dataset:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, CORPUS.arrow_schema) as writer:
        while some := list(islice(rows, _BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(some, CORPUS.arrow_schema))
    return Dataset.from_file(str(file))

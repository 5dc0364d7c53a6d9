"""The data of a retrieval task: read from folders, checked, and put into the form in which mteb runs it."""

import logging
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Value
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from eval.measure.languages import language_code, seems_in
from foils.beir import by_query, jsonl, judgement, judgements, stated, text_of
from foils.errors import UserError
from foils.provenance import sha256_texts

logger = logging.getLogger(__name__)

CORPUS = Features({"id": Value("string"), "title": Value("string"), "text": Value("string")})
QUERIES = Features({"id": Value("string"), "text": Value("string")})
_BATCH = 10_000
_READ = 200  # passages that tell the language
Qrels = dict[str, dict[str, int]]
Rows = Iterable[tuple[str, dict[str, Any]]]
"""Records, each with where it stands, for errors."""


def rows_of(path: Path, config: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of `corpus` or `queries` in a BEIR folder, a `.jsonl` file or a data set folder of `builders.build`."""
    if (path / "manifest.json").exists():
        for file in sorted((path / config).glob("*.parquet")):
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches():
                    yield from ((f"task {file}", row) for row in batch.to_pylist())
        return
    file = path if path.suffix == ".jsonl" else path / f"{config}.jsonl"
    for line in jsonl(file, "task"):
        yield f"task {file}: line {line.number}", line.record


def judged_queries(folder: Path, split: str) -> Qrels:
    """Judgements by query, in the file's order.

    Raises:
        UserError: there is no such split, or a judgement has another form.
    """
    if (folder / "manifest.json").exists():
        return by_query(judgement(row, where) for where, row in rows_of(folder, "default"))
    path = folder / "qrels" / f"{split}.tsv"
    if not path.exists():
        found = ", ".join(sorted(file.stem for file in path.parent.glob("*.tsv"))) or "none"
        raise UserError(f"{path}: no such file; splits in {path.parent}: {found}")
    return by_query(judgements(path))


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
    def read(cls, corpus: Rows, asked: Rows, qrels: Qrels, where: str, corpus_name: str) -> "TaskData":
        """Reads a task's rows, and reports judgements of passages that are not there; these count, as in MTEB.

        Args:
            corpus: its passages.
            asked: its queries, judged or not.
            qrels: its judgements.
            where: opens errors.
            corpus_name: what errors call the corpus.

        Raises:
            UserError: an id or a text is missing, not text or not unique; a judged query is not there, or no judged
                passage is; or nothing is relevant.
        """
        scratch = TemporaryDirectory(prefix="foils-")
        passages = _on_disk(_checked(corpus, title=True), Path(scratch.name) / "corpus.arrow")
        queries = list(_checked(asked))
        known, stray = set(passages["id"]), qrels.keys() - {row["id"] for row in queries}
        if stray:
            raise UserError(f"{where}: query {min(stray)!r} is judged but is not among the queries")
        lost = [(query, passage) for query, judged in qrels.items() for passage in judged if passage not in known]
        if lost:
            found = f"{where}: query {lost[0][0]!r} names passage {lost[0][1]!r}, which is not among the {len(known)} "
            found += f"passages of {corpus_name}"
            if len(lost) == sum(map(len, qrels.values())):
                raise UserError(found)
            logger.warning("%s; %d judgements of this sort count, as in MTEB, and cannot be met", found, len(lost))
        if not any(score > 0 for judged in qrels.values() for score in judged.values()):
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


def _checked(rows: Rows, *, title: bool = False) -> Iterator[dict[str, str]]:
    """Passages, which have titles, or queries as mteb wants them; every id and text is there, and ids are unique."""
    seen: set[str] = set()
    for where, record in rows:
        row_id = stated(record, "_id", where)
        if row_id in seen:
            raise UserError(f"{where}: id {row_id!r} occurs twice; ids must be unique")
        seen.add(row_id)
        titled = {"title": text_of(record.get("title"), f"{where}: 'title'") or ""} if title else {}
        yield {"id": row_id, **titled, "text": stated(record, "text", where)}


def _on_disk(rows: Iterator[dict[str, str]], file: Path) -> Dataset:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, CORPUS.arrow_schema) as writer:
        while some := list(islice(rows, _BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(some, CORPUS.arrow_schema))
    return Dataset.from_file(str(file))

"""The data of a retrieval task, checked, and put into the form in which mteb runs it."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
from datasets import Dataset, Features, Value
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from eval.measure.languages import language_code
from eval.measure.task_files import Qrels, has_answer, passages, queries
from foils.errors import UserError
from foils.provenance import sha256_texts

logger = logging.getLogger(__name__)

CORPUS = Features({"id": Value("string"), "title": Value("string"), "text": Value("string")})
QUERIES = Features({"id": Value("string"), "text": Value("string")})


class Reading(NamedTuple):
    """What a recipe says of all its folders and Hub data sets; see `eval.recipe.EvalRecipe`."""

    language: str | None = None
    ignore_identical_ids: bool = False


class TaskData(NamedTuple):
    """A retrieval task's data.

    Attributes:
        scratch: the folder that the passages' file lies in.
        corpus: passages, mapped from a file: a million of them are several gigabytes.
        queries: among them some, perhaps, that are not judged.
        qrels: judgements.
    """

    scratch: "TemporaryDirectory[str]"
    corpus: Dataset
    queries: list[dict[str, str]]
    qrels: Qrels

    @classmethod
    def of(
        cls,
        corpus: Iterable[tuple[str, Mapping[str, Any]]],
        asked: Iterable[tuple[str, Mapping[str, Any]]],
        qrels: Qrels,
    ) -> "TaskData":
        """Reads a task's records, each with where it stands, for errors.

        Raises:
            UserError: see `eval.measure.task_files.passages`.
        """
        scratch = TemporaryDirectory(prefix="foils-")
        return cls(
            scratch, _on_disk(passages(corpus), Path(scratch.name) / "corpus.arrow"), list(queries(asked)), qrels
        )

    def check(self, where: str, corpus: str) -> None:
        """Reports judgements of passages that are not there (ArguAna has five of them); they count, as in MTEB.

        Raises:
            UserError: a judged query is not there, or no judged passage is, or nothing is relevant.
        """
        known, asked = set(self.corpus["id"]), {row["id"] for row in self.queries}
        stray = next((query_id for query_id in self.qrels if query_id not in asked), None)
        if stray is not None:
            raise UserError(f"{where}: query {stray!r} is judged but is not among the queries")
        lost = [(query, passage) for query, judged in self.qrels.items() for passage in judged if passage not in known]
        if lost:
            found = f"{where}: query {lost[0][0]!r} names passage {lost[0][1]!r}, which is not among the {len(known)} "
            found += f"passages of {corpus}"
            if len(lost) == sum(map(len, self.qrels.values())):
                raise UserError(found)
            logger.warning("%s; %d judgements of this sort count, as in MTEB, and cannot be met", found, len(lost))
        if not any(has_answer(judged) for judged in self.qrels.values()):
            raise UserError(f"{where}: no judgements above 0")

    def content_hash(self) -> str:
        """SHA-256 (hex) of all that is measured on."""
        # One after the other: a list of them would hold every passage.
        return sha256_texts(
            chain(
                ((row["id"], row["title"], row["text"]) for row in self.corpus),
                ((row["id"], row["text"]) for row in self._judged()),
                (
                    (query_id, passage_id, str(score))
                    for query_id, judged in self.qrels.items()
                    for passage_id, score in judged.items()
                ),
            )
        )

    def as_task(self, name: str, split: str, revision: str, reading: Reading) -> AbsTaskRetrieval:
        """The data as mteb runs it."""
        task = _empty_task(name, split, revision, language_code(reading.language or "en"))
        task.ignore_identical_ids = reading.ignore_identical_ids
        if not reading.ignore_identical_ids and (count := self._find_themselves()):
            logger.warning(
                "task %s: %d of its queries stand in the corpus under their own ids, and each finds itself; set "
                "ignore_identical_ids = true to leave these hits out, as MTEB does for such tasks",
                *(name, count),
            )
        task.dataset = {
            "default": {
                split: {
                    "corpus": self.corpus,
                    "queries": Dataset.from_list(self._judged(), features=QUERIES),
                    "relevant_docs": self.qrels,
                    "top_ranked": None,
                }
            }
        }
        task.data_loaded = True
        task.scratch = self.scratch  # goes with the task
        return task

    def _find_themselves(self) -> int:
        """How many queries have a passage with their id and text."""
        known = set(self.corpus["id"])
        texts = {row["id"]: row["text"] for row in self._judged() if row["id"] in known}
        return sum(texts.get(row["id"]) == row["text"] for row in self.corpus) if texts else 0

    def _judged(self) -> list[dict[str, str]]:
        return [row for row in self.queries if row["id"] in self.qrels]


def _on_disk(rows: Iterator[dict[str, str]], file: Path) -> Dataset:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, CORPUS.arrow_schema) as writer:
        while some := list(islice(rows, 10_000)):
            writer.write_batch(pa.RecordBatch.from_pylist(some, CORPUS.arrow_schema))
    return Dataset.from_file(str(file))


def _empty_task(name: str, split: str, revision: str, language: str) -> AbsTaskRetrieval:
    """A task of mteb's without data yet; `language` in mteb's form, such as `deu-Latn`."""
    unknown = ("reference", "date", "domains", "task_subtypes", "license", "annotations_creators", "dialect")
    about = TaskMetadata(
        name=name,
        description=f"Local retrieval task {name}.",
        dataset={"path": name, "revision": revision},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=[split],
        eval_langs=[language],
        main_score="ndcg_at_10",
        bibtex_citation="",
        **dict.fromkeys((*unknown, "sample_creation")),
    )
    return type("Local", (AbsTaskRetrieval,), {"metadata": about})()

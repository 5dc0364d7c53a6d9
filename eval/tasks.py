"""Retrieval tasks as mteb runs them: its own by name, BEIR folders, and data sets of `builders.build`."""

import json
import logging
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mteb
import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value
from mteb.abstasks import AbsTaskRetrieval

from eval.languages import language_code, stated_in, stated_on_hub
from eval.mteb_task import mteb_task
from eval.recipe import LocalTask
from eval.task_files import Qrels, corpus_rows, has_answer, judged_queries, passages, queries, query_rows
from foils.beir import by_query, judgement
from foils.encode.drift import Texts
from foils.errors import UserError
from foils.hub import load_parquet, pin
from foils.provenance import sha256_file, sha256_texts
from foils.texts import passage_text

logger = logging.getLogger(__name__)

CORPUS = Features({"id": Value("string"), "title": Value("string"), "text": Value("string")})
QUERIES = Features({"id": Value("string"), "text": Value("string")})
HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


class Task(NamedTuple):
    """A task ready to run.

    Attributes:
        name: as results and cards print it.
        revision: a Hub commit, or `sha256:...` of a local task's corpus, queries and judgements.
        split: the part of the judgements that is measured.
        dataset: the Hub data set that the data comes from; None for local files.
        queries_of: the data set of `builders.build` whose own queries are asked, by Hub id or `sha256:...` of its
            manifest: a model that was trained on it has seen them.
        mteb: the task object.
        language_assumed: whether nothing says the language, so that English is taken.
    """

    name: str
    revision: str
    split: str
    dataset: str | None
    queries_of: str | None
    mteb: AbsTaskRetrieval
    language_assumed: bool = False

    @property
    def ignores_identical_ids(self) -> bool:
        """Whether the passage whose id is the query's is left out of the rankings."""
        return bool(self.mteb.ignore_identical_ids)

    def qrels(self) -> Qrels:
        """Judgements by query, loading the data if need be."""
        self.mteb.load_data()
        self.mteb.convert_v1_dataset_format_to_v2(num_proc=None)
        judgements: Qrels = self.mteb.dataset["default"][self.split]["relevant_docs"]
        return judgements

    def unanswerable(self) -> int:
        """How many queries have no relevant passage; they score 0, as in MTEB."""
        return sum(not has_answer(judged) for judged in self.qrels().values())

    def sample(self, queries: int = 32, passages: int = 40) -> Texts:
        """Some of its queries and passages, evenly over all, to try a model on."""
        self.qrels()
        data = self.mteb.dataset["default"][self.split]
        chosen = _spread(data["corpus"], passages)
        return Texts(
            queries=[row["text"] for row in _spread(data["queries"], queries)],
            passages=[passage_text(row.get("title"), row["text"]) for row in chosen],
            calibration=[],
        )


class Reading(NamedTuple):
    """What a recipe says of all its folders and Hub data sets; see `eval.recipe.EvalRecipe`."""

    language: str | None = None
    ignore_identical_ids: bool = False


def _spread(rows: Dataset, count: int) -> Dataset:
    return rows.select(np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int)))


def load_task(reference: str | LocalTask, reading: Reading | None = None, name: str | None = None) -> Task:
    """Makes the task that a recipe names.

    Args:
        reference: the task.
        reading: what the recipe says beside.
        name: of a folder or Hub data set, in place of its `plain_name`.

    Raises:
        UserError: there is no such task or folder, or the folder's files do not fit together.
    """
    reading = reading or Reading()
    if isinstance(reference, LocalTask):
        return _local(reference, reading)
    name, folder = name or plain_name(reference), Path(reference)
    if folder.is_dir():
        task = _local(LocalTask(name=name, corpus=reference, questions=reference), reading)
        manifest = folder / "manifest.json"
        return task._replace(queries_of=f"sha256:{sha256_file(manifest)}") if manifest.exists() else task
    if HUB.fullmatch(reference):
        return _from_hub(name, *reference.partition("@")[::2], reading)
    return _named(reference)


def plain_name(reference: str | LocalTask) -> str:
    """What a task is called for itself: by its recipe, its manifest, its folder, or the Hub."""
    if isinstance(reference, LocalTask):
        return reference.name
    folder = Path(reference)
    if (folder / "manifest.json").exists():
        return str(json.loads((folder / "manifest.json").read_text("utf-8"))["name"])
    return folder.resolve().name if folder.is_dir() else reference.partition("@")[0].rpartition("/")[2]


def _named(name: str) -> Task:
    try:
        task = mteb.get_task(name)
    except (KeyError, ValueError):
        raise UserError(
            f"task {name!r}: neither a folder nor a task that mteb knows; wanted e.g. SciFact or a folder with "
            "corpus.jsonl, queries.jsonl and qrels/test.tsv"
        ) from None
    if not isinstance(task, AbsTaskRetrieval) or task.metadata.is_multilingual:
        raise UserError(f"task {name!r}: not a retrieval task in one language")
    split = "test" if "test" in task.metadata.eval_splits else task.metadata.eval_splits[0]
    return Task(name, str(task.metadata.dataset["revision"]), split, str(task.metadata.dataset["path"]), None, task)


def _local(local: LocalTask, reading: Reading) -> Task:
    scratch = TemporaryDirectory(prefix="foils-")
    corpus = _on_disk(corpus_rows(Path(local.corpus)), Path(scratch.name) / "corpus.arrow")
    questions = Path(local.questions)
    data = _Data(scratch, corpus, list(query_rows(questions)), judged_queries(questions, local.split))
    data.check(f"task {local.name} ({local.questions}, split {local.split})", local.corpus)
    revision = "sha256:" + data.content_hash()
    language = local.language or stated_in(Path(local.corpus)) or reading.language
    ignored = local.ignore_identical_ids or reading.ignore_identical_ids
    made = data.as_task(local.name, local.split, revision, Reading(language, ignored))
    return Task(local.name, revision, local.split, None, None, made, language is None)


def _from_hub(name: str, repo_id: str, revision: str, reading: Reading) -> Task:
    """A Hub data set with configurations `corpus`, `queries` and `default`, such as `builders.build` publishes."""
    if not revision:
        raise UserError(f"task {repo_id}: a Hub data set needs its revision, such as {repo_id}@v1.0.0")
    commit = pin(repo_id, revision, "dataset")
    corpus = load_parquet(repo_id, "corpus", "corpus", commit)
    asked = load_parquet(repo_id, "queries", "queries", commit)
    scratch = TemporaryDirectory(prefix="foils-")
    where = f"task {repo_id}@{revision}"
    judged = load_parquet(repo_id, None, "test", commit)
    data = _Data(
        scratch,
        _on_disk(passages(_numbered(corpus, f"{where}: corpus")), Path(scratch.name) / "corpus.arrow"),
        list(queries(_numbered(asked, f"{where}: queries"))),
        by_query(judgement(row, place) for place, row in _numbered(judged, f"{where}: judgements")),
    )
    data.check(where, "its configuration corpus")
    language = stated_on_hub(repo_id, commit) or reading.language
    made = data.as_task(name, "test", commit, reading._replace(language=language))
    return Task(name, commit, "test", repo_id, repo_id, made, language is None)


def _numbered(rows: Dataset, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a Hub data set with their places."""
    return ((f"{where}: row {number}", row) for number, row in enumerate(rows, start=1))


def _on_disk(passages: Iterator[dict[str, str]], file: Path) -> Dataset:
    """Passages as a data set that is mapped, not held: a million of them are several gigabytes."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, CORPUS.arrow_schema) as writer:
        while rows := list(islice(passages, 10_000)):
            writer.write_batch(pa.RecordBatch.from_pylist(rows, CORPUS.arrow_schema))
    return Dataset.from_file(str(file))


class _Data(NamedTuple):
    """A retrieval task's data.

    Attributes:
        scratch: the folder that the passages' file lies in.
        corpus: passages.
        queries: among them some, perhaps, that are not judged.
        qrels: judgements.
    """

    scratch: "TemporaryDirectory[str]"
    corpus: Dataset
    queries: list[dict[str, str]]
    qrels: Qrels

    def check(self, where: str, corpus: str) -> None:
        """Reports judgements of passages that are not there, ArguAna has five of them; they count, as in MTEB.

        Raises:
            UserError: a judged query is not there, or no judged passage is, or nothing is relevant.
        """
        known, asked = set(self.corpus["id"]), {row["id"] for row in self.queries}
        stray = next((query_id for query_id in self.qrels if query_id not in asked), None)
        if stray is not None:
            raise UserError(f"{where}: query {stray!r} is judged but is not among the queries")
        lost = [(query, passage) for query, judged in self.qrels.items() for passage in judged if passage not in known]
        if lost:
            told = f"{where}: query {lost[0][0]!r} names passage {lost[0][1]!r}, which is not among the {len(known)} "
            told += f"passages of {corpus}"
            if len(lost) == sum(map(len, self.qrels.values())):
                raise UserError(told)
            logger.warning("%s; %d judgements of this sort count, as in MTEB, and cannot be met", told, len(lost))
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
        task = mteb_task(name, split, revision, language_code(reading.language or "en"))
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

"""Retrieval tasks as mteb runs them: its own by name, BEIR folders, and data sets of `builders.build`."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mteb
from datasets import Dataset, Features, Value
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from cards.errors import UserError
from cards.hub import load_parquet, pin
from cards.provenance import sha256_file, sha256_texts
from eval.recipe import LocalTask

CORPUS = Features({"id": Value("string"), "title": Value("string"), "text": Value("string")})
QUERIES = Features({"id": Value("string"), "text": Value("string")})
Qrels = dict[str, dict[str, int]]


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
        without_answer: queries that were left out of the task object, as none of their judged passages is relevant.
    """

    name: str
    revision: str
    split: str
    dataset: str | None
    queries_of: str | None
    mteb: AbsTaskRetrieval
    without_answer: int = 0

    def qrels(self) -> Qrels:
        """Judgements by query, loading the data if need be; a query without a relevant passage is not among them."""
        return {query: judged for query, judged in self._judgements().items() if _has_answer(judged)}

    def unanswerable(self) -> int:
        """Queries of which every judged passage is irrelevant: counted, and not measured."""
        return self.without_answer + sum(not _has_answer(judged) for judged in self._judgements().values())

    def _judgements(self) -> Qrels:
        self.mteb.load_data()
        self.mteb.convert_v1_dataset_format_to_v2(num_proc=None)
        judgements: Qrels = self.mteb.dataset["default"][self.split]["relevant_docs"]
        return judgements


def load_task(reference: str | LocalTask) -> Task:
    """Makes the task that a recipe names.

    Raises:
        UserError: there is no such task or folder, or the folder's files do not fit together.
    """
    if isinstance(reference, LocalTask):
        return _local(reference)
    folder = Path(reference)
    if (folder / "manifest.json").exists():
        name = json.loads((folder / "manifest.json").read_text("utf-8"))["name"]
        seen = f"sha256:{sha256_file(folder / 'manifest.json')}"
        return _local(LocalTask(name=name, corpus=reference, questions=reference))._replace(queries_of=seen)
    if folder.is_dir():
        return _local(LocalTask(name=folder.resolve().name, corpus=reference, questions=reference))
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", reference):
        return _from_hub(*reference.partition("@")[::2])
    return _named(reference)


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


def _local(local: LocalTask) -> Task:
    corpus = list(_corpus(Path(local.corpus)))
    questions = Path(local.questions)
    queries = list(_queries(questions))
    qrels = _qrels(questions, local.split)
    data = _Data(corpus, queries, *qrels)
    data.check(f"task {local.name} ({local.questions}, split {local.split})", local.corpus)
    revision = "sha256:" + data.content_hash()
    made = data.as_task(local.name, local.split, revision)
    return Task(local.name, revision, local.split, None, None, made, data.without_answer)


def _from_hub(repo_id: str, revision: str) -> Task:
    """A Hub data set with configurations `corpus`, `queries` and `default`, such as `builders.build` publishes."""
    if not revision:
        raise UserError(f"task {repo_id}: a Hub data set needs its revision, such as {repo_id}@v1.0.0")
    commit = pin(repo_id, revision, "dataset")
    corpus = load_parquet(repo_id, "corpus", "corpus", commit)
    queries = load_parquet(repo_id, "queries", "queries", commit)
    data = _Data(
        [{"id": row["_id"], "title": row.get("title") or "", "text": row["text"]} for row in corpus],
        [{"id": row["_id"], "text": row["text"]} for row in queries],
        *_by_query(
            (row["query-id"], row["corpus-id"], row["score"]) for row in load_parquet(repo_id, None, "test", commit)
        ),
    )
    data.check(f"task {repo_id}@{revision}", "its configuration corpus")
    name = repo_id.rpartition("/")[2]
    return Task(name, commit, "test", repo_id, repo_id, data.as_task(name, "test", commit), data.without_answer)


class _Data(NamedTuple):
    """A retrieval task's passages, queries, judgements, and how many queries have none that is relevant."""

    corpus: list[dict[str, str]]
    queries: list[dict[str, str]]
    qrels: Qrels
    without_answer: int

    def check(self, where: str, corpus: str) -> None:
        """Refuses judgements of what is not there.

        Raises:
            UserError: names the query or passage.
        """
        known = {row["id"] for row in self.corpus}
        asked = {row["id"] for row in self.queries}
        for query_id, judged in self.qrels.items():
            if query_id not in asked:
                raise UserError(f"{where}: query {query_id!r} is judged but is not among the queries")
            unknown = [passage_id for passage_id in judged if passage_id not in known]
            if unknown:
                raise UserError(
                    f"{where}: query {query_id!r} names passage {unknown[0]!r}, which is not among the {len(known)} "
                    f"passages of {corpus}"
                )
        if not self.qrels:
            raise UserError(f"{where}: no judgements above 0")

    def content_hash(self) -> str:
        """SHA-256 (hex) of all that is measured on."""
        return sha256_texts(
            [
                *((row["id"], row["title"], row["text"]) for row in self.corpus),
                *((row["id"], row["text"]) for row in self._judged()),
                *(
                    (query_id, passage_id, str(score))
                    for query_id, judged in self.qrels.items()
                    for passage_id, score in judged.items()
                ),
            ]
        )

    def as_task(self, name: str, split: str, revision: str) -> AbsTaskRetrieval:
        """The data as mteb runs it."""
        task = _mteb_task(name, split, revision)
        task.dataset = {
            "default": {
                split: {
                    "corpus": Dataset.from_list(self.corpus, features=CORPUS),
                    "queries": Dataset.from_list(self._judged(), features=QUERIES),
                    "relevant_docs": self.qrels,
                    "top_ranked": None,
                }
            }
        }
        task.data_loaded = True
        return task

    def _judged(self) -> list[dict[str, str]]:
        return [row for row in self.queries if row["id"] in self.qrels]


def _mteb_task(name: str, split: str, revision: str) -> AbsTaskRetrieval:
    """A task object around data that is already in memory."""
    metadata_ = TaskMetadata(
        name=name,
        description=f"Local retrieval task {name}.",
        dataset={"path": name, "revision": revision},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=[split],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        reference=None,
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation="",
    )

    class _Local(AbsTaskRetrieval):  # type: ignore[misc]  # mteb's types are not followed
        metadata = metadata_

    return _Local()


def _corpus(path: Path) -> Iterator[dict[str, str]]:
    """Passages of a BEIR folder, a `.jsonl` file or a data set folder, as mteb wants them."""
    if (path / "manifest.json").exists():
        rows: Iterable[dict[str, Any]] = _parquet(path, "corpus")
    else:
        rows = _jsonl(path if path.suffix == ".jsonl" else path / "corpus.jsonl")
    for row in rows:
        yield {"id": str(row["_id"]), "title": str(row.get("title") or ""), "text": str(row["text"])}


def _queries(folder: Path) -> Iterator[dict[str, str]]:
    rows = _parquet(folder, "queries") if (folder / "manifest.json").exists() else _jsonl(folder / "queries.jsonl")
    for row in rows:
        yield {"id": str(row["_id"]), "text": str(row["text"])}


def _qrels(folder: Path, split: str) -> tuple[Qrels, int]:
    """Judgements by query, in the file's order, and the queries without a relevant passage."""
    return _by_query(_judgements(folder, split))


def _by_query(judgements: Iterable[tuple[str, str, int]]) -> tuple[Qrels, int]:
    """Judgements of queries that have a relevant passage, those of 0 too; and the number of other queries."""
    qrels: Qrels = {}
    for query_id, passage_id, score in judgements:
        qrels.setdefault(query_id, {})[passage_id] = max(score, 0)  # BEIR counts those above 0 as relevant
    answerable = {query: judged for query, judged in qrels.items() if _has_answer(judged)}
    return answerable, len(qrels) - len(answerable)


def _has_answer(judged: Mapping[str, int]) -> bool:
    return any(score > 0 for score in judged.values())


def _judgements(folder: Path, split: str) -> Iterator[tuple[str, str, int]]:
    if (folder / "manifest.json").exists():
        for row in _parquet(folder, "default"):
            yield row["query-id"], row["corpus-id"], row["score"]
        return
    path = folder / "qrels" / f"{split}.tsv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=2):
                try:
                    yield row["query-id"], row["corpus-id"], int(row["score"])
                except (KeyError, TypeError, ValueError):
                    raise UserError(
                        f"{path}: line {number}: wanted query-id, corpus-id and a whole score, separated by tabs, "
                        "under a header with these names"
                    ) from None
    except FileNotFoundError:
        found = ", ".join(sorted(file.stem for file in path.parent.glob("*.tsv"))) or "none"
        raise UserError(f"{path}: no such file; splits in {path.parent}: {found}") from None


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict) or "_id" not in row or "text" not in row:
                        raise UserError(f"{path}: line {number}: wanted an object with _id and text")
                    yield row
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; wanted BEIR's layout or a data set folder") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 near byte {error.start}; convert the file to UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON lines: {error}") from None


def _parquet(folder: Path, config: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for file in sorted((folder / config).glob("*.parquet")):
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches():
                yield from batch.to_pylist()

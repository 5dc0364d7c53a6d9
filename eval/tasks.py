"""Retrieval tasks as mteb runs them: its own by name, BEIR folders, and data sets of `builders.build`."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mteb
from datasets import Dataset, Features, Value
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from cards.errors import UserError
from cards.provenance import sha256_texts
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
        mteb: the task object.
    """

    name: str
    revision: str
    split: str
    mteb: AbsTaskRetrieval

    def qrels(self) -> Qrels:
        """Judgements by query, loading the data if need be."""
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
        return _local(LocalTask(name=name, corpus=reference, questions=reference))
    if folder.is_dir():
        return _local(LocalTask(name=folder.resolve().name, corpus=reference, questions=reference))
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
    return Task(name, str(task.metadata.dataset["revision"]), split, task)


def _local(local: LocalTask) -> Task:
    corpus = list(_corpus(Path(local.corpus)))
    questions = Path(local.questions)
    queries = list(_queries(questions))
    qrels = _qrels(questions, local.split)
    where = f"task {local.name} ({local.questions})"
    known = {row["id"] for row in corpus}
    asked = {row["id"] for row in queries}
    for query_id, judged in qrels.items():
        if query_id not in asked:
            raise UserError(f"{where}: query {query_id!r} is judged but is not in queries.jsonl")
        unknown = [passage_id for passage_id in judged if passage_id not in known]
        if unknown:
            raise UserError(
                f"{where}: query {query_id!r} names passage {unknown[0]!r}, which is not among the {len(known)} "
                f"passages of {local.corpus}"
            )
    if not qrels:
        raise UserError(f"{where}: no judgements for split {local.split!r}")
    judged_queries = [row for row in queries if row["id"] in qrels]
    revision = "sha256:" + sha256_texts(
        [
            *((row["id"], row["title"], row["text"]) for row in corpus),
            *((row["id"], row["text"]) for row in judged_queries),
            *(
                (query_id, passage_id, str(score))
                for query_id, judged in qrels.items()
                for passage_id, score in judged.items()
            ),
        ]
    )
    task = _mteb_task(local.name, local.split, revision)
    task.dataset = {
        "default": {
            local.split: {
                "corpus": Dataset.from_list(corpus, features=CORPUS),
                "queries": Dataset.from_list(judged_queries, features=QUERIES),
                "relevant_docs": qrels,
                "top_ranked": None,
            }
        }
    }
    task.data_loaded = True
    return Task(local.name, revision, local.split, task)


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


def _qrels(folder: Path, split: str) -> Qrels:
    """Judgements by query: those above 0, as BEIR counts only them as relevant, in the file's order."""
    qrels: Qrels = {}
    for query_id, passage_id, score in _judgements(folder, split):
        if score > 0:
            qrels.setdefault(query_id, {})[passage_id] = score
    return qrels


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

"""The queries and relevant passages of evaluation sets: BEIR folders, and MTEB's retrieval tasks by name."""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from foils.beir import by_query, judgements, of_queries, part, qrels_files, records, splits, text_of
from foils.errors import UserError
from foils.hub import explained
from foils.provenance import sha256_texts
from foils.texts import passage_text

logger = logging.getLogger(__name__)

TEXTS = pa.schema([("_id", pa.string()), ("text", pa.string())])
Row = tuple[str, str]
"""Id and text."""


class EvaluationSet(NamedTuple):
    """What a model may not have seen if it is to be called zero-shot.

    Attributes:
        name: of the MTEB task, or of the folder.
        revision: the task's Hub commit, or `sha256:...` of queries and passages.
        queries: `TEXTS`, those with a relevant passage.
        passages: `TEXTS`, as models read them; those that are relevant to one of the queries.
    """

    name: str
    revision: str
    queries: pa.Table
    passages: pa.Table


def load_sets(references: Iterable[str]) -> list[EvaluationSet]:
    """Loads what `LeakageConfig.against` names.

    Raises:
        UserError: the folder, split or task is missing, its files are malformed, the task's data cannot be
            fetched, or two of them have one name.
    """
    loaded = [load_set(reference) for reference in references]
    names = [each.name for each in loaded]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"leakage.against: two sets are called {twice!r}; give one another name, such as OTHER=path/to/{twice}"
        )
    return loaded


def load_set(reference: str) -> EvaluationSet:
    """Loads one evaluation set.

    Raises:
        UserError: as `load_sets`.
    """
    name, equals, place = reference.partition("=")
    if not equals:
        name, place = "", reference
    if Path(place).is_dir():
        return _folder(Path(place), None, name)
    head, colon, split = place.rpartition(":")
    if colon and Path(head).is_dir():
        return _folder(Path(head), split, name)
    if "/" in place or place.startswith(".") or equals:
        raise UserError(
            f"leakage.against {reference!r}: no such folder; wanted a BEIR folder, FOLDER:SPLIT, NAME=FOLDER or the "
            "name of an MTEB retrieval task"
        )
    return _task(place)


def _folder(folder: Path, split: str | None, name: str) -> EvaluationSet:
    """A BEIR folder; without a split, all of its judgements."""
    what = "leakage.against"
    files = [
        file for each in ([split] if split else splits(folder) or ["test"]) for file in qrels_files(folder, each, what)
    ]
    judged = by_query(row for file in files for row in judgements(file, what) if row[2] > 0)
    if not judged:
        raise UserError(f"leakage.against {folder}: no judgements above 0, so there is nothing to compare with")
    queries = list(_rows(part(folder, "queries", what), judged.keys()))
    judged = of_queries(judged, {query_id for query_id, _ in queries}, f"leakage.against {folder}")
    relevant = {passage_id for found in judged.values() for passage_id in found}
    passages = list(_rows(part(folder, "corpus", what), relevant))
    if len(passages) < len(relevant):
        gone = len(relevant) - len(passages)
        logger.warning("%s: %d relevant passages are not in its corpus; they cannot be compared", folder, gone)
    revision = f"sha256:{sha256_texts([*queries, *passages])}"
    return EvaluationSet(name or folder.resolve().name, revision, _table(queries), _table(passages))


def _rows(files: Sequence[Path], wanted: Collection[str]) -> Iterator[Row]:
    for row in records(files, "leakage.against", wanted):
        yield row.id, passage_text(row.title, row.text or "")


def _task(name: str) -> EvaluationSet:
    import mteb
    from mteb.abstasks import AbsTaskRetrieval

    try:
        task = mteb.get_task(name)
    except (KeyError, ValueError):
        raise UserError(
            f"leakage.against {name!r}: neither a folder nor a task that mteb knows; wanted e.g. SciFact or a BEIR "
            "folder"
        ) from None
    if not isinstance(task, AbsTaskRetrieval):
        raise UserError(f"leakage.against {name!r}: not a retrieval task; it has no queries and relevant passages")
    where = f"leakage.against {name!r}: its data ({task.metadata.dataset['path']}) cannot be fetched; name a folder"
    with explained(f"{where} that holds it, such as {name}=path/to/{name.lower()}:test"):
        task.load_data()
    return of_task(task)


def of_task(task: Any) -> EvaluationSet:
    """The queries and relevant passages of a loaded MTEB task, of all its subsets and evaluation splits."""
    task.convert_v1_dataset_format_to_v2(num_proc=None)
    name, revision = str(task.metadata.name), str(task.metadata.dataset["revision"])
    queries: dict[Row, None] = {}  # subsets of a task share most of their passages
    passages: dict[Row, None] = {}
    parts = [subset.get(split) for subset in task.dataset.values() for split in task.metadata.eval_splits]
    for data in filter(None, parts):
        judged = {q: [p for p, score in found.items() if score > 0] for q, found in data["relevant_docs"].items()}
        asked, relevant = {query for query, found in judged.items() if found}, set().union(*judged.values())
        queries |= dict.fromkeys(_among(data["queries"], asked, name))
        passages |= dict.fromkeys(_among(data["corpus"], relevant, name))
    return EvaluationSet(name, revision, _table(queries), _table(passages))


def _among(rows: Any, wanted: set[str], where: str) -> Iterator[Row]:
    """The rows of a `datasets.Dataset` whose ids are wanted; Arrow filters them, as most of a corpus is not."""
    ids = pa.array(sorted(wanted), pa.string())
    for batch in rows.with_format("arrow").iter(10_000):
        for row in batch.filter(pc.is_in(batch["id"].cast(pa.string()), value_set=ids)).to_pylist():
            title, text = (text_of(row.get(name), f"{where}: {name} of {row['id']!r}") for name in ("title", "text"))
            yield str(row["id"]), passage_text(title, text or "")


def _table(rows: Iterable[Row]) -> pa.Table:
    return pa.Table.from_pylist([{"_id": row_id, "text": text} for row_id, text in rows], TEXTS)

"""Retrieval tasks as mteb runs them: its own by name, BEIR folders, and data sets of `builders.build`."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mteb
import numpy as np
from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval

from eval.measure.languages import stated_in, stated_on_hub
from eval.measure.task_data import Reading, TaskData
from eval.measure.task_files import Qrels, corpus_rows, has_answer, judged_queries, query_rows
from eval.recipe import LocalTask
from foils.beir import by_query, judgement
from foils.encode.drift import Texts
from foils.errors import UserError
from foils.hub import load_parquet, pin
from foils.provenance import sha256_file
from foils.texts import passage_text

logger = logging.getLogger(__name__)

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
        """Judgements by query."""
        judgements: Qrels = self._data()["relevant_docs"]
        return judgements

    def unanswerable(self) -> int:
        """How many queries have no relevant passage; they score 0, as in MTEB."""
        return sum(not has_answer(judged) for judged in self.qrels().values())

    def queries(self) -> dict[str, str]:
        """Query id -> text."""
        rows = self._data()["queries"]
        return dict(zip(rows["id"], rows["text"], strict=True))

    def passages(self, wanted: Iterable[str]) -> dict[str, str]:
        """Passage id -> text with the title before it, of some passages; ids that are not there are left out."""
        corpus, ids = self._data()["corpus"], set(wanted)
        places = [place for place, passage_id in enumerate(corpus["id"][:]) if passage_id in ids]
        return {row["id"]: passage_text(row.get("title"), row["text"]) for row in corpus.select(places)}

    def sample(self, queries: int = 32, passages: int = 40) -> Texts:
        """Some of its queries and passages, evenly over all, to try a model on."""
        data = self._data()
        return Texts(
            queries=[row["text"] for row in _spread(data["queries"], queries)],
            passages=[passage_text(row.get("title"), row["text"]) for row in _spread(data["corpus"], passages)],
            calibration=[],
        )

    def _data(self) -> Any:
        """Corpus, queries and judgements, loaded if need be."""
        self.mteb.load_data()
        self.mteb.convert_v1_dataset_format_to_v2(num_proc=None)
        return self.mteb.dataset["default"][self.split]


def load_tasks(references: Sequence[str | LocalTask], reading: Reading) -> list[Task]:
    """Makes the tasks that a recipe names, in its order.

    Folders and data sets that share a name have that of their parent folder or owner put before it, since results,
    cards and reports know a task by its name.

    Raises:
        UserError: two tasks have the same name even so, or see `load_task`.
    """
    names = [plain_name(reference) for reference in references]
    counts = Counter(name.casefold() for name in names)
    names = [
        f"{_parent(reference)}-{name}" if counts[name.casefold()] > 1 and _may_be_renamed(reference) else name
        for reference, name in zip(references, names, strict=True)
    ]
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        raise UserError(
            f"recipe: tasks: two of them are called {twice[0]!r}; name each once, and folders by "
            '{ name = "...", corpus = "FOLDER", questions = "FOLDER" }'
        )
    return [load_task(reference, reading, name) for reference, name in zip(references, names, strict=True)]


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
    questions = Path(local.questions)
    data = TaskData.of(corpus_rows(Path(local.corpus)), query_rows(questions), judged_queries(questions, local.split))
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
    where = f"task {repo_id}@{revision}"
    corpus, asked, judged = (
        _numbered(load_parquet(repo_id, config, split, commit), f"{where}: {split}")
        for config, split in (("corpus", "corpus"), ("queries", "queries"), (None, "test"))
    )
    data = TaskData.of(corpus, asked, by_query(judgement(row, place) for place, row in judged))
    data.check(where, "its configuration corpus")
    language = stated_on_hub(repo_id, commit) or reading.language
    made = data.as_task(name, "test", commit, reading._replace(language=language))
    return Task(name, commit, "test", repo_id, repo_id, made, language is None)


def _spread(rows: Dataset, count: int) -> Dataset:
    return rows.select(np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int)))


def _numbered(rows: Dataset, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a Hub data set with their places."""
    return ((f"{where}: row {number}", row) for number, row in enumerate(rows, start=1))


def _may_be_renamed(reference: str | LocalTask) -> bool:
    return isinstance(reference, str) and (Path(reference).is_dir() or HUB.fullmatch(reference) is not None)


def _parent(reference: str | LocalTask) -> str:
    path = str(reference)
    return Path(path).resolve().parent.name if Path(path).is_dir() else path.partition("/")[0]

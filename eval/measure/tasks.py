"""Retrieval tasks as mteb runs them: its own by name, BEIR folders, and data sets of `builders.build`."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mteb
import numpy as np
from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval

from eval.measure.languages import single, stated_in
from eval.measure.task_data import TaskData
from eval.recipe import LocalTask
from foils.beir import Qrels, part, qrels_files
from foils.encode.drift import Texts
from foils.errors import UserError
from foils.hub import card_of, data_files, pin
from foils.languages import code_of
from foils.manifest import Exam, Manifest, read_manifest
from foils.provenance import sha256_file
from foils.texts import overlap, passage_text

HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
TEST, OWN = "test", "own"
"""Splits of a data set with an exam: an LLM's queries, and people's beside them."""


class Task(NamedTuple):
    """A task ready to run.

    Attributes:
        name: as results and cards print it.
        revision: a Hub commit, or `sha256:...` of a local task's corpus, queries and judgements.
        split: the part of the judgements that is measured.
        dataset: the Hub data set that the data comes from; None for local files.
        queries_of: the data set of `builders.build` whose own training queries are asked, by Hub id or `sha256:...` of
            its manifest: a model that was trained on it has seen them.
        mteb: the task object.
        language_assumed: whether nothing says the language, so that it is what the passages seem to be in.
        is_generated: whether it is a data set's exam that an LLM wrote, or whose answers the build's retrieval found.
    """

    name: str
    revision: str
    split: str
    dataset: str | None
    queries_of: str | None
    mteb: AbsTaskRetrieval
    language_assumed: bool = False
    is_generated: bool = False

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
        return sum(not any(score > 0 for score in judged.values()) for judged in self.qrels().values())

    def queries(self) -> dict[str, str]:
        """Query id -> text."""
        rows = self._data()["queries"]
        return dict(zip(rows["id"], rows["text"], strict=True))

    def passages(self, wanted: Iterable[str] | None = None) -> dict[str, str]:
        """Passage id -> text with the title before it, of all passages or some; ids that are not there are left out."""
        corpus = self._data()["corpus"]
        if wanted is not None:
            ids = set(wanted)
            corpus = corpus.select([place for place, passage_id in enumerate(corpus["id"][:]) if passage_id in ids])
        return {row["id"]: passage_text(row.get("title"), row["text"]) for row in corpus}

    def blocks(self, size: int) -> Iterator[list[str]]:
        """The texts of all passages as mteb hands them to a model, `size` at a time."""
        for batch in self._data()["corpus"].iter(size):
            titles = batch.get("title") or [None] * len(batch["text"])
            yield list(map(passage_text, titles, batch["text"]))

    def overlap(self) -> dict[str, float]:
        """Query id -> share of its content words that stand in the relevant passage that has most of them.

        Empty for a task in what has no words, such as a programming language.
        """
        try:
            language = code_of(self.mteb.metadata.eval_langs[0], "")
        except UserError:
            return {}
        texts = self.queries()
        relevant = {query: {name for name in judged if judged[name] > 0} for query, judged in self.qrels().items()}
        passages = self.passages(name for names in relevant.values() for name in names)
        return {
            query: max((overlap(texts[query], passages[name], language) for name in names & passages.keys()), default=0)
            for query, names in relevant.items()
        }

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


def load_tasks(references: Sequence[str | LocalTask], ignore_identical_ids: bool = False) -> list[Task]:
    """Makes the tasks that a recipe names, in its order.

    Folders and data sets that share a name have that of their parent folder or owner put before it, since results,
    cards and reports know a task by its name.

    Raises:
        UserError: two tasks have the same name even so, or see `load_task`.
    """
    names = [plain_name(reference) for reference in references]
    counts = Counter(map(str.casefold, names))
    names = [
        _with_parent(reference, name) if counts[name.casefold()] > 1 else name
        for reference, name in zip(references, names, strict=True)
    ]
    name, count = Counter(map(str.casefold, names)).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"recipe: tasks: two of them are called {name!r}; name each once, and folders by "
            '{ name = "...", corpus = "FOLDER", questions = "FOLDER" }'
        )
    return [load_task(reference, ignore_identical_ids, name) for reference, name in zip(references, names, strict=True)]


def load_task(reference: str | LocalTask, ignore_identical_ids: bool = False, name: str | None = None) -> Task:
    """Makes the task that a recipe names.

    Args:
        reference: the task.
        ignore_identical_ids: of folders and Hub data sets, see the recipe; mteb's own tasks say it themselves.
        name: of a folder or Hub data set, in place of its `plain_name`.

    Raises:
        UserError: the task or folder is missing, or the folder's files do not fit together.
    """
    if isinstance(reference, LocalTask):
        return _local(reference, ignore_identical_ids)
    name, (place, split) = name or plain_name(reference), _parted(reference)
    if Path(place).is_dir():
        task = _local(LocalTask(name=name, corpus=place, questions=place, split=split), ignore_identical_ids)
        about = read_manifest(place, None)
        if about is not None and about.exam is not None:
            return task._replace(is_generated=about.has_generated_exam and split == TEST)
        manifest = Path(place) / "manifest.json"
        return task._replace(queries_of=f"sha256:{sha256_file(manifest)}") if manifest.exists() else task
    if HUB.fullmatch(place):
        return _from_hub(name, *place.partition("@")[::2], split, ignore_identical_ids)
    return _named(reference)


def _parted(reference: str) -> tuple[str, str]:
    """A folder or Hub data set, and the split that stands behind a `#`; without one, `test`."""
    place, _, split = (reference, "", "") if Path(reference).exists() else reference.partition("#")
    return place, split or TEST


def plain_name(reference: str | LocalTask) -> str:
    """What a task is called for itself: by its recipe, its manifest, its folder, or the Hub."""
    if isinstance(reference, LocalTask):
        return reference.name
    place, split = _parted(reference)
    folder, more = Path(place), "" if split == TEST else f"-{split}"
    if (folder / "manifest.json").exists():
        return str(json.loads((folder / "manifest.json").read_text("utf-8"))["name"]) + more
    return (folder.resolve().name if folder.is_dir() else place.partition("@")[0].rpartition("/")[2]) + more


def _with_parent(reference: str | LocalTask, name: str) -> str:
    """The name of a folder or Hub data set with its parent's before it; other tasks keep theirs."""
    if isinstance(reference, LocalTask):
        return name
    place, _ = _parted(reference)
    if Path(place).is_dir():
        return f"{Path(place).resolve().parent.name}-{name}"
    return f"{place.partition('/')[0]}-{name}" if HUB.fullmatch(place) else name


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


def _local(local: LocalTask, ignore_identical_ids: bool) -> Task:
    corpus, questions = Path(local.corpus), Path(local.questions)
    passages = [corpus] if corpus.is_file() else part(corpus, "corpus", "task")
    files = passages, part(questions, "queries", "task"), qrels_files(questions, local.split, "task")
    data = TaskData.read(*files, f"task {local.name} ({local.questions}, split {local.split})", local.corpus)
    revision = "sha256:" + data.content_hash()
    language, ignored = local.language or stated_in(corpus), local.ignore_identical_ids or ignore_identical_ids
    made = data.as_task(local.name, local.split, revision, language, ignore_identical_ids=ignored)
    return Task(local.name, revision, local.split, None, None, made, language is None)


def _from_hub(name: str, repo_id: str, revision: str, split: str, ignore_identical_ids: bool) -> Task:
    """A Hub data set with configurations `corpus`, `queries` and `default`, such as `builders.build` publishes."""
    if not revision:
        raise UserError(f"task {repo_id}: a Hub data set needs its revision, such as {repo_id}@v1.0.0")
    commit, where = pin(repo_id, revision, "dataset"), f"task {repo_id}@{revision}"
    corpus, asked = (data_files(repo_id, name, name, commit) for name in ("corpus", "queries"))
    judged = data_files(repo_id, None, split, commit)
    data = TaskData.read(corpus, asked, judged, where, "its configuration corpus")
    language = single(card_of(repo_id, commit))
    made = data.as_task(name, split, commit, language, ignore_identical_ids=ignore_identical_ids)
    about = read_manifest(repo_id, revision) or Manifest()
    task = Task(name, commit, split, repo_id, repo_id if about.exam is None else None, made, language is None)
    return task._replace(is_generated=about.has_generated_exam and split == TEST)


def exam_of(dataset: str, revision: str | None = None) -> Exam | None:
    """The exam of a data set, whose queries are not those that models are trained on; None where it has none."""
    manifest = read_manifest(dataset, revision)
    return None if manifest is None else manifest.exam


def _spread(rows: Dataset, count: int) -> Dataset:
    return rows.select(np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int)))

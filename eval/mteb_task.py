"""A task of mteb's around data that is already in memory."""

from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata


def mteb_task(name: str, split: str, revision: str, language: str) -> AbsTaskRetrieval:
    """A task object without data yet; `language` in mteb's form, such as `deu-Latn`."""
    metadata_ = TaskMetadata(
        name=name,
        description=f"Local retrieval task {name}.",
        dataset={"path": name, "revision": revision},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=[split],
        eval_langs=[language],
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

"""Whether a model is zero-shot on a task, as far as its run record or mteb's registry says."""

from pathlib import Path
from typing import Any

import mteb

from eval.measure.tasks import Task
from foils.models import ModelReference
from foils.records import RunRecord, read_record


def with_training_datasets(meta: Any, model: ModelReference, task: Task) -> Any:
    """Returns mteb's account of a model (`ModelMeta`) with its `training_datasets` true to fact for one task.

    They are left None, mteb's "not known", unless the answer for this task is known: a run record lists what the
    training data was compared with, and a set that it was not compared with may well be in it.
    """
    file = Path(model.location) / "run.json"
    record = read_record(file, RunRecord, "mend or delete it")
    if record is None:
        return meta.model_copy(update={"training_datasets": _registered(model.name)})
    seen = record.training_datasets
    names = {*(seen.data or []), *(seen.base or [])}
    if task.queries_of is not None and any(
        task.queries_of in (each.name, each.revision) for each in record.dataset.all()
    ):
        names.add(task.name)
    listed = meta.model_copy(update={"training_datasets": names})
    known = None not in (seen.data, seen.base) and task.name in seen.compared_with
    if known or listed.is_zero_shot_on([task.name]) is False:
        return listed
    return meta.model_copy(update={"training_datasets": None})


def zero_shot(model: ModelReference, task: Task) -> bool | None:
    """Whether a model is zero-shot on a task; None where nothing says it."""
    meta = with_training_datasets(mteb.models.ModelMeta.create_empty(), model, task)
    answer: bool | None = meta.is_zero_shot_on([task.name])
    return answer


def _registered(name: str) -> set[str] | None:
    if "/" not in name:
        return None
    try:
        found: set[str] | None = mteb.get_model_meta(name, fetch_from_hf=False).get_training_datasets()
    except KeyError:
        return None
    return found

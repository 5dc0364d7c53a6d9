"""Whether a model is zero-shot on a task, as far as its run record or mteb's registry says."""

from pathlib import Path

import mteb

from eval.measure.tasks import Task
from foils.models import ModelReference
from foils.records import RunRecord, read_record


def zero_shot(model: ModelReference, task: Task) -> bool | None:
    """Whether a model is zero-shot on a task; None where nothing says it.

    A run record lists what data and base were compared with; a set that they were not compared with may well be in
    them. Translations and parts of a task count as mteb counts them.
    """
    record = read_record(Path(model.location) / "run.json", RunRecord, "delete it, or train the model again")
    if record is None:
        names, is_known = _registered(model.name), True
    else:
        seen = record.training_datasets
        names = {*(seen.data or []), *(seen.base or [])}
        trained_on = {name for each in record.dataset.all() for name in (each.name, each.revision)}
        if task.queries_of in trained_on:
            names.add(task.name)
        is_known = None not in (seen.data, seen.base) and task.name in seen.compared_with
    meta = mteb.models.ModelMeta.create_empty().model_copy(update={"training_datasets": names})
    answer: bool | None = meta.is_zero_shot_on([task.name])
    return answer if is_known or answer is False else None


def _registered(name: str) -> set[str] | None:
    if "/" not in name:
        return None
    try:
        found: set[str] | None = mteb.get_model_meta(name, fetch_from_hf=False).get_training_datasets()
    except KeyError:
        return None
    return found

"""Whether a model is zero-shot on a task, as far as its run record or mteb's registry can tell."""

import json
from pathlib import Path
from typing import Any

import mteb

from eval.tasks import Task
from foils.models import ModelReference


def with_training_datasets(meta: Any, model: ModelReference, task: Task) -> Any:
    """Mteb's account of a model (`ModelMeta`) with its `training_datasets` true to fact for one task.

    They are left None, mteb's "not known", unless the answer for this task is known: a run record lists what the
    training data was compared with, and a set that it was not compared with may well be in it.
    """
    record = _record(model)
    if record is None:
        return meta.model_copy(update={"training_datasets": _registered(model.name)})
    seen = record.get("training_datasets") or {"data": None, "base": None, "compared_with": []}
    names = {*(seen["data"] or []), *(seen["base"] or [])}
    dataset = record.get("dataset", {})
    data = [(each.get("name"), each.get("revision")) for each in (dataset, *dataset.get("also", []))]
    if task.queries_of is not None and any(task.queries_of in each for each in data):
        names.add(task.name)
    listed = meta.model_copy(update={"training_datasets": names})
    known = None not in (seen["data"], seen["base"]) and task.name in seen["compared_with"]
    if known or listed.is_zero_shot_on([task.name]) is False:
        return listed
    return meta.model_copy(update={"training_datasets": None})


def zero_shot(model: ModelReference, task: Task) -> bool | None:
    """Whether a model is zero-shot on a task; None where nobody knows."""
    meta = with_training_datasets(mteb.models.ModelMeta.create_empty(), model, task)
    answer: bool | None = meta.is_zero_shot_on([task.name])
    return answer


def _record(model: ModelReference) -> dict[str, Any] | None:
    file = Path(model.location) / "run.json"
    record: dict[str, Any] | None = json.loads(file.read_text("utf-8")) if file.exists() else None
    return record


def _registered(name: str) -> set[str] | None:
    if "/" not in name:
        return None
    try:
        found: set[str] | None = mteb.get_model_meta(name, fetch_from_hf=False).get_training_datasets()
    except KeyError:
        return None
    return found

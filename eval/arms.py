"""The arms of a comparison, checked before the first run starts."""

import subprocess
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eval.plan import Plan
from eval.runs import why_failed
from foils.errors import UserError
from foils.kinds import NO_NEGATIVES, parse
from foils.loading import check_retriever
from foils.manifest import read_manifest
from foils.models import resolve_model
from foils.verdicts import BASE

_NAMES = ("kind", "dataset", "revision", "model")
_SHARED = ("seed", "seeds", "task")
"""Keys of a training recipe that no arm can set for itself."""


def check_arms(plan: Plan) -> None:
    """Refuses arms that cannot be run.

    An arm that sets more than its rows is looked at by the pre-flight of training, unless its runs are done.

    Raises:
        UserError: says of each such arm what is wrong, or what is named twice.
    """
    for key, values in (("arms", plan.config.arms), ("seeds", plan.config.seeds)):
        value, count = Counter([*values]).most_common(1)[0]
        if count > 1:
            raise UserError(f"{key} {list(values)}: {value!r} stands there {count} times; name each once")
    with ThreadPoolExecutor(plan.config.jobs) as pool:
        problems = pool.map(lambda arm: _problem(plan, arm), plan.config.arms)
        found = [f"arm {arm}: {problem}" for arm, problem in zip(plan.config.arms, problems, strict=True) if problem]
    if found:
        raise UserError("; ".join(found))


def _problem(plan: Plan, arm: str) -> str | None:
    """What is wrong with an arm, in words."""
    own = plan.config.arm(arm)
    try:
        _check_keys(arm, own)
        if "model" in own:
            check_retriever(resolve_model(own["model"]).location, "name an embedding model")
            return None
        kind, (dataset, revision) = own.get("kind", NO_NEGATIVES), plan.config.data_of(arm)
        known = _kinds(dataset, revision)
        if kind != NO_NEGATIVES and known:
            parse(kind, known, dataset)
    except UserError as error:
        return str(error)
    missing = [run for run in plan.runs_of(arm) if plan.finished(run) is None]
    if not missing or ("kind" in own and own.keys() <= set(_NAMES)):
        return None
    command = [*plan.training_command(missing[0]), "--preflight"]
    looked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if looked.returncode == 0:
        return None
    return why_failed("its pre-flight", looked.stderr, looked.returncode).removeprefix("error: ")


def _check_keys(arm: str, own: dict[str, object]) -> None:
    """Refuses names and keys that no arm can have.

    Raises:
        UserError: says which.
    """
    if "/" in arm or arm in {BASE, "base"}:
        raise UserError("its files are named after it; wanted a name without '/' that is not the base's")
    for key in _NAMES:
        if not isinstance(own.get(key, ""), str):
            raise UserError(f"{key}: {own[key]!r} is not a text; put it in double quotes")
    if "model" in own and len(own) > 1:
        others = ", ".join(key for key in own if key != "model")
        raise UserError(f"{others} beside model; a model that was trained elsewhere is only measured: leave out either")
    if shared := [key for key in _SHARED if key in own]:
        raise UserError(f"{shared[0]}: is the same for all arms of a comparison, which is of retrievers; leave it out")


def _kinds(dataset: str, revision: str | None) -> Sequence[str]:
    """The kinds of a data set; empty where nothing says them.

    Raises:
        UserError: see `read_manifest`.
    """
    manifest = read_manifest(dataset, revision)
    if manifest is not None and manifest.configs:
        return manifest.training_configs()
    return sorted({file.parent.name for file in Path(dataset).glob("*/train-*.parquet")})

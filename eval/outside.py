"""The arms that a generated exam was not validated for: those of another base, and those that may have seen it."""

from collections.abc import Iterable, Mapping

from eval.plan import Plan, Run, data_identity
from foils.errors import UserError
from foils.manifest import Manifest, read_manifest
from foils.models import resolve_model
from foils.records import RunRecord

MOSTLY = 0.9
"""A share of judged hits (judged@10) from which another base's trainings are measured on a judged exam as fairly."""


def outside(plan: Plan, records: Mapping[Run, RunRecord | None], judged: Mapping[str, float] = {}) -> dict[str, str]:
    """The arms that the data set's generated exam was not validated for -> why.

    Args:
        plan: the comparison's.
        records: of its trainings; None where one is not known.
        judged: arm -> its judged@10, which counts once the exam was judged.

    Raises:
        UserError: the base or the data set is missing or broken.
    """
    config = plan.config
    base, exam = resolve_model(plan.base), read_manifest(config.dataset, config.revision) or Manifest()
    found = {}
    for run, record in records.items():
        if record is None:
            found[run.arm] = "its training is not known"
            continue
        is_judged = any(judge.of for judge in exam.judges) and judged.get(run.arm, 0.0) >= MOSTLY
        data = _trained_on(plan, run) if plan.trains(run) else _recorded(plan, record, exam)
        if (record.base.weights or record.base.revision) not in {base.weights, base.revision} and not is_judged:
            found[run.arm] = f"its base is {record.base.name}"
        elif seen := list(_may_hold(exam, data)):
            found[run.arm] = f"it may have been trained on the exam's passages, in {seen[0]}"
    return found


def _may_hold(exam: Manifest, data: Iterable[tuple[str, Manifest | None]]) -> Iterable[str]:
    """Data sets of the exam's corpus, at whichever revision, that did not keep the exam's passages out.

    Those that cannot be looked at too.
    """
    for name, manifest in data:
        is_same = manifest is not None and not {*_corpus(manifest)}.isdisjoint(_corpus(exam))
        if manifest is None or (is_same and manifest.exam != exam.exam):
            yield name


def _corpus(manifest: Manifest) -> Iterable[str]:
    """The source and the content of a data set's corpus."""
    return (manifest.corpus.source, manifest.corpus.sha256) if manifest.corpus else ()


def _trained_on(plan: Plan, run: Run) -> Iterable[tuple[str, Manifest | None]]:
    """The data sets that an arm names, with their manifests; an empty one for rows of other hands."""
    also = [(more["dataset"], more.get("revision")) for more in plan.config.arm(run.arm).get("also", ())]
    for name, revision in (plan.config.data_of(run.arm), *also):
        yield name, _manifest(name, revision) or Manifest()


def _recorded(plan: Plan, record: RunRecord, exam: Manifest) -> Iterable[tuple[str, Manifest | None]]:
    """The data sets of a model that was trained elsewhere, but for the comparison's own; None for a folder."""
    own = {data_identity(plan.config.dataset, plan.config.revision), *(judge.of for judge in exam.judges)}
    for source in record.dataset.all():
        if source.revision.removeprefix("sha256:") not in own:
            on_hub = source.tag is not None
            yield source.name, (_manifest(source.name, source.revision) or Manifest()) if on_hub else None


def _manifest(dataset: str, revision: str | None) -> Manifest | None:
    try:
        return read_manifest(dataset, revision)
    except UserError:  # a single file, or a data set that is gone
        return None

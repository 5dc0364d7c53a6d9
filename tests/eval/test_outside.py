"""Arms that a generated exam was not validated for."""

import json
import shutil

import msgspec

from eval.outside import outside
from eval.plan import Plan, Run, data_identity
from eval.recipe import CompareRecipe
from foils.manifest import Judge
from foils.models import resolve_model
from foils.records import ModelEntry, RunRecord, Source
from tests.fixtures import tiny


def plan_of(data, base, arms):
    return Plan(CompareRecipe("t", str(data), "x.toml", arms=arms, seeds=(1,)), "x.toml", str(base), {}, "f")


def trained(base, data="sha256:1", **more):
    entry = ModelEntry("base", more.pop("revision", base.revision), weights=more.pop("weights", base.weights))
    return RunRecord(Source("data", data, **more), entry)


def test_arms_whose_data_may_hold_the_exams_passages(built_animals, tmp_path):
    examined, without = built_animals("examined", "exam.queries=3"), built_animals("without")
    base = tiny.retriever("mean", tmp_path / "tiny")
    shutil.copytree(without, tmp_path / "other" / "rows", ignore=shutil.ignore_patterns("manifest.json"))
    arms = {
        "shared": {"kind": "bm25"},
        "whole": {"dataset": str(without)},
        "mixed": {"also": [{"dataset": str(without), "share": 0.5}, {"dataset": "rows.jsonl"}]},
        "rows": {"dataset": str(tmp_path / "other" / "rows")},
        "mine": {"model": "m"},
        "theirs": {"model": "n"},
    }
    plan, model = plan_of(examined, base, arms), resolve_model(str(base))
    records = {Run(arm, 1): trained(model) for arm in ("shared", "whole", "mixed", "rows")}
    records |= {
        Run("mine", 0): trained(model, f"sha256:{data_identity(str(examined), None)}"),
        Run("theirs", 0): trained(model, "sha256:2"),
    }
    grown, about = tmp_path / "grown", json.loads((without / "manifest.json").read_text())
    about["inputs"]["corpus"] |= {"revision": "sha256:more", "sha256": "more"}  # with another passage
    grown.mkdir()
    (grown / "manifest.json").write_text(json.dumps(about))
    plan.config.arms["grown"], records[Run("grown", 1)] = {"dataset": str(grown)}, trained(model)
    reason = "it may have been trained on the exam's passages, in "
    assert outside(plan, records) == {
        "whole": f"{reason}{without}",
        "mixed": f"{reason}{without}",
        "theirs": f"{reason}data",
        "grown": f"{reason}{grown}",
    }


def test_another_base_counts_where_the_judged_exam_has_judged_its_hits(built_animals, tmp_path):
    folder, model = (
        built_animals("judged", "exam.queries=3"),
        resolve_model(str(tiny.retriever("mean", tmp_path / "t"))),
    )
    before, about = data_identity(str(folder), None), json.loads((folder / "manifest.json").read_text())
    counts = dict.fromkeys(("systems", "pairs", "relevant", "outside", "false_quotes", "failed", "positives"), 1)
    judge = Judge("llm", "m", "it says so", **counts, missed=0, random=1, alarms=0, of=before, inputs="")
    (folder / "manifest.json").write_text(json.dumps(about | {"judges": [msgspec.to_builtins(judge)]}))
    plan = plan_of(folder, model.location, {arm: {"model": arm} for arm in ("known", "unknown", "older")})
    own = f"sha256:{data_identity(str(folder), None)}"
    records = {Run(arm, 0): trained(model, own, weights="sha256:9") for arm in ("known", "unknown")}
    records[Run("older", 0)] = trained(model, f"sha256:{before}")  # on the data set as it was before
    assert outside(plan, records, {"known": 0.9, "unknown": 0.89}) == {"unknown": "its base is base"}


def test_a_base_is_known_by_its_weights(tmp_path):
    model = resolve_model(str(tiny.retriever("mean", tmp_path / "tiny")))
    plan = plan_of(tmp_path, model.location, {arm: {"kind": "bm25"} for arm in ("again", "older", "other")})
    records = {
        Run("again", 1): trained(model, revision="c" * 40),  # the same one from the Hub
        Run("older", 1): msgspec.structs.replace(trained(model), base=ModelEntry("base", model.revision)),
        Run("other", 1): trained(model, weights="sha256:9"),
        Run("mine", 0): None,
    }
    assert outside(plan, records) == {"other": "its base is base", "mine": "its training is not known"}

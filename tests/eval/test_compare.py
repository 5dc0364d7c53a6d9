"""The comparison as a user runs it: real processes, resumed, with the base on top."""

import json
import re
import shutil

import pytest

from eval.recipe import CompareRecipe
from eval.report import __main__ as report
from foils.comparison import read_comparison
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.eval.conftest import compare
from tests.fixtures import ROOT
from tests.fixtures.publications import local, published
from tests.fixtures.training import put_dataset


def stamps(compared):
    return {path: path.stat().st_mtime_ns for path in (compared.out / "runs").glob("*.log")}


def test_arms_beside_the_base(compared):
    lines = [line.split() for line in compared.output.splitlines()]
    assert compared.output.splitlines()[1].startswith("Keep the base: ")  # four queries decide nothing
    table = [line for line in lines if line and line[0] in {"untouched", "none", "bm25"}]
    assert [line[0] for line in table[:3]] == ["untouched", "none", "bm25"]  # then what the arms cost
    assert "4 queries, seeds 1, 2" in compared.output
    written = json.loads((compared.out / "comparison.json").read_text())
    rows = {row["arm"]: row for row in written["tables"][0]["rows"]}
    assert rows["untouched base"]["difference"] is None
    assert rows["bm25"]["difference"]["low"] <= rows["bm25"]["difference"]["mean"] <= rows["bm25"]["difference"]["high"]
    assert rows["bm25"]["metrics"]["nDCG@10"] - rows["untouched base"]["metrics"]["nDCG@10"] == pytest.approx(
        rows["bm25"]["difference"]["mean"], abs=1e-9
    )
    (pair,) = written["pairs"]
    assert (pair["differ"], pair["unnamed"], pair["unknown"]) == (["kind"], [], ["negatives of a row"])
    assert pair["equal"] == ["base", "queries and positives", "steps", "batch size", "order of rows", "longest text"]
    assert written["tokens_of_a_row"]["bm25"] > written["tokens_of_a_row"]["none"] > 5
    verdicts = [(each["first"], each["second"]) for each in written["tables"][0]["verdicts"]]
    assert verdicts == [("none", "untouched base"), ("bm25", "untouched base"), ("bm25", "none")]
    assert [cost["training_seconds"] > 0 for cost in written["costs"]] == [True] * 2


def test_files_and_cards(compared):
    folder = compared.out / "models" / "bm25-seed2"
    card = (folder / "README.md").read_text()
    assert "model-index" in card
    assert "Comparison: t, train" in card
    assert "This model is arm `bm25`, seed 2, of the comparison below." in card
    figure = (folder / "comparison" / "forest.png").read_bytes()
    assert figure == (compared.out / "figures" / "forest-base.png").read_bytes()
    numbers = json.loads((folder / "comparison" / "comparison.json").read_text())
    assert numbers["tables"] == json.loads((compared.out / "comparison.json").read_text())["tables"]
    assert (numbers["queries"], numbers["examples"]) == ([], {})  # texts stay here
    page = (compared.out / "report.html").read_text()
    assert "untouched base" in page
    assert not re.search(r"(src|href)=.(https?:|//)", page)  # no outside parts
    for name, rows in {"arms": 3, "pairs": 3, "queries": 20}.items():
        assert len((compared.out / f"{name}.csv").read_text().splitlines()) == rows + 1


def test_only_what_is_missing_is_run_and_what_fails_stops_nothing_else(compared):
    before, card = stamps(compared), compared.out / "models" / "bm25-seed1" / "README.md"
    told = card.read_text()
    again = compared.again()
    assert (again.returncode, again.stdout) == (0, compared.output)
    assert stamps(compared) == before
    assert card.read_text() == told
    recipe = (compared.folder / "train.toml").read_text()
    (compared.folder / "gone.toml").write_text(re.sub("(?m)^base = .*", 'base = "no/such/folder"', recipe))
    training = json.dumps([str(compared.folder / f"{name}.toml") for name in ("gone", "train")])
    failed = compared.again(f"training={training}")
    assert failed.returncode == 2
    assert "model no/such/folder: no such folder" in failed.stderr.splitlines()[-1]
    assert failed.stdout == compared.output  # what finished is reported all the same
    assert {path: stamps(compared)[path] for path in before} == before


def test_the_report_is_made_from_the_json_alone(compared, tmp_path, capsys):
    shutil.copy(compared.out / "comparison.json", tmp_path)
    report.main(tmp_path)
    made = local(tmp_path)
    assert {"report.html", "arms.csv", "pairs.csv", "queries.csv", "figures/forest-base.svg"} <= made.keys()
    assert made == {path: (compared.out / path).read_bytes() for path in made}
    assert capsys.readouterr().out.splitlines()[:3] == compared.output.splitlines()[1:4]
    (tmp_path / "comparison.json").write_text("{")
    with pytest.raises(UserError, match=r"comparison\.json: not a Comparison .*; run eval\.compare again"):
        report.main(tmp_path)
    with pytest.raises(UserError, match=r"comparison\.json: no such file; name the folder of a comparison"):
        report.main(tmp_path / "figures")


def test_a_dry_run_says_what_is_left_and_how_long_it_takes(compared):
    done = compared.again(flags=["--dry-run"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("/tiny/model: 5 runs, the base's among them: 5 done, 0 to do\n")
    more = compared.again("seeds=[1,2,3]", flags=["--dry-run"]).stdout
    assert re.search(r": 7 runs, .*: 5 done, 2 to do; about \d+ (s|min) at \d+ (s|min) a run, 2 at a time\n", more)
    other = compared.again("seeds=[1,2,3]", f'out="{compared.folder / "new"}"', flags=["--dry-run"]).stdout
    assert other.endswith("0 done, 7 to do; how long one takes is known after the first\n")


def test_training_recipes_of_one_name_are_refused():
    config = CompareRecipe("c", "d", ("a/same.toml", "other.toml", "b/same.toml"), ("t",))
    with pytest.raises(UserError, match="training: 2 recipes are called same"):
        config.by_base()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (
            "language=de",
            "removed key language: say it in the folder's README.md (`language: de`), or as `language` in a task's",
        ),
        ("gpu.tflops=50", "removed key gpu: eval.compare --dry-run reports the runs to do"),
        (
            "precision=openvino",
            "precision: invalid enum value 'openvino'; allowed: fp32, bf16, auto; evaluation in ONNX and",
        ),
    ],
)
def test_what_earlier_versions_took_is_refused_with_its_replacement(compared, key, words):
    with pytest.raises(UserError, match=re.escape(words)):
        load_recipe(compared.recipe, [key], CompareRecipe)


def test_a_comparison_of_an_earlier_version_can_be_shown(tmp_path, compared):
    written = json.loads((compared.out / "comparison.json").read_text())
    for key in ("dataset", "revision", "training", "base_name", "funnel", "examples", "queries"):
        del written[key]
    (tmp_path / "comparison.json").write_text(json.dumps(written))
    assert read_comparison(tmp_path).tables == read_comparison(compared.out).tables
    report.main(tmp_path)
    assert not (tmp_path / "queries.csv").exists()


def test_a_report_on_a_record_of_an_earlier_version_says_so(tmp_path, capsys):
    shutil.copy(ROOT / "eval" / "studies" / "scifact" / "comparison.json", tmp_path)
    report.main(tmp_path)
    assert "An earlier version wrote this record: its verdicts are corrected over all pairs" in capsys.readouterr().out
    assert "An earlier version wrote this record" in (tmp_path / "report.html").read_text()


def test_a_folder_has_no_card_to_push_to(compared):
    refused = compared.again(flags=["--push"])
    assert refused.returncode == 2
    assert "is not a Hub repository; publish it, and name it OWNER/NAME" in refused.stderr


@pytest.mark.hub
def test_a_data_set_on_the_hub(compared, hub, tmp_path):
    commit = put_dataset(hub, tmp_path, "alice/compared")
    values = ['dataset="alice/compared"', 'revision="v1.0.0"', 'arms=["bm25"]', "seeds=[1]", f'out="{tmp_path}"']
    finished = compare(compared.recipe, *values, flags=["--push"])
    assert finished.returncode == 0, finished.stderr
    main = published(hub, "alice/compared", "main")
    assert b"Data: `alice/compared` at v1.0.0." in main["README.md"]
    model = tmp_path / "train" / "models" / "bm25-seed1"
    assert main["comparison/comparison.json"] == (model / "comparison" / "comparison.json").read_bytes()
    record = json.loads((model / "run.json").read_text())
    assert record["dataset"]["revision"] == commit
    assert "--set dataset=alice/compared" in (model / "README.md").read_text()
    hub.commit("dataset", "alice/compared", {"notes.txt": b"x"})
    hub.move_tag("dataset", "alice/compared", "v1.0.0", "main")
    assert "the tag has moved" in compare(compared.recipe, *values).stderr

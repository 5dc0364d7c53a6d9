"""Which runs of a comparison are done, and how they are started."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from eval.plan import Plan, Run
from eval.recipe import CompareRecipe, EvalRecipe, LocalTask
from eval.runs import execute, stage
from foils.errors import UserError
from foils.recipe import load_recipe
from foils.verdicts import BASE
from tests.fixtures import ROOT

MISSPELT = """
import runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as ended:
    print(ended.code, *({"mteb", "torch", "scipy", "pyarrow", "huggingface_hub"} & {*sys.modules}))
"""


STOPPED = """
import signal, sys
from eval.recipe import CompareRecipe
from eval.plan import Plan, Run
from eval.runs import execute, stop
from foils.errors import run_entry

class Slow(Plan):
    def commands(self, run, threads):
        yield ["sh", "-c", "sleep 600; true"]

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have turned off
plan = Slow(CompareRecipe("t", "d", "x.toml", ("t",), arms=("none",), out=sys.argv[1]), "x.toml", "base", {}, "f")
sys.exit(run_entry(lambda: execute(plan, [Run("none", seed) for seed in range(5)], 2)))
"""


def plan(folder, **more):
    return Plan(CompareRecipe("t", "d", "x.toml", ("t",), out=str(folder)), "x.toml", "base", {}, "f", **more)


def test_a_deleted_model_is_trained_again(tmp_path):
    made, run = plan(tmp_path), Run("bm25", 1)
    for each in (run, Run(BASE, 0)):
        made.file(each, "json").write_text(json.dumps({"fingerprint": "f"}))
    assert made.finished(Run(BASE, 0)).fingerprint == "f"
    assert made.finished(run) is None
    record = tmp_path / "models" / "bm25-seed1" / "run.json"
    record.parent.mkdir(parents=True)
    record.touch()
    assert made.finished(run).seconds == 0  # of an earlier version
    assert made._replace(fingerprint="g").finished(run) is None
    made.file(run, "json").write_text("{")
    with pytest.raises(UserError, match=r"not a Stamp .*; delete it, and the run is looked at again"):
        made.finished(run)


def test_models_are_replaced_only_where_that_was_asked_for(tmp_path):
    trainings = {fresh: next(plan(tmp_path, fresh=fresh).commands(Run("bm25", 1), 1)) for fresh in (False, True)}
    assert "--fresh" not in trainings[False]
    assert trainings[True] == [*trainings[False], "--fresh"]


def test_an_evaluation_reads_the_recipe_that_was_written_for_it(tmp_path):
    made = plan(tmp_path)
    tasks = (
        "SciFact",
        LocalTask("own", "corpus", "questions"),
        LocalTask("other", "c", "q", ignore_identical_ids=True),
    )
    made = made._replace(config=CompareRecipe("t", "d", "x.toml", tasks, out=str(tmp_path)))
    (*_, command) = made.commands(Run(BASE, 0), 1)
    written = load_recipe(Path(command[-1]), (), EvalRecipe).config
    assert written.tasks == tasks
    assert written == made.evaluation(Run(BASE, 0))


@pytest.mark.parametrize(("module", "recipe"), [("eval.run", "scifact"), ("eval.compare", "quickstart")])
def test_a_misspelt_key_is_refused_before_anything_heavy_is_imported(module, recipe):
    command = [sys.executable, "-c", MISSPELT, module, f"eval/recipes/{recipe}.toml", "--set", "taks=SciFact"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert finished.stdout.split() == ["2"]
    assert "unknown key taks; allowed here: " in finished.stderr


def alive(process):
    """Whether it runs; in a container without an init, an orphan that ended stays a zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("printed", "code", "reason"),
    [
        ("error: 3 rows\nread on\nerror: kind 'x'\n/usr/lib/x.py: warning", 2, "error: kind 'x'"),
        ("error: 3 rows\nTraceback ...\nValueError: no", 1, "ValueError: no"),
        ("usage: x\nx: error: no such option", 2, "x: error: no such option"),
    ],
)
def test_why_a_run_failed_is_what_it_ended_with(tmp_path, printed, code, reason):
    class Failing(Plan):
        def commands(self, *_):
            yield [sys.executable, "-c", f"import sys; print({printed!r}); sys.exit({code})"]

    run = Run("bm25", 1)
    assert execute(Failing(*plan(tmp_path)), [run], 1) == {run: reason}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_comparison_that_is_stopped_leaves_no_processes(tmp_path, how):
    process = subprocess.Popen([sys.executable, "-c", STOPPED, tmp_path], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    while len(below := psutil.Process(process.pid).children(recursive=True)) < 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    assert "interrupted: what was finished is kept" in process.communicate(timeout=10)[1]
    assert process.returncode == 130
    assert not [each for each in below if alive(each)]
    assert len(list((tmp_path / "runs").glob("*.log"))) < 5  # not all that waited began


def test_a_log_says_how_far_its_run_has_come(tmp_path):
    log = tmp_path / "bm25-seed1.log"
    assert stage(log) == ""
    log.write_text("batches   43 of 43 an epoch; 2 epochs, 1,086 steps\n{'loss': '1.7', 'epoch': '0.5'}\n")
    assert stage(log) == "step 272 of 1,086"
    log.write_text("batches   1 of 1 an epoch; 1,250 epochs, 1,250 steps\n{'loss': '1.7', 'epoch': '625.0'}\n")
    assert stage(log) == "step 625 of 1,250"
    log.write_text(
        log.read_text() + "{'train_loss': 1.7, 'epoch': 2.0}\nbm25-seed1 on own (test)\nRunning task own...\n"
    )
    assert stage(log) == "on own"

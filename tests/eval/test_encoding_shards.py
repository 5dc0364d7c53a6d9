"""Evaluation whose passages engines encode: the same rankings to the last bit, whoever computes."""

import random
import subprocess
import sys

import pytest
import torch

from eval.measure import encoding_shards
from eval.measure.encoder import Encoder
from eval.measure.encoding import Encoding
from eval.measure.results import Key
from eval.measure.search import evaluate
from eval.measure.tasks import load_task
from eval.plan import Plan, Run
from eval.recipe import CompareRecipe, EvalRecipe
from foils.engine.config import EngineConfig
from foils.engine.parts import state_of
from foils.engine.plan import read_plan
from foils.engine.run import finish
from foils.errors import UserError
from foils.models import resolve_model
from foils.recipe import load_recipe
from foils.verdicts import BASE
from tests.conftest import beir
from tests.fixtures import ROOT, commands, tiny
from tests.fixtures.ray_nodes import needs_ray, two_nodes
from tests.fixtures.tasks import task_folder

PLAIN, ONE, TWO = Encoding(), EngineConfig(), EngineConfig(workers=2)


@pytest.fixture(autouse=True)
def _blocks(monkeypatch):
    """Blocks of 40 passages, and one thread here too, as each worker has; workers import this checkout."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("eval.measure.encoding_shards.ROWS", 40)
    monkeypatch.setattr("eval.measure.search.ROWS", 40)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return resolve_model(str(tiny.retriever("mean", tmp_path_factory.mktemp("retriever"))))


def collection(folder, queries=20, seed=1):
    """130 passages, so four blocks; the last is short."""
    dice = random.Random(seed)
    passages = [
        (f"p{number:03}", f"w{number % 60}", " ".join(dice.choices(tiny.WORDS, k=dice.randint(1, 30))))
        for number in range(130)
    ]
    asked = [(f"q{number}", " ".join(passages[number * 5][2].split()[:4])) for number in range(queries)]
    return task_folder(beir(folder, passages), asked, [f"q{number}\tp{number * 5:03}\t1" for number in range(queries)])


@pytest.fixture
def folder(tmp_path):
    return collection(tmp_path / "corpus")


def measured(model, task, root, how=PLAIN, engine=None):
    """The folder of a result and the bytes of its rankings and scores."""
    (result,) = evaluate(model, [load_task(task)], root, how, engine)
    place = Key.of(result).folder(root)
    return place.relative_to(root), [(place / f"{name}.parquet").read_bytes() for name in ("rankings", "per-query")]


def plans(root):
    return sorted((root / "engine").glob("*/plan.json"))


def test_two_processes_give_the_same_rankings_and_this_one_encodes_no_passage(model, folder, tmp_path, monkeypatch):
    how = Encoding(batch_tokens=200)
    plain = measured(model, folder, tmp_path / "plain", how)
    assert not (tmp_path / "plain" / "engine").exists()
    encoded, real = [], Encoder._encode
    monkeypatch.setattr(Encoder, "_encode", lambda *given: encoded.append(given[2]) or real(*given))
    assert measured(model, folder, tmp_path / "two", how, TWO) == plain
    assert encoded == ["query"]
    assert not plans(tmp_path / "two")  # the results are there


@pytest.mark.parametrize(
    "how", [Encoding("bf16", prompts={"document": "w7 "}), Encoding(prompts={"query": "w7 "}), Encoding(pooling="cls")]
)
def test_models_are_read_as_asked_for(model, folder, how, tmp_path):
    read = resolve_model(str(tiny.raw("bert", tmp_path / "raw"))) if how.pooling else model
    plain = measured(read, folder, tmp_path / "plain", how)
    assert measured(read, folder, tmp_path / "one", how, ONE) == plain
    assert list((tmp_path / "one" / "engine").glob("*.lock"))


@needs_ray
def test_rankings_of_two_nodes_are_the_same_to_the_last_bit(model, folder, tmp_path):
    plain = measured(model, folder, tmp_path / "plain")
    with two_nodes() as (cluster, _):
        engine = EngineConfig("ray", workers=2, address=cluster.address)
        assert measured(model, folder, tmp_path / "nodes", engine=engine) == plain


def test_a_small_corpus_is_not_spread(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.measure.encoding_shards.ROWS", 130)
    monkeypatch.setattr("eval.measure.search.ROWS", 130)
    measured(model, folder, tmp_path, engine=TWO)
    assert not (tmp_path / "engine").exists()


def test_tasks_on_one_corpus_share_its_embeddings(model, tmp_path):
    tasks = [load_task(collection(tmp_path / name, queries)) for name, queries in (("a", 20), ("b", 12))]
    for name in ("plain", "one"):
        (tmp_path / name).mkdir()  # as commands do
    plain = evaluate(model, tasks, tmp_path / "plain", PLAIN)
    shared = evaluate(model, tasks, tmp_path / "one", PLAIN, ONE)
    assert [each.metrics for each in shared] == [each.metrics for each in plain]
    assert len(list((tmp_path / "one" / "engine").glob("*.lock"))) == 1


BEGUN = """
import sys
from pathlib import Path
from eval.measure import encoding_shards, search
from eval.measure.encoding import Encoding
from eval.measure.tasks import load_task
from foils.engine.config import EngineConfig
from foils.models import resolve_model
if __name__ == "__main__":
    encoding_shards.ROWS = search.ROWS = 40
    encode = encoding_shards.Encode.__call__
    def slow(self, table):
        print("begun", flush=True)
        if sys.argv[4] == "encoding" and len(begun) == 2:
            sys.stdin.read()
        begun.append(table)
        return encode(self, table)
    begun = []
    encoding_shards.Encode.__call__ = slow
    if sys.argv[4] == "searching":
        search.searched = lambda *_: print("searching", flush=True) or sys.stdin.read()
    search.evaluate(resolve_model(sys.argv[1]), [load_task(sys.argv[2])], Path(sys.argv[3]), Encoding(), EngineConfig())
"""


@pytest.mark.parametrize(("where", "made"), [("encoding", 2), ("searching", 4)])
def test_a_killed_evaluation_goes_on(model, folder, where, made, tmp_path, monkeypatch):
    plain, root, script = measured(model, folder, tmp_path / "plain"), tmp_path / "killed", tmp_path / "begun.py"
    script.write_text(BEGUN)
    command = [sys.executable, script, model.location, folder, root, where]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with commands.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        lines = [process.stdout.readline() for _ in range(3 if where == "encoding" else 5)]
        process.kill()
    assert lines[-1] in {"begun\n", "searching\n"}
    (plan,) = plans(root)
    assert len(state_of(plan.parent, read_plan(plan.parent)).done) == made
    again, real = [], encoding_shards.Encode.__call__
    monkeypatch.setattr(encoding_shards.Encode, "__call__", lambda *given: again.append(1) or real(*given))
    assert measured(model, folder, root, engine=ONE) == plain
    assert len(again) == 4 - made


def test_commands_are_printed_and_foils_shard_makes_the_parts(model, folder, tmp_path, capsys):
    plain, root = measured(model, folder, tmp_path / "plain"), tmp_path / "slurm"
    slurm = EngineConfig("slurm", workers=2)
    with pytest.raises(UserError, match=r"encoding corpus: 4 of 4 shards are left; run the commands above, or have"):
        measured(model, folder, root, engine=slurm)
    assert capsys.readouterr().out.count("sbatch ") == 2
    (plan,) = plans(root)
    for word in ("shard", "status"):
        done = commands.module("foils", word, plan.parent)
        assert done.returncode == 0, done.stderr
    assert "4 of 4 shards done, 0 failed, 0 left" in done.stdout
    assert measured(model, folder, root, engine=slurm) == plain
    assert not plans(root)


def test_a_poison_shard_is_reported_and_the_rest_is_kept(model, folder, tmp_path, monkeypatch):
    real = Encoder.encode_document

    def poisoned(self, texts, prompt=None, **more):
        if len(texts) == 10:
            raise ValueError("poison")
        return real(self, texts, prompt, **more)

    plain = measured(model, folder, tmp_path / "plain")
    monkeypatch.setattr(Encoder, "encode_document", poisoned)
    with pytest.raises(UserError, match=r"encoding corpus: 1 of 4 shards failed \(3\); shard 3: ValueError: poison"):
        measured(model, folder, tmp_path / "spread", engine=ONE)
    (plan,) = plans(tmp_path / "spread")
    assert state_of(plan.parent, read_plan(plan.parent)).done == [0, 1, 2]
    monkeypatch.setattr(Encoder, "encode_document", real)
    assert measured(model, folder, tmp_path / "spread", engine=ONE) == plain


def test_a_damaged_part_and_another_model_are_refused(model, folder, tmp_path):
    with pytest.raises(UserError, match="4 of 4 shards are left"):
        measured(model, folder, tmp_path, engine=EngineConfig("slurm"))
    (plan,) = plans(tmp_path)
    content = plan.read_text()
    other = tiny.retriever("cls", tmp_path / "other")
    plan.write_text(content.replace(model.location, str(other)))
    with pytest.raises(UserError, match=rf"model {other}: here it is sha256:\w+, and the plan was made with sha256:"):
        measured(model, folder, tmp_path, engine=ONE)
    plan.write_text(content)
    finish(plan.parent, ONE, "encoding")
    part = plan.parent / "part-00002.parquet"
    part.write_bytes(part.read_bytes()[:-5] + b"wrong")
    with pytest.raises(UserError, match=r"part-00002.parquet: not the part that was made; run the same command again"):
        measured(model, folder, tmp_path, engine=ONE)
    assert measured(model, folder, tmp_path, engine=ONE) == measured(model, folder, tmp_path / "plain")


def test_recipes_take_an_engine_and_pass_it_on(tmp_path):
    (tmp_path / "eval.toml").write_text('model = "m"\ntasks = ["t"]\n')
    spread = load_recipe(tmp_path / "eval.toml", ["engine.kind=ray", "engine.workers=8"], EvalRecipe).config
    assert spread.engine == EngineConfig("ray", 8)
    with pytest.raises(UserError, match=r"engine.kind: .*allowed: local, ray, slurm, hf-jobs"):
        load_recipe(tmp_path / "eval.toml", ["engine.kind=spark"], EvalRecipe)
    (tmp_path / "compare.toml").write_text(
        f'name = "c"\ndataset = "d"\ntraining = "t.toml"\ntasks = ["t"]\nout = "{tmp_path}"\n[engine]\nworkers = 2\n'
    )
    compared = load_recipe(tmp_path / "compare.toml", [], CompareRecipe).config
    command = next(Plan(compared, "t.toml", "base", {}, "").commands(Run(BASE, 0), 1))
    assert load_recipe(tmp_path / "runs" / "base.eval.toml", [], EvalRecipe).config.engine == TWO
    assert command[-1] == str(tmp_path / "runs" / "base.eval.toml")


def test_results_that_cannot_be_written_are_refused(model, folder, tmp_path):
    (tmp_path / "engine").write_text("not a folder")
    with pytest.raises(UserError, match=r"encoding corpus: .*: File exists; make room or name another folder"):
        measured(model, folder, tmp_path, engine=TWO)

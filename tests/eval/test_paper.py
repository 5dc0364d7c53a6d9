"""The paper's experiment from its own recipes, scaled down: other texts, an LLM by script, small random models."""

import json
import re
import subprocess
import sys

from tests.chat_server import about_animals
from tests.eval.test_run import QRELS, QUERIES
from tests.eval.test_tasks import task_folder
from tests.test_architecture import ROOT
from tests.training import tiny

PRIMING = "A hard negative looks relevant and does not answer."


def scripted(body, number):
    """As `about_animals`; and what a hard negative is, for the LLM is asked for that first."""
    try:
        return about_animals(body, number)
    except AttributeError:
        query = body["messages"][-1]["content"]
        return f"{PRIMING} {query[-60:]}"


def test_the_papers_recipe_from_llm_to_report(tmp_path, animals, chat_server):
    chat_server.script = scripted
    bases = {
        "e5-base-v2": tiny.retriever("mean", tmp_path / "e5"),
        "gte-base": tiny.retriever("mean", tmp_path / "gte"),
        "distilbert": tiny.raw("distilbert", tmp_path / "raw"),
    }
    small = {"max_seq_length": 64, "num_train_epochs": 2, "per_device_train_batch_size": 4}
    for name, base in bases.items():
        text = (ROOT / "training" / "recipes" / f"{name}.toml").read_text()
        for key, value in {**small, "base": f'"{base}"'}.items():
            text = re.sub(rf"(?m)^{key} = .*", f"{key} = {value}", text)
        (tmp_path / f"{name}.toml").write_text(text)
    build = [
        f"corpus.source={animals}", "queries.round_trip_k=12", f"llm.base_url={chat_server.url}", "llm.model=scripted",
        "llm.concurrency=4", f"negatives.cross-encoder.model={tiny.cross_encoder(tmp_path / 'ranker')}",
        "negatives.cross-encoder.precision=fp32", "leakage.against=[]",
    ]  # fmt: skip
    values = {
        "training": [str(tmp_path / f"{name}.toml") for name in bases],
        "tasks": [str(task_folder(animals, QUERIES, QRELS))],
        "build.set": build,
        "dataset": str(tmp_path / "data"),
        "out": str(tmp_path / "out"),
        "arms": ["llm", "llm-with-positive"],  # all kinds are built
        "seeds": [1],
        "jobs": 2,
        "precision": "fp32",
    }
    command = [sys.executable, "-m", "eval.compare", str(ROOT / "eval" / "recipes" / "paper.toml")]
    command += [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    whole = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["arm"] for row in whole["tables"][0]["rows"]] == ["untouched base", "llm", "llm-with-positive"]
    assert len(whole["bases"]) == 3
    kinds = {"none", "random", "bm25", "cross-encoder", "llm", "llm-with-positive"}
    assert kinds <= set(json.loads((tmp_path / "data" / "manifest.json").read_text())["configs"])
    for name in bases:
        one = json.loads((tmp_path / "out" / name / "comparison.json").read_text())
        assert all(each["held"] for each in one["guarantees"]), one["guarantees"]
        assert (tmp_path / "out" / name / "report.html").stat().st_size > 50_000
    assert "foils:comparison" in (tmp_path / "data" / "README.md").read_text()

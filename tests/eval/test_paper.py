"""The paper's experiment from its own recipes, scaled down: other texts, an LLM by script, small random models."""

import json
import random
import re

from tests.chat_server import about_animals
from tests.fixtures import ROOT, commands, tiny
from tests.fixtures.tasks import QRELS, QUERIES, task_folder

WORDS = [
    *("meadow", "forest", "river", "harbour", "garden", "desert", "island", "valley", "glacier", "lagoon", "village"),
    *("market", "castle", "bridge", "tunnel", "station", "library", "kitchen", "window", "ladder", "lantern", "barrel"),
    *("wagon", "anchor", "compass", "blanket", "pillow", "hammer", "needle", "basket", "bottle", "candle", "mirror"),
    *("pencil", "ribbon", "saddle", "shovel", "statue", "temple", "violin", "whistle", "cottage", "orchard", "mill"),
]


def scripted(body, number):
    """A query about a passage; what a hard negative is; or a passage about something else each time."""
    asked = body["messages"][-1]["content"]
    if asked.startswith("Passage: "):
        return about_animals(body, number)
    if "what is a hard negative" in asked.lower():
        return "It looks relevant and does not answer."
    one, two, three, four = random.Random(number).sample(WORDS, 4)
    return f"The {one} lies behind the {two}, and the {three} is near the {four}."


def test_the_papers_recipe_from_llm_to_report(tmp_path, animals, chat_server):
    chat_server.script = scripted
    bases = {
        "e5-base-v2": tiny.retriever("mean", tmp_path / "e5"),
        "distilbert": tiny.raw("distilbert", tmp_path / "raw"),
    }
    small = {"max_seq_length": 64, "num_train_epochs": 1, "per_device_train_batch_size": 4}
    for name, base in bases.items():
        text = (ROOT / "training" / "recipes" / f"{name}.toml").read_text()
        for key, value in {**small, "base": f'"{base}"'}.items():
            text = re.sub(rf"(?m)^{key} = .*", f"{key} = {value}", text)
        (tmp_path / f"{name}.toml").write_text(text)
    build = [
        f"corpus.source={animals}", "queries.round_trip_k=0", f"llm.base_url={chat_server.url}", "llm.model=scripted",
        "llm.concurrency=4", f"negatives.cross-encoder.model={tiny.cross_encoder(tmp_path / 'ranker')}",
        "negatives.cross-encoder.precision=fp32", "leakage.against=[]", "exam.queries=2",
    ]  # fmt: skip
    values = {
        "training": [str(tmp_path / f"{name}.toml") for name in bases],
        "tasks": [str(task_folder(animals, QUERIES, QRELS))],
        "build.recipe": str(ROOT / "builders" / "recipes" / "paper.toml"),
        "build.set": build,
        "dataset": str(tmp_path / "data"),
        "out": str(tmp_path / "out"),
        "arms": ["llm-with-positive"],  # all kinds are built
        "seeds": [1],
        "jobs": 2,
        "precision": "fp32",
    }
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = commands.module("eval.compare", ROOT / "eval" / "recipes" / "paper.toml", *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    kinds = {"none", "random", "bm25", "cross-encoder", "llm", "llm-with-positive"}
    assert kinds <= set(json.loads((tmp_path / "data" / "manifest.json").read_text())["configs"])
    for name in bases:
        one = json.loads((tmp_path / "out" / name / "comparison.json").read_text())
        assert [row["arm"] for row in one["tables"][0]["rows"]] == ["untouched base", "llm-with-positive"]
        page = (tmp_path / "out" / name / "report.html").read_text()
        assert page.count("<svg") == 1  # quality against cost is not drawn of a single arm
        assert len(page) > 40_000
    bases, arm = (line.split() for line in done.stdout.splitlines()[-2:])
    assert (bases, arm[0]) == (["model", "raw"], "llm-with-positive")
    assert "Comparison: paper, e5-base-v2" in (tmp_path / "data" / "README.md").read_text()

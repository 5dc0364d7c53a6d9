"""Training on several sources, in memory and streamed, from folders and from the loopback Hub."""

import json
import os
import subprocess
import sys

import pytest

from cards.publish.release import Target
from cards.verify.__main__ import verify
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.conftest import CANARY
from tests.fixtures import ROOT, tiny
from tests.fixtures.training import NUMBERED as MAIN
from tests.fixtures.training import N, put_dataset, recipe_for, record
from training import train
from training.publish import compare, publish_model
from training.recipe import TrainRecipe

pytestmark = pytest.mark.hub

PAIRS = {"question": [f"ask {n}" for n in range(30)], "answer": [f"reply {n}" for n in range(30)]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.retriever("mean", tmp_path_factory.mktemp("base"))


@pytest.fixture
def recipe(tmp_path, base):
    """A recipe for `bob/NAME-ours` and, with a share, `bob/NAME-pairs`."""

    def make(name, *overrides, share=0.25, more=""):
        path = tmp_path / "train.toml"
        path.write_text(
            f'dataset = "bob/{name}-ours"\nrevision = "v1.0.0"\nkind = "bm25"\nbase = "{base}"\nmax_seq_length = 16\n'
            f'[[also]]\ndataset = "bob/{name}-pairs"\nrevision = "v1.0.0"\nshare = {share}\n{more}'
            "[trainer]\nmax_steps = 3\nper_device_train_batch_size = 4\nlearning_rate = 1e-3\n"
        )
        return load_recipe(path, overrides, TrainRecipe)

    return make


def both(hub, tmp_path, name):
    ours = put_dataset(hub, tmp_path, f"bob/{name}-ours", {"bm25": MAIN, "llm": MAIN})
    return ours, put_dataset(hub, tmp_path, f"bob/{name}-pairs", {"default": PAIRS})


def about(name, revision, rows, used):
    return {"name": name, "revision": revision, "tag": "v1.0.0", "rows": rows, "used": used}


@pytest.mark.parametrize("streaming", [False, True])
def test_training_by_id_and_revision(hub, recipe, tmp_path, streaming):
    name = f"mix{streaming}".lower()
    ours, pairs = both(hub, tmp_path, name)
    config = recipe(name, f"streaming={str(streaming).lower()}")
    train.main(config, tmp_path / "m")
    run = record(tmp_path / "m")
    used, share = ((9, 3), 0.25) if streaming else ((40, 13), 0.245283)
    also = {"config": "default", "split": "train", "share": share}
    assert run["dataset"].pop("streaming", False) == streaming
    assert run["dataset"] == {
        **about(f"bob/{name}-ours", ours, N, used[0]),
        "kind": "bm25",
        "share": 1 - share,
        "also": [{**about(f"bob/{name}-pairs", pairs, 30, used[1]), **also}],
    }
    assert run["training"]["steps"] == 3
    assert run["model"]["revision"] != run["base"]["revision"]
    assert run["training_datasets"]["data"] is None
    card = (tmp_path / "m" / "README.md").read_text()
    assert f"- bob/{name}-pairs" in card.partition("\n---\n")[0]
    assert (
        f"| further data | bob/{name}-pairs@v1.0.0, `{pairs}`, configuration `default`, split `train`, {used[1]} of"
        in card
    )
    written = (tmp_path / "m" / "model.safetensors").stat().st_mtime_ns
    train.main(config, tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").stat().st_mtime_ns == written
    assert not any(request.authorized for request in hub.requests if request.host.startswith("localhost"))
    assert CANARY not in card + json.dumps(run)


def test_further_data_is_pinned_and_verified(hub, recipe, tmp_path):
    ours, pairs = both(hub, tmp_path, "pinned")
    train.main(recipe("pinned"), tmp_path / "m")
    publish_model(tmp_path / "m", Target("alice/pinned", "v1.0.0"))
    links = {link.name: link for link in verify("alice/pinned")}
    assert links["model: further data bob/pinned-pairs"].status == "verified"
    assert f"bob/pinned-pairs@v1.0.0 is still commit {pairs}" in links["model: further data bob/pinned-pairs"].detail
    assert links["model: card"].status == "verified"
    run = record(tmp_path / "m")
    alone = {key: value for key, value in run["dataset"].items() if key != "also"}
    change = compare({**run, "dataset": alone, "model": {"revision": "sha256:0"}}, run)
    assert change.level == "minor"
    assert "further data: none -> bob/pinned-pairs" in change.reasons
    changed = {**PAIRS, "answer": PAIRS["answer"][::-1]}
    moved = put_dataset(hub, tmp_path, "bob/pinned-pairs", {"default": changed}, tag=None)
    train.main(recipe("pinned", more="", share=0.2), tmp_path / "other")
    hub.move_tag("dataset", "bob/pinned-pairs", "v1.0.0", moved)
    with pytest.raises(UserError, match=rf"bob/pinned-pairs@v1\.0\.0: the tag has moved: it was {pairs} .* is {moved}"):
        train.main(recipe("pinned"), tmp_path / "m")
    links = {link.name: link for link in verify("alice/pinned")}
    assert links["model: further data bob/pinned-pairs"].status == "broken"
    assert ours != moved


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('config = "fr"\n', "dataset bob/asked-pairs: has no configuration 'fr'; allowed: de, en"),
        ("", "dataset bob/asked-pairs: needs its config; allowed: de, en"),
        ('config = "en"\nsplit = "dev"\n', "dataset bob/asked-pairs: has no split 'dev'; allowed: train"),
    ],
)
def test_what_a_hub_data_set_lacks(hub, recipe, tmp_path, more, words):
    put_dataset(hub, tmp_path, "bob/asked-ours", {"bm25": MAIN})
    put_dataset(hub, tmp_path, "bob/asked-pairs", {"de": PAIRS, "en": PAIRS})
    with pytest.raises(UserError, match=words):
        train.main(recipe("asked", more=more), tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.fixture
def local(tmp_path, base):
    """A recipe for local data of both forms, streamed or not."""
    lines = [json.dumps({"query": q, "answer": a}) for q, a in zip(PAIRS["question"], PAIRS["answer"], strict=True)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    also = f'max_seq_length = 16\n[[also]]\ndataset = "{tmp_path / "pairs.jsonl"}"\nshare = 0.25\n'
    few = "max_steps = 4\nper_device_train_batch_size = 4\nlearning_rate = 1e-3\n"
    return recipe_for(tmp_path, base, MAIN, also, few)


PROCESS = """
import json, sys
from pathlib import Path

from accelerate import PartialState
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss

from foils.recipe import load_recipe
from training.rows import mixture
from training.rows.source import resolve
from training.recipe import TrainRecipe

state = PartialState(cpu=True)
for streaming in ("true", "false"):
    config = load_recipe(Path(sys.argv[1]), [f"streaming={streaming}"], TrainRecipe).config
    training = mixture.load(config, resolve(config.dataset, config.revision))
    model = SentenceTransformer(config.base)
    options = {"seed": 1, "report_to": "none", "save_strategy": "no", "use_cpu": True}
    arguments = SentenceTransformerTrainingArguments(sys.argv[2], **options, **config.trainer, **training.arguments)
    loss = MultipleNegativesRankingLoss(model, gather_across_devices=True)
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=training.rows, loss=loss)
    seen, collate = [], trainer.data_collator

    def noted(rows):
        seen.append([row["query"] for row in rows])
        return collate(rows)

    noted.valid_label_columns = collate.valid_label_columns
    trainer.data_collator = noted
    trainer.train()
    Path(f"{sys.argv[2]}-{streaming}-{state.process_index}.json").write_text(json.dumps(seen))
"""


@pytest.mark.usefixtures("local")
def test_no_row_is_trained_by_two_processes_and_a_step_has_one_source(tmp_path):
    """With negatives gathered across processes, which would wait for ever if a step's batches had other columns."""
    (tmp_path / "script.py").write_text(PROCESS)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--multi_gpu", "--num_processes", "2"]
    command += [str(tmp_path / "script.py"), str(tmp_path / "train.toml"), str(tmp_path / "seen")]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for streaming in ("true", "false"):
        first, second = (json.loads((tmp_path / f"seen-{streaming}-{rank}.json").read_text())[:4] for rank in (0, 1))
        words = [{query.split()[0] for query in (*one, *other)} for one, other in zip(first, second, strict=True)]
        assert all(len(each) == 1 for each in words)
        assert [each.pop() for each in words].count("ask") == 1
        queries = [query for batch in (*first, *second) for query in batch]
        assert len(set(queries)) == len(queries) == 4 * 2 * 4


def test_a_cross_encoder_takes_further_data(local, tmp_path):
    train.main(local("task=cross-encoder", "trainer.max_steps=2"), tmp_path / "ranker")
    assert [more["used"] for more in record(tmp_path / "ranker")["dataset"]["also"]] == [13]

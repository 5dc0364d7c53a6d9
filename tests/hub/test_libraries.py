"""The libraries on top of huggingface_hub, each publishing and reading in a process of its own."""

from tests.hub.clients import DATA, paths, run

DATASETS = """
import sys
import datasets
from datasets import Dataset, load_dataset

corpus = Dataset.from_dict({"_id": ["d1", "d2"], "title": ["", ""], "text": ["owls hunt mice", "bees dance"]})
queries = Dataset.from_dict({"_id": ["q1"], "text": ["who dances?"]})
qrels = Dataset.from_dict({"query-id": ["q1"], "corpus-id": ["d2"], "score": [1.0]})
corpus.push_to_hub("alice/task", "corpus", split="test", private=True)
queries.push_to_hub("alice/task", "queries", split="test")
info = qrels.push_to_hub("alice/task", "default", split="test", commit_message="qrels")
corpus.push_to_hub("alice/task", "corpus", split="test", revision="staging")

from huggingface_hub import HfApi
HfApi().create_tag("alice/task", tag="v1", revision=info.oid, repo_type="dataset")
loaded = load_dataset("alice/task", "corpus", revision="v1", split="test")
assert loaded.to_list() == corpus.to_list(), loaded
streamed = load_dataset("alice/task", "queries", revision="v1", split="test", streaming=True)
assert list(streamed) == queries.to_list()
assert datasets.get_dataset_config_names("alice/task") == ["corpus", "default", "queries"]

import mteb
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

class Task(AbsTaskRetrieval):
    metadata = TaskMetadata(
        name="Loopback", dataset={"path": "alice/task", "revision": "v1"}, description="", type="Retrieval",
        category="t2t", modalities=["text"], eval_splits=["test"], eval_langs=["eng-Latn"], main_score="ndcg_at_10",
        reference=None, date=None, domains=None, task_subtypes=None, license=None, annotations_creators=None,
        dialect=None, sample_creation=None, bibtex_citation="",
    )

task = Task()
task.load_data()
data = task.dataset["default"]["test"]
assert list(data["corpus"])[1]["text"] == "bees dance"
assert data["relevant_docs"] == {"q1": {"d2": 1}}
"""

MODELS = """
import sys
from pathlib import Path
from datasets import Dataset
from huggingface_hub import HfApi
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from tests.fixtures import tiny

here = Path(sys.argv[1])
model = SentenceTransformer(str(tiny.retriever("mean", here / "tiny")), device="cpu")

model.push_to_hub("alice/tiny", private=True)
HfApi().create_tag("alice/tiny", tag="v1")
again = SentenceTransformer("alice/tiny", revision="v1", device="cpu")
assert (again.encode("bees") == model.encode("bees")).all()

rows = Dataset.from_dict({"anchor": ["who dances?", "who hunts?"], "positive": ["bees dance", "owls hunt"]})
arguments = SentenceTransformerTrainingArguments(
    output_dir=str(here / "out"), max_steps=1, per_device_train_batch_size=2, push_to_hub=True, hub_strategy="end",
    hub_model_id="alice/trained", report_to=[], use_cpu=True, save_strategy="no",
)
trainer = SentenceTransformerTrainer(again, arguments, train_dataset=rows, loss=MultipleNegativesRankingLoss(again))
trainer.train()
trainer.push_to_hub()
trained = SentenceTransformer("alice/trained", device="cpu")
assert (trained.encode("bees") == again.encode("bees")).all()
assert (trained.encode("bees") != model.encode("bees")).any()
"""


def test_datasets_and_mteb(hub, tmp_path):
    run(DATASETS, hub, tmp_path)
    repo = hub.repo(DATA, "alice/task")
    assert repo.private
    assert set(repo.refs) == {"main", "staging"}
    assert b"config_name: corpus" in repo.read("v1", "README.md")
    parquet = [path for path in repo.resolve("v1").files if path.endswith(".parquet")]
    assert sorted(path.split("/")[0] for path in parquet) == ["corpus", "data", "queries"]
    assert any("/xorbs/" in path for path in paths(hub))
    assert any(path.startswith("/cdn/") for path in paths(hub, method="GET"))  # streaming goes by the redirect


def test_models_and_trainer(hub, tmp_path):
    run(MODELS, hub, tmp_path)
    assert hub.repos() == [("model", "alice/tiny"), ("model", "alice/trained")]
    assert hub.repo("model", "alice/tiny").private
    files = hub.repo("model", "alice/trained").resolve("main").files
    assert {"README.md", "model.safetensors", "modules.json", "training_args.bin"} <= set(files)
    assert files["model.safetensors"].xet_hash
    assert any("/xorbs/" in path for path in paths(hub))
    assert not [r for r in hub.requests if r.status is not None and r.status >= 500]

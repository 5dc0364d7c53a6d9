"""Plans of a build: what they say of settings, whom they wait for, and what is refused before they are made."""

import threading
import time

import msgspec
import numpy as np
import pytest
from filelock import FileLock

from builders.recipe import BuildRecipe, CorpusConfig
from builders.retrieval.bm25.index import threads
from builders.retrieval.embeddings import Embedder
from builders.retrieval.encoding import Reading, as_texts
from builders.retrieval.encoding_shards import encoding_plan
from builders.retrieval.row_store import keys_of
from builders.scores.config import CrossEncoderConfig
from builders.scores.scoring_shards import Score, ScoreConfig, scoring_plan
from builders.steps import estimated
from foils.engine.config import EngineConfig
from foils.engine.plan import PLAN, Places, check_versions
from foils.errors import UserError
from foils.hardware import has_native_bf16
from foils.models import resolve_model
from tests.fixtures import tiny


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    return Reading(str(tiny.retriever("mean", tmp_path_factory.mktemp("retriever"))))


@pytest.fixture
def passages(monkeypatch):
    """Passages of four shards."""
    monkeypatch.setattr("builders.retrieval.embeddings.ROWS", 10)
    return as_texts([f"p{at:02}" for at in range(40)], [f"owl number {at}" for at in range(40)])


def test_a_plan_names_the_precision_that_auto_chose(reading, passages, tmp_path):
    embedder = Embedder(msgspec.structs.replace(reading, precision="auto"), tmp_path)
    plan = encoding_plan(tmp_path, embedder, "document", passages, [np.arange(3)])
    assert plan.config["reading"]["precision"] == ("bf16" if has_native_bf16() else "fp32")


def test_scores_of_openvino_are_refused_on_other_hardware_and_by_another_version(tmp_path):
    config = CrossEncoderConfig(model=str(tiny.word_ranker(tmp_path / "model")))
    plan = scoring_plan(tmp_path, config, resolve_model(config.model), ("openvino", tmp_path), [])
    other = msgspec.convert(plan.config | {"precision": "f8"}, ScoreConfig)
    with pytest.raises(
        UserError, match=r"openvino: the plan's scores are computed in f8, and this machine .* in (bf16|f32)"
    ):
        Score(other, Places(tmp_path, plan.paths))
    check_versions(plan, tmp_path)
    for said, version in (("1.0", "1.0"), ("not installed", "not installed")):
        changed = msgspec.structs.replace(plan, versions=plan.versions | {"openvino": version})
        with pytest.raises(UserError, match=f"made with openvino {said}, and here it is "):
            check_versions(changed, tmp_path)


def test_every_search_has_a_plan_of_its_own(reading, passages, tmp_path, monkeypatch):
    monkeypatch.setattr("builders.retrieval.embeddings.SEARCHED", 25)
    embedder = Embedder(reading, tmp_path, EngineConfig())
    answering = embedder.embed(passages, "document")
    asking = [embedder.embed(as_texts(["q"], [text]), "query") for text in ("owl", "bee")]
    renamed = as_texts(passages.ids_at(np.arange(40)[::-1]), passages.table["text"])  # ties are broken otherwise

    def plans():
        return len(list((tmp_path / "engine").glob("nearest-*.lock")))

    for number, (query, corpus, k) in enumerate(
        ((asking[0], passages, 5), (asking[1], passages, 5), (asking[0], passages, 6), (asking[0], renamed, 5)), 1
    ):
        embedder.search(query, corpus, answering, k)
        assert plans() == number
    embedder.search(asking[0], passages, answering, 5)
    assert plans() == 4


def begun(reading, passages, cache):
    """The folder of a plan that is written and not made."""
    with pytest.raises(UserError, match="4 of 4 shards are left"):
        Embedder(reading, cache, EngineConfig("slurm")).embed(passages, "document")
    (folder,) = (cache / "engine").glob("*/")
    return folder


def test_what_was_made_beside_a_poison_shard_is_kept(reading, passages, tmp_path):
    folder = begun(reading, passages, tmp_path)
    (folder / "input-00001.parquet").write_bytes(b"poison")
    embedder = Embedder(reading, tmp_path, EngineConfig())
    with pytest.raises(UserError, match=r"1 of 4 shards failed \(1\)"):
        embedder.embed(passages, "document")
    stored = np.fromfile(embedder.folder("document") / "keys.bin", np.uint64).reshape(-1, 2).tolist()
    texts = passages.table["text"].to_pylist()
    assert sorted(stored) == sorted(keys_of(texts[:10] + texts[20:]).tolist())


def test_two_builds_do_not_work_in_one_folder(reading, passages, tmp_path):
    folder = begun(reading, passages, tmp_path)
    found = []
    second = threading.Thread(target=lambda: found.append(Embedder(reading, tmp_path).embed(passages, "document")))
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        second.start()
        time.sleep(2)
        assert (folder / PLAN).exists()
        assert not list(folder.glob("part-*"))
    second.join(60)
    assert (found[0].places >= 0).all()
    assert not folder.exists()


def test_bm25_takes_the_threads_that_an_engine_gives_it(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8))
    for given, taken in (("3", 3), ("64", 8)):  # never more than there are
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert threads() == taken
    monkeypatch.delenv("OMP_NUM_THREADS")
    here = threads()
    for without in ("", "0", "two"):
        monkeypatch.setenv("OMP_NUM_THREADS", without)
        assert threads() == here


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (EngineConfig(workers=2, gpus_per_worker=64), r"engine.gpus_per_worker 64: this machine has \d+ GPUs"),
        (EngineConfig("hf-jobs", gpus_per_worker=3, address="o/b"), r"gpus_per_worker 3: hf-jobs takes 0, 1, 4, 8"),
        (EngineConfig("ray", address="127.0.0.1:9"), r"no cluster answers there|Ray is not installed"),
    ],
)
def test_a_dry_run_refuses_an_engine_that_cannot_work(engine, said, tmp_path):
    config = BuildRecipe("x", CorpusConfig(str(tmp_path / "nowhere")), engine=engine)
    with pytest.raises(UserError, match=said):
        estimated(config, tmp_path / "calls.sqlite", 1)

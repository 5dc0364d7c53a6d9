"""Held-out queries: which they are, what stays in training, and that they choose the checkpoint that is kept."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sentence_transformers import (
    CrossEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import cos_sim
from transformers import EarlyStoppingCallback, TrainerState

from builders.dataset.folder import write_config
from foils.errors import UserError
from foils.models import resolve_model
from foils.texts import normalised
from tests.conftest import BASE, SHARED
from tests.fixtures.scifact_rows import scifact_rows
from training.loop import curves, dev
from training.loop.trainer import StopOnNaN, load_checkpoint
from training.recipe import DevConfig
from training.rows.hold_out import groups_of, hold_out, text_keys
from training.rows.source import resolve

CONFIG = DevConfig(queries=12, passages=20, every=2, patience=2)
WORDS = st.sampled_from(["owl", "Owl", "bee ", "eel", "ant", "bat", " cow", "elk"])
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=30)


pytestmark = pytest.mark.usefixtures("one_thread")


def as_rows(pairs, negatives="none"):
    return Dataset.from_dict(
        {"query": [q for q, _ in pairs], "positive": [p for _, p in pairs], "negative_1": [negatives for _ in pairs]}
    )


def texts(rows, column):
    return {normalised(text) for text in rows[column]}


@given(PAIRS, st.randoms(), st.integers(1, 3))
@settings(max_examples=60)
def test_all_kinds_and_orders_hold_out_the_same_and_nothing_of_it_stays(pairs, random, number):
    config = DevConfig(queries=number, passages=2)
    shuffled = random.sample(pairs, len(pairs))
    try:
        train, held = hold_out(as_rows(pairs), config)
    except UserError:
        with pytest.raises(UserError):
            hold_out(as_rows(shuffled), config)
        return
    assert len(texts(held, "query")) == number
    assert not texts(train, "query") & texts(held, "query")
    assert not texts(train, "positive") & texts(held, "positive")
    # What was left out shares a text with a held-out query, and nothing else was.
    lost = [
        (q, p) for q, p in pairs if normalised(q) in texts(held, "query") or normalised(p) in texts(held, "positive")
    ]
    assert len(train) == len(pairs) - len(lost)
    other_train, other_held = hold_out(as_rows(shuffled, "of another kind"), config)
    assert sorted(zip(other_held["query"], other_held["positive"], strict=True)) == sorted(
        zip(held["query"], held["positive"], strict=True)
    )
    one, other = dev.dev_set(held, train, config), dev.dev_set(other_held, other_train, config)
    assert list(map(normalised, one.passages)) == list(map(normalised, other.passages))
    assert one.queries == other.queries
    assert one.qrels == other.qrels
    assert "of another kind" not in other.passages


def with_groups(folder, rows, group_of, name="a"):
    """A data set in a folder whose queries have groups."""
    asked = {
        "_id": list(map(str, range(len(rows)))),
        "text": rows["query"],
        "group": [*map(group_of, range(len(rows)))],
    }
    write_config(folder / name, "train-queries", pa.table(asked))
    write_config(folder / name, "bm25", rows.data.table)
    about = {"name": name, "inputs": {"corpus": {"sha256": "of both"}}}
    (folder / name / "manifest.json").write_text(json.dumps(about))
    return resolve(str(folder / name), None)


@pytest.mark.parametrize(
    ("size", "queries", "lost"), [(1, 5, 5), (2, 5, 6), (20, 100, 100), (100, 100, 100), (7, 9, 14)]
)
def test_whole_groups_are_held_out_and_no_more_of_them_than_it_takes(tmp_path, size, queries, lost):
    rows = as_rows([(f"query {at}", f"positive {at}") for at in range(2000)])
    groups = groups_of([with_groups(tmp_path, rows, lambda at: str(at // size))])
    train, held = hold_out(rows, DevConfig(queries=queries), groups)
    group = {text: int(text.split()[1]) // size for text in rows["query"]}
    assert len(held) == queries
    assert not {group[text] for text in train["query"]} & {group[text] for text in held["query"]}
    assert len(rows) - len(train) == lost


def test_groups_that_are_too_large_are_named(tmp_path):
    rows = as_rows([(f"query {at}", f"positive {at}") for at in range(48)])
    for size, words in ((16, "3 groups .*; set it to 16 or lower"), (30, "2 groups .*; set it to 18 or lower")):
        groups = groups_of([with_groups(tmp_path, rows, lambda at, size=size: str(at // size), f"of-{size}")])
        with pytest.raises(
            UserError, match=f"dev.queries 19: the data set has 48 different queries in {words}, or build"
        ):
            hold_out(rows, DevConfig(queries=19), groups)


def test_a_query_may_belong_to_groups_of_several_sources(tmp_path):
    """Further data of the same corpus has the query with another passage, and other queries of both groups."""
    ours = as_rows([(f"query {at}", f"positive {at}") for at in range(20)])
    more = as_rows([(f"{'another' if at // 20 else 'query'} {at % 20}", f"further {at}") for at in range(40)])
    sources = [with_groups(tmp_path, ours, str), with_groups(tmp_path, more, lambda at: str(at % 20 // 4), "b")]
    train, held = hold_out({"a": ours, "b": more}, DevConfig(queries=3), groups_of(sources))
    taken = {group for text in held["query"] for group in (int(text.split()[1]), int(text.split()[1]) // 4)}
    assert not {int(text.split()[1]) // 4 for text in train["b"]["query"]} & taken
    assert not {int(text.split()[1]) for text in train["a"]["query"]} & taken


def test_of_several_sources_none_keeps_a_held_out_text():
    rows = scifact_rows(40)
    general = Dataset.from_dict({"query": ["unrelated", *rows["query"]], "positive": ["fact", *rows["positive"]]})
    train, held = hold_out({"ours": rows, "general": general}, DevConfig(queries=10))
    assert len(texts(held, "query")) == 10
    assert list(train) == ["ours", "general"]
    assert len(train["general"]) == len(train["ours"]) + 1
    assert "unrelated" in train["general"]["query"]
    for source in train.values():
        assert not texts(source, "query") & texts(held, "query")
        assert not texts(source, "positive") & texts(held, "positive")
    assert dev.dev_set(held, train, DevConfig(passages=500)).passages.count("fact") == 0


def test_rows_stay_as_they_are_without_held_out_queries():
    rows = scifact_rows(4)
    assert hold_out(rows, DevConfig()) == (rows, None)


@pytest.mark.parametrize(
    ("rows", "queries", "words"),
    [
        (
            as_rows([("a", "b"), ("c", "d")]),
            2,
            "2: the data set has 2 different queries in 2 groups .* set it to 1 or low",
        ),
        (as_rows([("a", "x"), ("b", "X "), ("c", "x")]), 1, "no row would be left to train on"),
        (as_rows([("a", "b")]).to_iterable_dataset(), 1, "cannot be held out of rows that are streamed; set it to 0"),
    ],
)
def test_what_cannot_be_held_out_is_refused(rows, queries, words):
    with pytest.raises(UserError, match=words):
        hold_out(rows, DevConfig(queries=queries))


def test_the_recipe_part_is_checked():
    with pytest.raises(UserError, match=r"dev.every 2.5: wanted a whole number of steps, or a share below 1"):
        dev.trainer_defaults(DevConfig(queries=1, every=2.5), 8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Twelve steps that train away from the positives, which two measurements without a better one end early."""
    out = tmp_path_factory.mktemp("run") / "model"
    train, held = hold_out(scifact_rows(50), CONFIG)
    model = SentenceTransformer(resolve_model(BASE).location)
    model.max_seq_length = 16
    few = {"max_steps": 12, "per_device_train_batch_size": 4, "learning_rate": 2e-4, "logging_steps": 1, "seed": 1}
    arguments = SentenceTransformerTrainingArguments(
        str(out), **few, use_cpu=True, report_to="none", **dev.trainer_defaults(CONFIG, 4)
    )
    loss = MultipleNegativesRankingLoss(model, similarity_fct=lambda one, other: -cos_sim(one, other))
    evaluator = dev.DevEvaluator(dev.dev_set(held, train, CONFIG), "retriever", CONFIG, 16)
    untouched = evaluator(model)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=held,
        loss=loss,
        evaluator=evaluator,
        callbacks=[EarlyStoppingCallback(CONFIG.patience)],
    )
    trainer.add_callback(StopOnNaN(trainer))
    trainer.train()
    return out, trainer, evaluator, untouched


def test_the_best_checkpoint_is_the_one_that_is_kept(run):
    out, trainer, evaluator, untouched = run
    found = dev.summary(trainer.state, CONFIG, out / "eval")
    scores = {row["step"]: row[dev.LOGGED] for row in trainer.state.log_history if dev.LOGGED in row}
    assert scores[0] == pytest.approx(untouched[dev.METRIC])
    assert found["best"]["step"] == trainer.state.best_global_step
    assert found["best"]["value"] == pytest.approx(max(value for step, value in scores.items() if step), abs=1e-6)
    assert evaluator(trainer.model)[dev.METRIC] == pytest.approx(found["best"]["value"], abs=1e-6)
    now = trainer.model[0].auto_model.state_dict()
    for step, same in ((found["best"]["step"], True), (found["last"]["step"], False)):
        saved = load_file(out / f"checkpoint-{step}" / "model.safetensors")
        assert torch.equal(saved["embeddings.word_embeddings.weight"], now["embeddings.word_embeddings.weight"]) is same
    assert len(list(out.glob("checkpoint-*"))) == 2


def test_a_best_checkpoint_that_cannot_be_loaded_is_refused(run):
    """The library would log it and keep the last weights."""
    out, trainer, _, _ = run
    for damage in (lambda file: file.write_bytes(file.read_bytes()[:100]), lambda file: shutil.rmtree(file.parent)):
        folder = shutil.copytree(out / f"checkpoint-{trainer.state.best_global_step}", out / "checkpoint-999")
        damage(folder / "model.safetensors")
        with pytest.raises(UserError, match=r"the best checkpoint, .*checkpoint-999, cannot be loaded .* --fresh"):
            load_checkpoint(trainer, 999)
        shutil.rmtree(folder, ignore_errors=True)


def test_the_measure_is_that_of_sentence_transformers(run):
    _, trainer, evaluator, _ = run
    queries, passages = (
        {str(number): text for number, text in enumerate(texts)}
        for texts in (evaluator.dev.queries, evaluator.dev.passages)
    )
    relevant = {query: {*positives} for query, positives in evaluator.dev.qrels.items()}
    theirs = InformationRetrievalEvaluator(queries, passages, relevant)(trainer.model)
    assert evaluator(trainer.model)[dev.METRIC] == pytest.approx(theirs["cosine_ndcg@10"])


def test_no_better_measurement_stops_early_and_a_better_base_is_told(run, caplog):
    out, trainer, _, _ = run
    caplog.set_level("INFO")
    found = dev.summary(trainer.state, CONFIG, out / "eval")
    assert found["stopped_early"]
    assert trainer.state.global_step == found["best"]["step"] + 2 * CONFIG.patience < 12
    assert found["beats_base"] is False
    assert "no checkpoint beats the untouched base" in caplog.text
    best = found["best"]
    assert best["low"] <= best["value"] <= best["high"]
    assert best["difference"] == pytest.approx(best["value"] - found["base"]["value"], abs=2e-6)
    assert best["difference_low"] <= best["difference"] <= best["difference_high"]


def test_the_history_has_losses_rates_and_measurements(run):
    _, trainer, _, _ = run
    rows = {row["step"]: row for row in curves.history(trainer.state.log_history)}
    assert list(rows) == list(range(trainer.state.global_step + 1))
    assert rows[0].keys() == {"step", "epoch", "dev_loss", "dev_ndcg"}
    assert rows[2].keys() == {"step", "epoch", "loss", "lr", "dev_loss", "dev_ndcg"}


def test_early_stop_goes_on_counting_after_a_restart(run):
    out, trainer, _, _ = run
    last = max(out.glob("checkpoint-*"), key=lambda folder: int(folder.name.partition("-")[2]))
    fresh = EarlyStoppingCallback(CONFIG.patience)
    again = SentenceTransformerTrainer(
        trainer.model, trainer.args, trainer.train_dataset, trainer.eval_dataset, trainer.loss, callbacks=[fresh]
    )
    again.state = TrainerState.load_from_json(str(last / "trainer_state.json"))
    again._load_callback_state()
    counts = [
        callback.early_stopping_patience_counter
        for callback in again.callback_handler.callbacks
        if isinstance(callback, EarlyStoppingCallback)
    ]
    assert counts == [CONFIG.patience]
    assert fresh.early_stopping_patience_counter == 0


def test_a_cross_encoder_ranks_the_likely_passages(tmp_path):
    train, held = hold_out(scifact_rows(30), DevConfig(queries=4))
    dev_set = dev.dev_set(held, train, DevConfig(passages=10))
    likely = dev.candidates(dev_set, 5)
    assert all(len(set(passages)) == 5 for passages in likely)
    for positives, passages in zip(dev_set.qrels.values(), likely, strict=True):
        assert {*map(int, positives)} <= {*passages}
    model = CrossEncoder(str(SHARED / "models" / "cross-encoder-mini"), max_length=32)
    config = DevConfig(queries=4, rerank=5)
    scores = dev.DevEvaluator(dev_set, "cross-encoder", config, 8)(model, str(tmp_path), 0, 3)
    assert 0.3 < scores[dev.METRIC] <= 1
    assert np.load(dev.score_file(tmp_path, 3)).mean() == pytest.approx(scores[dev.METRIC])


def test_rows_are_read_by_batches_whatever_their_form():
    table = pa.table({"query": [f"query {number}" for number in range(25_000)], "positive": ["same"] * 25_000})
    rows = Dataset(table)
    assert text_keys(rows.select(range(24_000, 25_000)), "query").tolist() == (
        text_keys(rows, "query")[24_000:].tolist()
    )
    assert len(np.unique(text_keys(rows, "query"))) == 25_000

"""Batches are foretold exactly: against sentence-transformers' own samplers, gone through to their end."""

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import (
    DefaultBatchSampler,
    NoDuplicatesBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss
from torch.utils.data import ConcatDataset, RandomSampler

from tests.training.small_models import small_retriever
from training.preflight.batches import Plan, codes_of, foretell, plan_of
from training.preflight.hashes import hashed

EPOCHS = 2
column = st.integers(1, 30)


@st.composite
def tables(draw, rows):
    """Three columns; the texts of one may stand in another."""
    distinct = [draw(st.sampled_from([2, 5, 15, 1000])) for _ in range(3)]
    return {
        name: [
            f"{name if high == 1000 else ''}{at if high == 1000 else draw(st.integers(0, high))}" for at in range(rows)
        ]
        for name, high in zip(("query", "positive", "negative_1"), distinct, strict=True)
    }


@st.composite
def cases(draw):
    parts = [draw(column.flatmap(tables)) for _ in range(draw(st.sampled_from([1, 1, 2, 3])))]
    processes = draw(st.sampled_from([1, 1, 2]))
    plan = Plan(
        sampler=draw(st.sampled_from(["no_duplicates", "no_duplicates", "batch_sampler"])),
        several=draw(st.sampled_from(["proportional", "round_robin"])),
        batch_size=draw(st.sampled_from([1, 2, 4, 8])),
        processes=processes,
        accumulation=1,
        epochs=EPOCHS,
        max_steps=-1,
        drop_last=processes > 1 or draw(st.booleans()),  # several processes force it
        seed=draw(st.integers(0, 99)),
    )
    return [Dataset.from_dict(part) for part in parts], plan


def codes(parts):
    return {
        str(number): codes_of([each.exact for each in hashed(part, part.column_names).values()])
        for number, part in enumerate(parts)
    }


def real_epochs(parts, plan):
    """Of each epoch: what is announced, and the batches of each process up to there."""
    generator = torch.Generator()
    options = {"batch_size": plan.batch_size, "drop_last": plan.drop_last, "generator": generator, "seed": plan.seed}
    if plan.sampler == "batch_sampler":
        samplers = [DefaultBatchSampler(RandomSampler(part, generator=generator), **options) for part in parts]
    else:
        samplers = [NoDuplicatesBatchSampler(part, **options) for part in parts]
    sampler = samplers[0]
    if len(parts) > 1:
        kind = RoundRobinBatchSampler if plan.several == "round_robin" else ProportionalBatchSampler
        sampler = kind(ConcatDataset(parts), samplers, generator=generator, seed=plan.seed)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        shards = [BatchSamplerShard(sampler, plan.processes, at, even_batches=False) for at in range(plan.processes)]
        shards = shards if plan.processes > 1 else [sampler]
        taken = []
        for shard in shards:
            generator.manual_seed(plan.seed)  # the plain sampler's order, alike in all processes
            taken.append(list(shard)[: len(shard)])
        yield len(shards[0]), taken


@settings(max_examples=150)
@given(cases())
def test_every_epoch_of_the_real_samplers_is_foretold(case):
    parts, plan = case
    total, found = sum(map(len, parts)), foretell(codes(parts), plan)
    unused, repeats, batch_counts = [], [], []
    for announced, taken in real_epochs(parts, plan):
        assert announced == found.announced
        assert len({len(each) for each in taken}) == 1
        used = [row for each in taken for batch in each for row in batch]
        batch_counts.append(len(taken[0]))
        unused.append(total - len(set(used)))
        repeats.append(len(used) - len(set(used)))
    assert found.exact
    assert found.batches == batch_counts[0]
    assert found.steps == sum(batch_counts)
    if found.announced:
        assert found.unused == pytest.approx(np.mean(unused))
        assert found.repeats == pytest.approx(np.mean(repeats))


def starved(rows=400, negatives=8):
    return Dataset.from_dict(
        {
            "query": [f"what is {row}" for row in range(rows)],
            "positive": [f"it is {row}" for row in range(rows)],
            "negative_1": [f"noise {row % negatives}" for row in range(rows)],
        }
    )


def plan(**changed):
    values = Plan("no_duplicates", "proportional", 32, 1, 1, 1, -1, drop_last=False, seed=1)
    return values._replace(**changed)


def test_shared_negatives_starve_the_sampler():
    found = foretell(codes([starved()]), plan())
    assert (found.announced, found.batches, found.rows - found.unused) == (13, 13, 104)
    dropped = foretell(codes([starved()]), plan(drop_last=True))
    assert (dropped.announced, dropped.batches, dropped.steps, dropped.unused) == (12, 0, 0, 400)


def test_labels_do_not_count_but_the_same_text_in_another_column_does():
    rows = Dataset.from_dict({"query": ["a", "b"], "positive": ["b", "c"], "label": [1.0, 1.0]})
    found = foretell(
        {"": codes_of([x.exact for x in hashed(rows, ["query", "positive"]).values()])}, plan(batch_size=2)
    )
    assert (found.announced, found.batches, found.unused) == (1, 1, 1)  # "b" keeps them apart; the second is cut off


@pytest.mark.parametrize(
    ("changed", "steps", "planned", "epochs"),
    [
        ({"epochs": 3}, 39, 39, 3),
        ({"epochs": 0.5}, 7, 7, 1),
        ({"accumulation": 4}, 4, 4, 1),
        ({"max_steps": 30}, 30, 30, 3),
        ({"drop_last": True, "processes": 3}, 4, 4, 1),
    ],
)
def test_steps_of_rows_without_duplicates(changed, steps, planned, epochs):
    found = foretell(codes([starved(negatives=400)]), plan(**changed))
    assert (found.steps, found.planned_steps, found.epochs) == (steps, planned, epochs)


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_trainer_takes_the_steps_that_are_foretold(tmp_path, accumulation, drop_last):
    rows = starved(rows=41, negatives=6)
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=2,
        batch_sampler="no_duplicates",
        dataloader_drop_last=drop_last,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        seed=5,
    )
    model = small_retriever(tmp_path / "model")
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=rows, loss=MultipleNegativesRankingLoss(model)
    )
    found = foretell(codes([rows]), plan_of(arguments))
    assert trainer.train().global_step == found.steps
    assert trainer.state.max_steps == found.planned_steps


def test_what_is_too_much_to_go_through_is_said_to_be_estimated():
    found = foretell(codes([starved()]), plan(epochs=50, drop_last=True), budget=100)
    assert not found.exact
    assert found.epochs == 50


def test_a_sampler_of_ones_own_is_counted_as_if_each_row_were_used_once():
    found = foretell(codes([starved()]), plan(sampler="LengthBatches"))
    assert (found.batches, found.unused, found.exact) == (13, 0, False)

"""Batches and steps are counted on the trainer's own sampler, and are those that training takes."""

from types import SimpleNamespace

import pytest
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss

from tests.fixtures.small_models import small_retriever
from training.preflight.batches import counted


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_retriever(tmp_path_factory.mktemp("model"))


def starved(rows=400, negatives=8):
    return Dataset.from_dict(
        {
            "query": [f"what is {row}" for row in range(rows)],
            "positive": [f"it is {row}" for row in range(rows)],
            "negative_1": [f"noise {row % negatives}" for row in range(rows)],
        }
    )


@pytest.fixture
def trainer(model, tmp_path):
    def make(rows, **changed):
        options = {
            "per_device_train_batch_size": 32, "batch_sampler": "no_duplicates", "num_train_epochs": 1, "seed": 1,
            "use_cpu": True, "save_strategy": "no", "report_to": "none",
        }  # fmt: skip
        arguments = SentenceTransformerTrainingArguments(str(tmp_path), **{**options, **changed})
        loss = MultipleNegativesRankingLoss(model)
        return SentenceTransformerTrainer(model=model, args=arguments, train_dataset=rows, loss=loss)

    return make


def test_shared_negatives_starve_the_sampler(trainer):
    found = counted(trainer(starved()))
    assert (found.announced, found.batches, found.rows - found.unused, found.exact) == (13, 13, 104, True)
    dropped = counted(trainer(starved(), dataloader_drop_last=True))
    assert (dropped.announced, dropped.batches, dropped.steps, dropped.unused) == (12, 0, 0, 400)


def test_labels_do_not_count_but_the_same_text_in_another_column_does(trainer):
    rows = Dataset.from_dict({"query": ["a", "b"], "positive": ["b", "c"], "label": [1.0, 1.0]})
    found = counted(trainer(rows, per_device_train_batch_size=2))
    assert (found.announced, found.batches, found.unused) == (1, 1, 1)  # "b" keeps them apart; the second is cut off


@pytest.mark.parametrize(
    ("changed", "steps", "planned", "epochs"),
    [
        ({"num_train_epochs": 3}, 39, 39, 3),
        ({"num_train_epochs": 0.5}, 7, 7, 1),
        ({"gradient_accumulation_steps": 4}, 4, 4, 1),
        ({"max_steps": 30}, 30, 30, 3),
    ],
)
def test_steps_of_rows_without_duplicates(trainer, changed, steps, planned, epochs):
    found = counted(trainer(starved(negatives=400), **changed))
    assert (found.steps, found.planned_steps, found.epochs, found.exact) == (steps, planned, epochs, True)


@pytest.mark.parametrize("several", ["proportional", "round_robin"])
@pytest.mark.parametrize("sampler", ["no_duplicates", "batch_sampler"])
def test_two_processes_share_the_batches(trainer, sampler, several):
    parts = {"a": starved(60, 7), "b": starved(31, 31)}
    from datasets import DatasetDict

    made = trainer(
        DatasetDict(parts), per_device_train_batch_size=4, dataloader_drop_last=True, batch_sampler=sampler,
        multi_dataset_batch_sampler=several,
    )  # fmt: skip
    shares = vars(made.args) | {"world_size": 2, "train_batch_size": 4}
    found = counted(
        SimpleNamespace(
            args=SimpleNamespace(**shares), train_dataset=made.train_dataset, _build_dataloader=made._build_dataloader
        )
    )
    loader = made._build_dataloader(made.train_dataset, 4, dataset_kind="train")
    shards = []
    for rank in range(2):
        loader.batch_sampler.set_epoch(0)
        shard = BatchSamplerShard(loader.batch_sampler, 2, rank, even_batches=False)
        loader.batch_sampler.generator.manual_seed(made.args.seed)
        shards.append(list(shard)[: len(shard)])
    used = {row for shard in shards for batch in shard for row in batch}
    assert found.batches == len(shards[0]) == len(shards[1])
    assert found.unused == 91 - len(used)
    assert sum(found.of_parts.values()) == 2 * found.batches


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_trainer_takes_the_steps_that_were_counted(trainer, accumulation, drop_last):
    made = trainer(
        starved(rows=41, negatives=6), per_device_train_batch_size=4, gradient_accumulation_steps=accumulation,
        num_train_epochs=2, dataloader_drop_last=drop_last, seed=5,
    )  # fmt: skip
    found = counted(made)
    assert made.train().global_step == found.steps
    assert made.state.max_steps == found.planned_steps


def test_a_single_batch_that_takes_too_long_is_given_up(trainer):
    read = []

    def noting(rows):
        read.append(rows)
        return rows

    made = trainer(starved().with_transform(noting))
    read.clear()
    found = counted(made, budget_s=-1)
    assert (found.announced, found.batches, found.exact, found.of_parts) == (13, 13, False, {"rows": 13})
    assert not read


def test_what_takes_too_long_is_extrapolated_and_said_to_be(trainer):
    found = counted(trainer(starved(4000, 4000), num_train_epochs=50), budget_s=0.001)
    assert not found.exact
    assert (found.batches, found.steps, found.epochs) == (125, 50 * 125, 50)
    assert found.sampler_seconds > 0.001

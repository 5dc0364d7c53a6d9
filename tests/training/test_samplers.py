"""Batches by length, and dropout set as asked."""

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from torch import nn

from foils.errors import UserError
from foils.models import resolve_model
from foils.recipe import load_recipe
from tests.conftest import BASE
from training.loop.arguments import length_buckets, precision_arguments
from training.loop.trainer import set_dropout
from training.recipe import TrainRecipe
from training.rows.samplers import LengthBatches, lengths


def dataset(sizes):
    return Dataset.from_dict({"query": ["q"] * len(sizes), "positive": ["x" * size for size in sizes]})


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=60),
    batch_size=st.integers(1, 7),
    drop_last=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_each_row_once_an_epoch_in_full_batches(sizes, batch_size, drop_last, epoch):
    sampler = LengthBatches(dataset(sizes), batch_size, drop_last, seed=3)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert all(len(batch) == batch_size for batch in (batches if drop_last else batches[:-1]))
    rows = [row for batch in batches for row in batch]
    assert len(set(rows)) == len(rows)
    assert len(rows) == (len(sizes) // batch_size * batch_size if drop_last else len(sizes))
    assert list(sampler) == batches


def test_less_padding_and_another_order_each_epoch():
    sizes = np.random.default_rng(1).integers(10, 500, 640).tolist()
    sampler = LengthBatches(dataset(sizes), 16, False, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    by_length = sum(max(sizes[row] for row in batch) * len(batch) for batch in first)
    as_they_come = sum(max(sizes[start : start + 16]) * 16 for start in range(0, 640, 16))
    assert by_length < 1.1 * sum(sizes) < 0.7 * as_they_come


def test_lengths_count_all_texts_and_no_label():
    rows = Dataset.from_dict({"query": ["ab"], "positive": ["é" * 5000], "label": [0.5]})
    assert lengths(rows, max_characters=100).tolist() == [102]


def test_dropout_is_set_wherever_it_is(tmp_path):
    model = SentenceTransformer(resolve_model(BASE).location)
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert {layer.p for layer in layers} == {0.1}
    set_dropout(model, 0.0)
    assert {layer.p for layer in layers} == {0.0}
    model.save_pretrained(str(tmp_path), create_model_card=False)
    assert SentenceTransformer(str(tmp_path))[0].auto_model.config.hidden_dropout_prob == 0.1


def recipe(tmp_path, *overrides):
    path = tmp_path / "train.toml"
    path.write_text('dataset = "x"\nkind = "bm25"\nbase = "y"\n')
    return load_recipe(path, overrides, TrainRecipe).config


def test_what_does_not_go_together_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"length_buckets and trainer\.batch_sampler 'no_duplicates': one of them"):
        length_buckets(recipe(tmp_path, "length_buckets=true", "trainer.batch_sampler=no_duplicates"))
    with pytest.raises(UserError, match="precision fp16: needs a GPU; allowed here: auto, bf16, fp32"):
        precision_arguments("fp16")

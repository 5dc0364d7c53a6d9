"""A training ends at the first loss or weight that is not a number."""

import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers import SentenceTransformerTrainer as Trainer
from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from foils.errors import UserError
from foils.models import resolve_model
from tests.conftest import BASE, SHARED
from tests.fixtures.scifact_rows import scifact_rows
from training.loop import guards
from training.loop.cross_encoder import labelled_pairs

FEW = {
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "use_cpu": True,
    "disable_tqdm": True,
    "seed": 1,
    "report_to": "none",
}


pytestmark = pytest.mark.usefixtures("one_thread")


def small():
    model = SentenceTransformer(resolve_model(BASE).location)
    model.max_seq_length = 8
    return model


def train(folder, **more):
    model = small()
    loss = MultipleNegativesRankingLoss(model)
    arguments = Arguments(str(folder), **FEW, lr_scheduler_type="constant", logging_nan_inf_filter=False, **more)
    stop = [guards.StopOnNaN(loss)]
    Trainer(model=model, args=arguments, train_dataset=scifact_rows(12), loss=loss, callbacks=stop).train()


def test_a_loss_that_is_not_a_number_ends_training_with_its_step(tmp_path):
    # So large a step that the sums of the next one overflow.
    with pytest.raises(UserError, match=r"the loss is nan at step 2\. .*lower trainer.learning_rate") as refused:
        train(tmp_path, max_steps=4, learning_rate=1e30, save_steps=1)
    assert "The checkpoint of step 1 holds numbers only and stays" in str(refused.value)
    assert [folder.name for folder in tmp_path.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize("saved", [{"save_steps": 1}, {"save_strategy": "no"}])
def test_weights_that_are_no_numbers_are_not_saved(tmp_path, saved):
    with pytest.raises(UserError, match=r"weights hold NaN or infinity after step 1, .* No checkpoint was made yet"):
        train(tmp_path, max_steps=1, learning_rate=1e39, **saved)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_cross_encoder_stops_too(tmp_path):
    model = CrossEncoder(str(SHARED / "models" / "cross-encoder-mini"), max_length=16)
    rows = labelled_pairs(scifact_rows(3))
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("inf"))
    loss = BinaryCrossEntropyLoss(model)
    arguments = CrossEncoderTrainingArguments(str(tmp_path), **FEW, max_steps=1)
    trainer = CrossEncoderTrainer(
        model=model, args=arguments, train_dataset=rows, loss=loss, callbacks=[guards.StopOnNaN(loss)]
    )
    with pytest.raises(UserError, match=r"the loss is nan at step 1\. No checkpoint was made yet"):
        trainer.train()

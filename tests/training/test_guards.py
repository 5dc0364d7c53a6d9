"""A training ends at the first loss or weight that is not a number."""

import pytest
import torch
from sentence_transformers import CrossEncoder

from foils.errors import UserError
from tests.fixtures import tiny
from tests.fixtures.training import recipe_for
from training import train

pytestmark = pytest.mark.usefixtures("one_thread")
EACH = ("trainer.save_strategy=steps", "trainer.save_steps=1", "trainer.lr_scheduler_type=constant")


@pytest.fixture
def recipe(tmp_path):
    return recipe_for(tmp_path, tiny.retriever("mean", tmp_path / "base"))


def test_a_loss_that_is_not_a_number_ends_training_with_its_step(recipe, tmp_path):
    # So large a step that the sums of the next one overflow.
    with pytest.raises(UserError, match=r"the loss is nan at step 2; checkpoints, .* stay; lower trainer"):
        train.main(recipe("trainer.max_steps=4", "trainer.learning_rate=1e30", *EACH), tmp_path / "m", 1)
    assert [folder.name for folder in (tmp_path / "m.partial" / "checkpoints").iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize("saved", [EACH, ()])
def test_weights_that_are_not_numbers_are_not_saved(recipe, tmp_path, saved):
    with pytest.raises(UserError, match=r"weights hold NaN or infinity after step 1, .* first; check"):
        train.main(recipe("trainer.learning_rate=1e39", *saved), tmp_path / "m", 1)
    assert not list(tmp_path.glob("m.partial/*/*"))


def test_a_cross_encoder_stops_too(recipe, tmp_path):
    model = CrossEncoder(str(tiny.cross_encoder(tmp_path / "cross")), device="cpu")
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("inf"))
    model.save_pretrained(str(tmp_path / "broken"))
    with pytest.raises(UserError, match="the loss is nan at step 1; checkpoints, if any were made, hold"):
        train.main(recipe("task=cross-encoder", f"base={tmp_path / 'broken'}"), tmp_path / "m", 1)

"""The shortened last layer: the same scores from every kind of model that it is used on, and no other kind touched."""

import pytest
import torch
import transformers

from builders.scoring.last_layer import FIRST_TOKEN, FirstTokenLayer, read_first_token_alone

SHAPE = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "initializer_range": 0.4, "num_labels": 1, "max_position_embeddings": 64, "pad_token_id": 1,
}  # fmt: skip


def made(name, attention, **shape):
    torch.manual_seed(4)
    kind = getattr(transformers, name)
    config = kind.config_class(**SHAPE, **shape)
    config._attn_implementation = attention
    model = kind(config).eval()
    with torch.no_grad():  # fresh biases are 0, which would hide a forgotten one
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model


def batch(padded):
    tokens = torch.arange(2, 26).reshape(2, 12)
    mask = torch.ones_like(tokens)
    if padded:
        mask[1, 7:] = 0
        tokens[1, 7:] = 1
    return {"input_ids": tokens, "attention_mask": mask}


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", sorted(FIRST_TOKEN))
def test_scores_stay_the_same(name, attention, padded):
    model = made(name, attention)
    with torch.inference_mode():
        before = model(**batch(padded)).logits
        assert read_first_token_alone(model)
        after = model(**batch(padded)).logits
    assert isinstance(model.base_model.encoder.layer[-1], FirstTokenLayer)
    assert before.abs().max() > 0.1
    assert torch.allclose(before, after, atol=1e-5)


def test_others_are_left_alone():
    model = made("DistilBertForSequenceClassification", "sdpa", dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    before = str(model)
    assert not read_first_token_alone(model)
    assert not read_first_token_alone(None)
    assert str(model) == before

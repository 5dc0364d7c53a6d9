"""A classifier that reads its first token alone needs the last layer for that token alone.

A single query needs no keys and values of every token either: `q . (W_k h) = (W_k' q) . h`, and the values' projection
comes after the weighted sum. What is left of the last layer costs next to nothing, so a model of six layers has a sixth
less to compute; scores differ by rounding alone.
"""

from typing import Any

import torch

FIRST_TOKEN = {
    f"{family}ForSequenceClassification" for family in ("Bert", "Camembert", "Electra", "Roberta", "XLMRoberta")
}
"""Classes of transformers whose layers are BERT's and whose head reads `last_hidden_state[:, 0]`."""


def read_first_token_alone(classifier: Any) -> bool:
    """Shortens a classifier's last layer in place; whether it is of a kind that allows it.

    Args:
        classifier: a model of transformers, for inference.
    """
    if type(classifier).__name__ not in FIRST_TOKEN or classifier.config.is_decoder:
        return False
    layers = classifier.base_model.encoder.layer
    layers[-1] = FirstTokenLayer(layers[-1])
    return True


class FirstTokenLayer(torch.nn.Module):
    """A layer of BERT's kind, its result for the first token alone: `(batch, tokens, width)` to `(batch, 1, width)`."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None = None, *_: Any, **__: Any) -> torch.Tensor:
        """See the class; `mask` as the model makes it: boolean, or what is added to the scores."""
        attention = self.layer.attention.self
        heads, size = attention.num_attention_heads, attention.attention_head_size
        first = hidden[:, :1]
        query = attention.query(first).view(-1, heads, size) * attention.scaling
        by_head = attention.key.weight.view(heads, size, -1)
        scores = torch.einsum("bhd,hdi->bhi", query, by_head) @ hidden.transpose(1, 2)  # a key's bias moves all alike
        if mask is not None:
            mask = mask[:, :, 0]
            scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
        weights = scores.softmax(-1, dtype=torch.float32).to(hidden.dtype)
        by_head = attention.value.weight.view(heads, size, -1)
        values = (
            torch.einsum("bhi,hdi->bhd", weights @ hidden, by_head).reshape(-1, 1, heads * size) + attention.value.bias
        )
        result: torch.Tensor = self.layer.feed_forward_chunk(self.layer.attention.output(values, first))
        return result

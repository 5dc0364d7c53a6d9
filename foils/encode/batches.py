"""Texts, or pairs of them, as tokens, and batches of about as many tokens each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Features = dict[str, Any]
_CHUNK = 512


class Tokenised(NamedTuple):
    """Texts as a model reads them, without padding.

    Attributes:
        offsets: `(n_texts + 1,)`; text i's tokens are `offsets[i]` to `offsets[i + 1]` of each of `columns`.
        columns: such as `input_ids`: `(n_tokens,)`.
        padding: what each column is filled with beside a shorter text.
        constants: what else the model wants with every batch.
        left: whether the padding comes first.
    """

    offsets: Numbers
    columns: dict[str, npt.NDArray[np.int32]]
    padding: dict[str, int]
    constants: Features
    left: bool

    @property
    def lengths(self) -> Numbers:
        """Tokens of each text."""
        return np.diff(self.offsets)

    def padded(self, texts: Numbers) -> Features:
        """Some of the texts as a batch: each column as `(n_texts, longest)`."""
        lengths = self.lengths[texts][:, None]
        places = np.arange(lengths.max())[None, :]
        if self.left:
            places = places - (lengths.max() - lengths)
        inside = (places >= 0) & (places < lengths)
        index = np.where(inside, self.offsets[texts][:, None] + places, 0)
        batch = {
            name: np.where(inside, column[index], self.padding[name]).astype(np.int64)
            for name, column in self.columns.items()
        }
        return {**batch, **self.constants}


def tokenise(model: Any, texts: Sequence[Any], prompt: str | None, **how: Any) -> Tokenised:
    """Texts as `encode` or `predict` reads them: with the prompt before them, truncated as it truncates.

    Args:
        model: a `SentenceTransformer`, or a `CrossEncoder` for pairs of texts.
        texts: at least one.
        prompt: put before each.
        how: further arguments of the model's `preprocess`.
    """
    lengths = np.empty(len(texts), np.int64)
    kept: dict[str, list[npt.NDArray[np.int32]]] = {}
    constants: Features = {}
    for start in range(0, len(texts), _CHUNK):
        features = model.preprocess(list(texts[start : start + _CHUNK]), prompt=prompt, **how)
        inside = features["attention_mask"].bool()
        lengths[start : start + len(inside)] = inside.sum(1).numpy()
        for name, values in features.items():
            if getattr(values, "shape", None) == inside.shape:
                kept.setdefault(name, []).append(values[inside].numpy().astype(np.int32))
            else:
                constants[name] = values
    tokenizer = model.tokenizer
    padding = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    return Tokenised(
        np.concatenate([[0], np.cumsum(lengths)]),
        {name: np.concatenate(parts) for name, parts in kept.items()},
        {name: padding.get(name, 0) for name in kept},
        constants,
        tokenizer.padding_side == "left",
    )


def on_device(features: Features, device: Any) -> Features:
    """A batch's arrays as tensors where the model is; other values as they are."""
    import torch

    return {
        name: torch.from_numpy(values).to(device) if isinstance(values, np.ndarray) else values
        for name, values in features.items()
    }


def planned(lengths: Numbers, budget: int) -> list[Numbers]:
    """Batches of texts, longest first, each of at most `budget` padded tokens; a longer text is one of its own.

    >>> [batch.tolist() for batch in planned(np.array([5, 9, 4, 4]), 10)]
    [[1], [0, 2], [3]]
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    while len(order):
        size = max(1, budget // int(lengths[order[0]]))
        batches.append(order[:size])
        order = order[size:]
    return batches

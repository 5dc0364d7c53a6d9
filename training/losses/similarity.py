"""Cosines as losses compare them: in fp32 under any autocast, as all pairs, row by row, or as a hinge.

bfloat16 has 8 bits: near 0.7 its steps are 0.004, and a scale of 100 makes 0.4 of them.
"""

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import TripletLoss
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

DEFAULT_SCALE = 20.0
SAMPLE = 256


def all_cosines(left: Tensor, right: Tensor) -> Tensor:
    """`(n, dim)` and `(m, dim)` to the `(n, m)` cosines."""
    with torch.autocast(left.device.type, enabled=False):
        return normalize(left.float(), dim=-1) @ normalize(right.float(), dim=-1).T


def cosine_distance(left: Tensor, right: Tensor) -> Tensor:
    """`(n, dim)` twice to `(n,)` distances, 0 to 2."""
    return 1 - cosine_similarity(left.float(), right.float(), dim=-1)


class ScaledCosine:
    """Row by row, a student's logits: cosines times a scale, to be compared with a teacher's logits.

    A teacher's logits have no bounds, and cosines end at 1. Both distillation losses of sentence-transformers take the
    dot product of embeddings as it comes, as their papers did for unnormalised ones; without a scale, normalised
    embeddings could never reach a teacher's margins of 5 or 10, and all would be pushed apart alike.

    >>> ScaledCosine(20)(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([20.])
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        """`(n, dim)` twice to `(n,)` logits, `-scale` to `scale`."""
        return self.scale * cosine_similarity(left.float(), right.float(), dim=-1)

    def get_config_dict(self) -> dict[str, float]:
        """Returns what model cards show."""
        return {"scale": self.scale}


def matching_scale(
    model: SentenceTransformer, rows: Dataset, query_prompt: str = "", passage_prompt: str = ""
) -> float:
    """The scale at which a student's margins are as large as its teacher's: the ratio of their root mean squares.

    Teachers differ (logits trained on MS MARCO are several times as far apart as those of a small cross-encoder, which
    were 2.9 on SciFact) and so do students (all-MiniLM's cosines 0.3, E5's a few hundredths). With a fixed scale a
    distillation would first of all pull a student's cosines together, or apart, which ranks nothing.

    The first 256 rows are looked at; their `label` has the teacher's logits. The scale has two significant digits, so
    that it is the same in all processes.
    """
    sample = rows.select(range(min(len(rows), SAMPLE)))
    passages = [name for name in sample.column_names if name not in ("query", "label")]
    prompts = {"query": query_prompt, **dict.fromkeys(passages, passage_prompt)}
    vectors = {
        name: model.encode(sample[name], prompt=prompt or None, convert_to_tensor=True, show_progress_bar=False)
        for name, prompt in prompts.items()
    }
    student = torch.stack([ScaledCosine(1)(vectors["query"], vectors[name]) for name in passages], dim=1)
    ratio = _margin_size(torch.tensor(sample["label"][:])) / _margin_size(student)
    return float(f"{ratio:.2g}") if 0 < ratio < float("inf") else DEFAULT_SCALE


def _margin_size(scores: Tensor) -> float:
    """Root mean square of the differences between the first and each other column of `(n, 1 + negatives)`."""
    return float((scores[:, :1] - scores[:, 1:]).square().mean().sqrt())


class MeanTripletLoss(TripletLoss):
    """The triplet hinge on cosines, for any number of negatives a row: the mean over them.

    `relu(cos(q, n) - cos(q, p) + margin)`, FaceNet (arXiv 1503.03832) with half its squared distance on the unit
    sphere. The library's default, Euclidean distance with a margin of 5, is never satisfied where no two embeddings are
    further apart than 2.
    """

    def __init__(self, model: torch.nn.Module, triplet_margin: float) -> None:
        super().__init__(model, cosine_distance, triplet_margin)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Query, positive and one or more negatives, each `(n, dim)`, to the mean hinge."""
        query, positive, *negatives = embeddings
        each = [
            super(MeanTripletLoss, self).compute_loss_from_embeddings([query, positive, n], labels) for n in negatives
        ]
        return torch.stack(each).mean()

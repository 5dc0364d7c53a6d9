"""How far a converted model's scores are from those of the fp32 model in torch, and how fast each is."""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from msgspec import Struct
from scipy.stats import spearmanr
from sentence_transformers import CrossEncoder
from sentence_transformers.util import batch_to_device

from foils.errors import UserError
from foils.records import Drift

Model = Any
"""A SentenceTransformer or a CrossEncoder."""
Floats = npt.NDArray[np.float32]
Features = dict[str, Any]
Run = Callable[[Features], Floats]
"""A batch's features to its embeddings, shape (rows, dim), or its logits, shape (rows, 1)."""

LEAST_SPEARMAN, LEAST_TOP = 0.99, 0.9
_TOP, _POOL, _BATCH = 10, 20, 32


class Texts(Struct, frozen=True):
    """Texts without prompts.

    Attributes:
        queries: that are measured.
        passages: that they are scored with, those of a query's row one after the other.
        calibration: other queries, each with a passage: from them the ranges of 8-bit numbers are taken.
    """

    queries: list[str]
    passages: list[str]
    calibration: list[tuple[str, str]]


class Scored(NamedTuple):
    """Scores, shape (queries, passages of each); of a retriever its embeddings, queries' first; texts a second."""

    scores: Floats
    vectors: Floats | None
    per_second: float


def sample_texts(rows: Dataset, measured: int = 100, calibration: int = 150) -> Texts:
    """Some training rows' texts, evenly over all rows, for measuring and, of other rows, for calibration.

    Args:
        rows: `query`, `positive`, and any negatives.
        measured: rows, at most (a third of them in small data sets); they are kept from calibration.
        calibration: rows, at most.

    Raises:
        UserError: there are fewer than two rows.
    """
    if len(rows) < 2:  # noqa: PLR2004  # one for each use
        raise UserError(f"export: the data set has {len(rows)} rows; wanted 2, to calibrate and to measure with")
    measured = min(measured, max(1, len(rows) // 3))
    places = np.linspace(0, len(rows) - 1, min(len(rows), measured + calibration)).astype(int)
    # Every so-manyth is measured, so that both sorts come from everywhere.
    held = set(places[np.linspace(0, len(places) - 1, measured).astype(int)].tolist())
    chosen, others = rows.select(sorted(held)), rows.select([place for place in places.tolist() if place not in held])
    texts = [name for name in rows.column_names if name == "positive" or name.startswith("negative")]
    passages = [text for row in chosen for text in (row[name] for name in texts)]
    return Texts(
        queries=list(chosen["query"]),
        passages=list(dict.fromkeys(passages)),
        calibration=list(zip(others["query"], others["positive"], strict=True)),
    )


def calibrating(model: Model, texts: Texts) -> Iterator[Features]:
    """The features of the calibration texts (pairs, of a cross-encoder), one by one: no padding blurs the ranges."""
    if isinstance(model, CrossEncoder):
        items: list[Any] = list(texts.calibration)
    else:
        items = [text for query, passage in texts.calibration for text in _prompted(model, [query], [passage])]
    for _, features in _batches(model, items, 1):
        yield features


def score(model: Model, run: Run, texts: Texts) -> Scored:
    """Scores the measured queries with their passages.

    A retriever scores each query with all passages; a cross-encoder with 20, its own first.
    """
    queries, passages = texts.queries, texts.passages
    if isinstance(model, CrossEncoder):
        pool = min(_POOL, len(passages))
        first = len(passages) / len(queries)
        pairs = [
            (query, passages[(int(number * first) + step) % len(passages)])
            for number, query in enumerate(queries)
            for step in range(pool)
        ]
        logits, rate = _outputs(model, run, pairs)
        return Scored(logits.reshape(len(queries), pool), None, rate)
    vectors, rate = _outputs(model, run, _prompted(model, queries, passages))
    vectors = vectors[:, : model.truncate_dim]
    scores = model.similarity(vectors[: len(queries)], vectors[len(queries) :]).numpy()
    return Scored(scores, vectors, rate)


def compare(reference: Scored, other: Scored) -> Drift:
    """What another way of computing changes."""
    cosines = None
    if reference.vectors is not None and other.vectors is not None:
        lengths = [np.linalg.norm(each.vectors, axis=1) for each in (reference, other)]  # type: ignore[arg-type]
        cosines = (reference.vectors * other.vectors).sum(axis=1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    spearman = float(np.mean([_spearman(*rows) for rows in zip(reference.scores, other.scores, strict=True)]))
    top = float(np.mean([_shared(*rows) for rows in zip(reference.scores, other.scores, strict=True)]))
    return Drift(
        spearman=round(spearman, 6),
        top=round(top, 4),
        difference=round(float(abs(reference.scores - other.scores).max()), 6),
        cosine_mean=None if cosines is None else round(float(cosines.mean()), 6),
        cosine_worst=None if cosines is None else round(float(cosines.min()), 6),
        queries=len(reference.scores),
        passages=reference.scores.shape[1],
        per_second=round(other.per_second, 1),
        torch_per_second=round(reference.per_second, 1),
        drifted=not (spearman >= LEAST_SPEARMAN and top >= LEAST_TOP),
    )


def in_torch(model: Model) -> Run:
    """The model itself as `Run`."""
    output = "scores" if isinstance(model, CrossEncoder) else "sentence_embedding"

    def run(features: Features) -> Floats:
        with torch.inference_mode():
            values: Floats = model(batch_to_device(features, model.device))[output].float().cpu().numpy()
        return values

    return run


def _outputs(model: Model, run: Run, items: Sequence[Any]) -> tuple[Floats, float]:
    """Embeddings or logits of items, in their order, and how many a second."""
    places, parts, seconds = list[int](), list[Floats](), 0.0
    for number, (batch, features) in enumerate(_batches(model, items, _BATCH)):
        if number == 0:
            run(dict(features))  # the first call sets up buffers
        started = perf_counter()
        parts.append(run(features))
        seconds += perf_counter() - started
        places += batch
    outputs = np.concatenate(parts)
    ordered = np.empty_like(outputs)
    ordered[places] = outputs
    return ordered, len(items) / seconds


def _batches(model: Model, items: Sequence[Any], size: int) -> Iterator[tuple[list[int], Features]]:
    """Places and features of batches, longest items first."""
    order = sorted(range(len(items)), key=lambda place: -sum(map(len, items[place])))
    for start in range(0, len(order), size):
        places = order[start : start + size]
        yield places, model.preprocess([items[place] for place in places])


def _prompted(model: Model, queries: Sequence[str], passages: Sequence[str]) -> list[str]:
    prompts = model.prompts
    return [
        *(prompts.get("query", "") + query for query in queries),
        *(prompts.get("document", "") + passage for passage in passages),
    ]


def _spearman(left: Floats, right: Floats) -> float:
    """Spearman's correlation; 1 where one side is constant.

    >>> _spearman(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.9]))
    1.0
    """
    return float(spearmanr(left, right).statistic) if np.ptp(left) and np.ptp(right) else 1.0


def _shared(left: Floats, right: Floats) -> float:
    """The share of the 10 best (half of them, of fewer than 20) that both have."""
    count = max(1, min(_TOP, len(left) // 2))
    best = [set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (left, right)]
    return len(best[0] & best[1]) / count

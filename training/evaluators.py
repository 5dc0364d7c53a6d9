"""Measures a model on held-out queries while it trains: nDCG@10 and MRR@10, as evaluation computes them.

All kinds of negatives are measured on the same passages: the positives of the held-out queries, and positives of
training rows, chosen by a hash of their texts. Negatives are left out, since each kind has its own.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from msgspec import Struct
from sentence_transformers.base.evaluation import BaseEvaluator
from tqdm import tqdm

from foils.metrics import DEPTH, MAIN_METRIC, Rankings, per_query_scores, top
from training.dev import METRIC, DevConfig, score_file, text_keys

MRR = "MRR@10"
_CUT = 10
_CHUNK = 16  # batches between two moves of the bar


class DevSet(Struct, frozen=True):
    """Queries and passages, both in the order of their hashes.

    Attributes:
        queries: texts.
        passages: texts.
        relevant: for each query the numbers of its positives among `passages`.
    """

    queries: list[str]
    passages: list[str]
    relevant: list[list[int]]


def dev_set(dev_rows: Dataset, train_rows: Dataset | dict[str, Dataset], config: DevConfig) -> DevSet:
    """The held-out queries and the passages that are searched for them.

    Args:
        dev_rows: of the held-out queries.
        train_rows: of several sources, passages come from the first.
        config: how many passages.
    """
    query_keys, positive_keys = (text_keys(dev_rows, column).tolist() for column in ("query", "positive"))
    queries = _by_key(query_keys, dev_rows["query"])
    passages = _by_key(positive_keys, dev_rows["positive"])
    first = next(iter(train_rows.values())) if isinstance(train_rows, dict) else train_rows
    keys, rows = np.unique(text_keys(first, "positive"), return_index=True)
    others = np.flatnonzero(~np.isin(keys, np.fromiter(passages, np.uint64, len(passages))))[: config.passages]
    passages |= dict(zip(keys[others].tolist(), first.select(rows[others])["positive"], strict=True))
    number = {key: position for position, key in enumerate(sorted(passages))}
    relevant: dict[int, set[int]] = {key: set() for key in sorted(queries)}
    for query, positive in zip(query_keys, positive_keys, strict=True):
        relevant[query].add(number[positive])
    return DevSet(
        [queries[key] for key in sorted(queries)],
        [passages[key] for key in sorted(passages)],
        [sorted(positives) for positives in relevant.values()],
    )


class DevEvaluator(BaseEvaluator):
    """What the trainer calls to measure; ranks with a function of the model.

    Attributes:
        dev: what is searched.
    """

    def __init__(self, dev: DevSet, rank: Callable[[Any], Rankings]) -> None:
        super().__init__()
        self.dev = dev
        self.primary_metric = METRIC
        self._rank = rank

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Both metrics' means over the queries, 0 to 1; each query's nDCG@10 is stored in `output_path`."""
        del epoch
        scores, reciprocal = measure(self._rank(model), self.dev.relevant)
        if output_path is not None and steps >= 0 and PartialState().is_main_process:
            Path(output_path).mkdir(parents=True, exist_ok=True)
            np.save(score_file(Path(output_path), steps), np.array(scores))
        return {METRIC: float(np.mean(scores)), MRR: float(np.mean(reciprocal))}


def evaluator_of(
    dev: DevSet, task: str, config: DevConfig, batch_size: int, autocast: torch.dtype | None = None
) -> DevEvaluator:
    """The evaluator for a kind of model.

    Args:
        dev: queries and passages.
        task: `retriever` searches all passages, `cross-encoder` ranks `config.rerank` of them for each query.
        config: of the recipe.
        batch_size: texts or pairs that are encoded at once.
        autocast: the precision of matrix products, if lower than the weights'.
    """
    if task == "cross-encoder":
        likely = candidates(dev, config.rerank)
        return DevEvaluator(dev, partial(rerank, dev=dev, likely=likely, batch_size=batch_size, autocast=autocast))
    return DevEvaluator(dev, partial(retrieve, dev=dev, batch_size=batch_size, autocast=autocast))


def retrieve(model: Any, dev: DevSet, batch_size: int, autocast: torch.dtype | None = None) -> Rankings:
    """An embedding model's best passages for each query, with the prompts that the model carries."""
    queries = _encoded(model, model.encode_query, dev.queries, batch_size, autocast)
    passages = _encoded(model, model.encode_document, dev.passages, batch_size, autocast)
    found = model.similarity(queries, passages).float().topk(min(DEPTH, len(dev.passages)))
    hits = zip(found.indices.cpu().tolist(), found.values.cpu().tolist(), strict=True)
    return {str(query): dict(zip(map(str, at), scores, strict=True)) for query, (at, scores) in enumerate(hits)}


def rerank(
    model: Any,
    dev: DevSet,
    likely: Sequence[Sequence[int]],
    batch_size: int,
    autocast: torch.dtype | None = None,
) -> Rankings:
    """A cross-encoder's scores of the likely passages (numbers among `dev.passages`) of each query."""
    pairs = [(query, passage) for query, passages in enumerate(likely) for passage in passages]
    texts = [(dev.queries[query], dev.passages[passage]) for query, passage in pairs]
    scores = _in_chunks(model, model.predict, texts, batch_size, autocast).tolist()
    rankings: dict[str, dict[str, float]] = {str(query): {} for query in range(len(likely))}
    for (query, passage), score in zip(pairs, scores, strict=True):
        rankings[str(query)][str(passage)] = score
    return rankings


def candidates(dev: DevSet, depth: int) -> list[list[int]]:
    """For each query `depth` passages, its positives and those with the most letters in common (TF-IDF of 3 and 4).

    Letters, and not words, since not all languages part their words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
    passages = vectors.fit_transform(dev.passages)
    likeness = (vectors.transform(dev.queries) @ passages.T).toarray()  # (n_queries, n_passages)
    for row, positives in enumerate(dev.relevant):
        likeness[row, positives] = np.inf
    return np.argsort(-likeness, axis=1, kind="stable")[:, :depth].tolist()  # type: ignore[no-any-return]


def measure(rankings: Rankings, relevant: Sequence[Sequence[int]]) -> tuple[list[float], list[float]]:
    """nDCG@10 and the reciprocal rank within ten of each query, in order; ties as trec_eval breaks them."""
    qrels = {str(query): {str(passage): 1 for passage in positives} for query, positives in enumerate(relevant)}
    scores = per_query_scores(rankings, qrels)
    reciprocal = []
    for query, positives in qrels.items():
        ranks = (rank for rank, (passage, _) in enumerate(top(rankings[query])[:_CUT], 1) if passage in positives)
        reciprocal.append(1 / next(ranks, np.inf))
    return [scores[query][MAIN_METRIC] for query in qrels], reciprocal


def _by_key(keys: Sequence[int], texts: Sequence[str]) -> dict[int, str]:
    """Hash -> text; of texts that differ in case or white space only the smallest, whatever the order of rows."""
    found: dict[int, str] = {}
    for key, text in zip(keys, texts, strict=True):
        found[key] = min(text, found.get(key, text))
    return found


def _encoded(
    model: Any, encode: Callable[..., Any], texts: list[str], batch_size: int, autocast: torch.dtype | None
) -> torch.Tensor:
    """Embeddings, `(n_texts, dim)`, in the order of `texts`."""
    order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))  # batches of like length need no padding
    vectors = _in_chunks(model, encode, [texts[number] for number in order], batch_size, autocast)
    return vectors[torch.tensor(np.argsort(order), device=vectors.device)]


def _in_chunks(
    model: Any, function: Callable[..., Any], texts: list[Any], batch_size: int, autocast: torch.dtype | None
) -> torch.Tensor:
    """What a model's function makes of all texts, with a bar where somebody can see it move."""
    lower = torch.autocast(model.device.type, autocast) if autocast is not None else contextlib.nullcontext()
    chunks = [texts[start : start + _CHUNK * batch_size] for start in range(0, len(texts), _CHUNK * batch_size)]
    with lower:
        made = [
            function(chunk, batch_size=batch_size, show_progress_bar=False, convert_to_tensor=True)
            for chunk in tqdm(chunks, "dev", unit="chunk", leave=False, disable=None)
        ]
    return torch.cat(made).float()

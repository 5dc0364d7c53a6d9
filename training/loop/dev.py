"""Measures a model on held-out queries while it trains: nDCG@10, as evaluation computes it.

All kinds of negatives are measured on the same passages: the positives of the held-out queries, and positives of
training rows, chosen by a hash of their texts. Negatives are left out, since each kind has its own.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from datasets import Dataset
from msgspec import Struct
from sentence_transformers.base.evaluation import BaseEvaluator
from transformers import TrainerState

from foils.errors import UserError
from foils.metrics import DEPTH, MAIN_METRIC, Rankings, mean_interval, per_query_scores
from training.recipe import DevConfig
from training.rows.hold_out import text_keys

logger = logging.getLogger(__name__)

METRIC = "nDCG@10"
LOGGED = f"eval_{METRIC}"
"""The metric's name in the trainer's log."""
Scores = npt.NDArray[np.float64]


class DevSet(Struct, frozen=True):
    """Queries and passages, in the order of their hashes; in `qrels` and rankings their numbers are their ids."""

    queries: list[str]
    passages: list[str]
    qrels: dict[str, dict[str, int]]


def dev_set(dev_rows: Dataset, train_rows: Dataset | dict[str, Dataset], config: DevConfig) -> DevSet:
    """Makes a small collection of the held-out queries and passages that are searched for them.

    `config.passages` further passages come from the rows to train on; of several sources, from the first.
    """
    query_keys, positive_keys = (text_keys(dev_rows, column).tolist() for column in ("query", "positive"))
    queries, passages = _by_key(query_keys, dev_rows["query"]), _by_key(positive_keys, dev_rows["positive"])
    first = next(iter(train_rows.values())) if isinstance(train_rows, dict) else train_rows
    keys, rows = np.unique(text_keys(first, "positive"), return_index=True)
    others = np.flatnonzero(~np.isin(keys, np.array(positive_keys, np.uint64)))[: config.passages]
    passages |= _by_key(keys[others].tolist(), first.select(rows[others])["positive"])
    query_ids, passage_ids = ({key: str(n) for n, key in enumerate(sorted(each))} for each in (queries, passages))
    qrels: dict[str, dict[str, int]] = {name: {} for name in query_ids.values()}
    for query, positive in zip(query_keys, positive_keys, strict=True):
        qrels[query_ids[query]][passage_ids[positive]] = 1
    return DevSet([queries[key] for key in query_ids], [passages[key] for key in passage_ids], qrels)


class DevEvaluator(BaseEvaluator):
    """Measures a model when the trainer asks for it, in the precision of `autocast`, if any.

    An embedding model searches all passages; a cross-encoder ranks `config.rerank` of them for each query.
    """

    def __init__(
        self, dev: DevSet, task: str, config: DevConfig, batch_size: int, autocast: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.primary_metric = METRIC
        self.dev, self._batch_size, self._autocast = dev, batch_size, autocast
        self._likely = candidates(dev, config.rerank) if task == "cross-encoder" else None

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Returns the mean over the queries, 0 to 1; stores each query's nDCG@10 in `output_path`."""
        rankings = self._retrieved(model) if self._likely is None else self._reranked(model)
        found = per_query_scores(rankings, self.dev.qrels)  # ties broken as trec_eval breaks them
        scores = [found[query][MAIN_METRIC] for query in self.dev.qrels]
        if output_path is not None and steps >= 0 and PartialState().is_main_process:
            Path(output_path).mkdir(parents=True, exist_ok=True)
            np.save(score_file(Path(output_path), steps), np.array(scores))
        return {METRIC: float(np.mean(scores))}

    def _retrieved(self, model: Any) -> Rankings:
        """The best passages for each query, with the prompts that the model carries."""
        queries = self._in_lower(model, model.encode_query, self.dev.queries)
        passages = self._in_lower(model, model.encode_document, self.dev.passages)
        found = model.similarity(queries, passages).topk(min(DEPTH, len(self.dev.passages)))
        hits = zip(found.indices.cpu().tolist(), found.values.cpu().tolist(), strict=True)
        return {str(query): dict(zip(map(str, at), scores, strict=True)) for query, (at, scores) in enumerate(hits)}

    def _reranked(self, model: Any) -> Rankings:
        """The scores of each query's likely passages."""
        likely = self._likely or []
        texts = [(self.dev.queries[query], self.dev.passages[at]) for query, some in enumerate(likely) for at in some]
        scores = iter(self._in_lower(model, model.predict, texts).tolist())
        return {str(query): {str(passage): next(scores) for passage in some} for query, some in enumerate(likely)}

    def _in_lower(self, model: Any, function: Callable[..., Any], texts: list[Any]) -> torch.Tensor:
        """A function of the model over all texts, computed in the lower precision and returned in fp32."""
        lower = torch.autocast(model.device.type, self._autocast) if self._autocast else contextlib.nullcontext()
        with lower:
            found = function(texts, batch_size=self._batch_size, show_progress_bar=False, convert_to_tensor=True)
        return found.float()  # type: ignore[no-any-return]


def candidates(dev: DevSet, depth: int) -> list[list[int]]:
    """For each query `depth` passages, its positives and those with the most letters in common (TF-IDF of 3 and 4).

    Letters, and not words, since not all languages part their words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
    passages = vectors.fit_transform(dev.passages)
    likeness = (vectors.transform(dev.queries) @ passages.T).toarray()  # (n_queries, n_passages)
    for row, positives in enumerate(dev.qrels.values()):
        likeness[row, list(map(int, positives))] = np.inf
    return np.argsort(-likeness, axis=1, kind="stable")[:, :depth].tolist()  # type: ignore[no-any-return]


def trainer_defaults(config: DevConfig, batch_size: int) -> dict[str, Any]:
    """The trainer's arguments with which it measures as often as wanted, and keeps the best checkpoint.

    Dev losses with in-batch negatives compare for the same `batch_size` alone, that of training, per device.

    Raises:
        UserError: `every` is above 1 and not a whole number.
    """
    if config.queries == 0:
        return {}
    if config.every > 1 and config.every % 1:
        raise UserError(f"recipe: dev.every {config.every}: wanted a whole number of steps, or a share below 1")
    every = config.every if config.every < 1 else int(config.every)
    return {
        **dict.fromkeys(("eval_strategy", "save_strategy"), "steps"),
        **dict.fromkeys(("eval_steps", "save_steps"), every),
        **dict.fromkeys(("eval_on_start", "load_best_model_at_end", "greater_is_better"), True),
        "metric_for_best_model": LOGGED,
        "restore_callback_states_from_checkpoint": True,  # what early stop has counted
        "save_total_limit": 2,
        "per_device_eval_batch_size": batch_size,
    }


def summary(state: TrainerState, config: DevConfig, folder: Path) -> dict[str, Any]:
    """Sums up the measurements for the run record, and warns where no checkpoint beats the base.

    The evaluator stored each query's scores in `folder`.

    Returns:
        `base`, `best` and `last`, each with step, value and 95 % interval; best and last with their difference from
        the base and its interval, paired by query. The best is the best of trained checkpoints.
    """
    scores = {int(row["step"]): float(row[LOGGED]) for row in state.log_history if LOGGED in row}
    trained = {step: value for step, value in scores.items() if step > 0}
    best, last = max(trained, key=lambda step: trained[step]), max(trained)  # ties broken by step, as by the trainer
    base = _per_query(folder, 0)
    found: dict[str, Any] = {
        "metric": METRIC,
        "queries": config.queries,
        "measured": len(trained),
        "base": _estimate(folder, 0, scores[0]) if 0 in scores else None,
        "best": _estimate(folder, best, scores[best], base),
        "last": _estimate(folder, last, scores[last], base),
        "patience": config.patience,
        "stopped_early": state.global_step < state.max_steps,
        "beats_base": scores[best] > scores[0] if 0 in scores else None,
    }
    if found["beats_base"] is False:
        logger.warning(
            "dev: no checkpoint beats the untouched base: %s %.4f at best (step %d), and the base has %.4f; the best "
            "trained one is kept, the base is the better model on these queries",
            *(METRIC, scores[best], best, scores[0]),
        )
    return found


def score_file(folder: Path, step: int) -> Path:
    """The file with each query's score at a step."""
    return folder / f"dev-{step:08d}.npy"


def _per_query(folder: Path, step: int) -> Scores | None:
    """Each query's score at a step; None where another machine, or a run whose files are gone, measured it."""
    file = score_file(folder, step)
    return np.load(file, allow_pickle=False) if file.is_file() else None


def _estimate(folder: Path, step: int, value: float, base: Scores | None = None) -> dict[str, Any]:
    """A score, with its interval and its difference from the base's where the queries' own scores are there."""
    queries = _per_query(folder, step)
    found: dict[str, Any] = {"step": step, "value": round(value, 6)}
    if queries is None:
        return found
    found["low"], found["high"] = (round(end, 6) for end in mean_interval(queries.tolist()))
    if base is not None:
        ends = mean_interval((queries - base).tolist())
        found["difference"] = round(float((queries - base).mean()), 6)
        found["difference_low"], found["difference_high"] = (round(end, 6) for end in ends)
    return found


def _by_key(keys: Sequence[int], texts: Sequence[str]) -> dict[int, str]:
    """Hash -> text; of texts that differ in case or white space the smallest, whatever the order of rows."""
    return dict(sorted(zip(keys, texts, strict=True), reverse=True))

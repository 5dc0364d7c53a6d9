"""Scores of any pairs of texts by a cross-encoder: each computed once, stored as they come, found again by content.

A lane other than fp32 first shows on a sample that it ranks as fp32 does.
"""

import logging
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from builders import schema
from builders.context import Context
from builders.hashing import keyed_hash
from builders.passages import Passages
from builders.retrieval.row_shards import by_range, complete, first_missing, is_shared, plan_folder
from builders.retrieval.row_store import Keys, RowStore
from builders.scores.config import CrossEncoderConfig
from builders.scores.lanes import Lane, lane_name, load_lane
from builders.scores.pairs import Pairs, locate, pair_keys
from builders.scores.scoring_shards import scoring_plan
from foils.encode.batches import Numbers
from foils.engine.config import EngineConfig
from foils.errors import UserError
from foils.models import resolve_model
from foils.provenance import package_versions, sha256_json

logger = logging.getLogger(__name__)

BLOCK = 20_000
"""Pairs that are in memory as texts at one time, and sorted by length among each other."""
DIGITS = 6
SAMPLE_QUERIES, SAMPLE_PAIRS = 32, 600
LEAST_SPEARMAN = 0.99
_LEAST_PAIRS, _SHARE = 100, 0.05
_FORM = "3"  # counted up with what changes the last digits of scores, or a converted model

Scores = npt.NDArray[np.float64]


def score_pairs(
    pairs: pa.Table, queries: pa.Table, passages: Passages, context: Context, config: CrossEncoderConfig
) -> pa.Table:
    """Scores pairs by the cross-encoder: a scorer of `builders.mining.SCORERS`.

    Raises:
        UserError: as `score_located`; a pair names a query or a passage that is not there.
    """
    scores, _ = score_located(locate(pairs, queries, passages), queries["_id"], context, config)
    return pa.table([pairs["query-id"], pairs["corpus-id"], scores], schema=schema.SCORES)


def score_located(
    pairs: Pairs, query_ids: pa.ChunkedArray, context: Context, config: CrossEncoderConfig
) -> tuple[Scores, dict[str, Any] | None]:
    """Scores pairs with the model's own activation, as `CrossEncoder.predict` does.

    Equal texts are scored once. What any build has scored before is not scored again.

    Args:
        pairs: the pairs; scores are usually within 0 and 1.
        query_ids: ids of `pairs.queries`; with the seed they choose the sample.
        context: for its cache and seed.
        config: model and lane.

    Returns:
        `(n_pairs,)` scores, rounded to 6 digits, so that noise in the last bits of a sum cannot reorder passages; and
        how the lane compares with fp32, for the record; None for fp32 itself.

    Raises:
        UserError: the model cannot be loaded or gives more than one score, a lane's package is missing, a lane ranks
            otherwise than fp32, or the cache cannot be written.
    """
    lane = lane_name(config, resolve_model(config.model or ""))
    scorer, record = Scorer(config, lane, context.cache, context.engine), None
    if lane != "fp32" and len(pairs):
        sample = pairs.at(sampled(query_ids.to_pylist(), pairs.query_positions, context.seed))
        reference = Scorer(config, "fp32", context.cache).scores(sample)
        rho = agreement(lane, scorer.scores(sample), reference)
        record = {"lane": lane, "pairs": len(sample), "spearman": round(rho, 4)}
    return scorer.scores(pairs), record


class Scorer:
    """A cross-encoder in one lane, and the scores that it has given before.

    Args:
        config: names the model, which is loaded only if a score is missing.
        lane: one of `lanes.lane_name`'s.
        cache: the folder for what is computed once.
        engine: scores more than one block of pairs; without it this process does.

    Raises:
        UserError: the model does not exist, or the store cannot be written.
    """

    def __init__(self, config: CrossEncoderConfig, lane: str, cache: Path, engine: EngineConfig | None = None) -> None:
        self._config, self._lane_name, self._cache, self._engine = config, lane, cache, engine
        self._reference = resolve_model(config.model or "")
        packages = {name: package_versions()[name] for name in ("sentence-transformers", "torch", "transformers")}
        if lane == "openvino":
            packages[lane] = version(lane)
        about = {
            "model": self._reference.identity,
            "max_length": str(config.max_length),
            "lane": lane,
            "form": _FORM,
            "packages": sha256_json(packages),
        }
        self.folder = cache / "scores" / f"cross-encoder-{sha256_json(about)[:16]}"
        self._store = RowStore(self.folder, 1, about)
        self._lane: Lane | None = None

    def scores(self, pairs: Pairs) -> Scores:
        """Returns the scores of pairs, `(n_pairs,)`; the missing ones are computed and stored first."""
        self._complete_by_shards(pairs)
        found = np.empty(len(pairs), np.float64)
        with tqdm(total=len(pairs), desc=f"cross-encoder, {self._lane_name}", unit=" pairs", disable=None) as bar:
            for start, block in zip(range(0, len(pairs), BLOCK), pairs.blocks(BLOCK), strict=True):
                texts = block.texts()
                keys = pair_keys(texts)
                self._complete(texts, keys, bar)
                found[start : start + len(block)] = self._store.rows()[self._store.find(keys), 0]
        return found.round(DIGITS)

    def _complete(self, texts: list[tuple[str, str]], keys: Keys, bar: Any) -> None:
        """Computes and stores what is missing of a block; equal texts once, the longest first.

        What is stored at once depends on the block alone. A run that goes on after a kill has the very same batches
        left, and so gives the same scores to the last bit.
        """
        order = longest_first(texts, keys)
        known = self._store.find(keys[order]) >= 0
        if bar.total is not None:  # the bar's rate and time left are those of the work
            bar.total -= len(texts) - int((~known).sum())
            bar.refresh()
        if known.all():
            return
        lane = self._lane = self._lane or load_lane(self._config, self._reference, self._lane_name, self._converted)
        for start in range(0, len(order), lane.at_once):
            part = slice(start, start + lane.at_once)
            rows = order[part][~known[part]]
            if len(rows):
                scores = lane.score([texts[row] for row in rows])
                self._store.add(keys[rows], scores[:, None])
                bar.update(len(rows))

    def _complete_by_shards(self, pairs: Pairs) -> None:
        """Has the engine compute what is missing of several blocks, each a shard, in the batches of `_complete`."""
        if len(pairs) <= BLOCK:
            return
        keys = np.concatenate([pair_keys(block.texts()) for block in pairs.blocks(BLOCK)])
        plan = plan_folder(self._cache, self.folder.name, keys, BLOCK)
        blocks = by_range(first_missing(self._store, keys), BLOCK)
        if is_shared(plan, self._engine, len(blocks)):
            make = partial(scoring_plan, plan, self._config, self._reference, (self._lane_name, self._converted))
            complete(self._store, plan, lambda: make(self._inputs(pairs, keys, blocks)), self._engine, "cross-encoder")

    def _inputs(self, pairs: Pairs, keys: Keys, blocks: list[Numbers]) -> Iterator[pa.Table]:
        """Yields what is missing of each block, the longest first, with its place among all that the block has."""
        for missing in blocks:
            start = int(missing[0]) // BLOCK * BLOCK
            texts = pairs.at(slice(start, start + BLOCK)).texts()
            order = longest_first(texts, keys[start : start + BLOCK])
            places = np.flatnonzero(np.isin(order + start, missing))
            queries, passages = zip(*[texts[row] for row in order[places]], strict=True)
            yield pa.table({"query": queries, "passage": passages, "place": places})

    @property
    def _converted(self) -> Path:
        return self._cache / self._lane_name / self.folder.name


def longest_first(texts: list[tuple[str, str]], keys: Keys) -> Numbers:
    """Returns the rows of a block in which each distinct pair comes first, the longest pair first, ties by key."""
    _, firsts = np.unique(keys, axis=0, return_index=True)
    lengths = [-len(texts[row][0]) - len(texts[row][1]) for row in firsts]
    return np.asarray(firsts[np.argsort(lengths, kind="stable")])


def sampled(query_ids: list[str], query_positions: Numbers, seed: int) -> Numbers:
    """Returns the rows of pairs to compare: whole queries, chosen by the seed and their ids.

    At most 32 queries and 600 pairs; where there are few pairs at most a twentieth of them, but no less than 100, so
    that the check costs little beside the work.

    >>> sampled(["a", "b"], np.array([0, 0, 1, 1, 1]), 42).tolist()
    [0, 1, 2, 3, 4]
    """
    limit = min(SAMPLE_PAIRS, max(_LEAST_PAIRS, int(len(query_positions) * _SHARE)))
    present = np.unique(query_positions).tolist()
    order = sorted(present, key=lambda query: keyed_hash(seed, "rank-agreement", query_ids[query]))
    rows = np.empty(0, np.int64)
    for query in order[:SAMPLE_QUERIES]:
        if len(rows) >= limit:
            break
        rows = np.concatenate([rows, np.flatnonzero(query_positions == query)])
    return rows[:SAMPLE_PAIRS]


def agreement(lane: str, scores: Scores, reference: Scores) -> float:
    """Returns the rank correlation (Spearman's) of a lane's scores `(n_pairs,)` with those of fp32.

    Raises:
        UserError: it is below 0.99.
    """
    from scipy.stats import spearmanr

    if np.ptp(reference) == 0 or np.ptp(scores) == 0:  # no ranking to compare: alike only if neither has one
        rho = float(np.ptp(reference) == np.ptp(scores))
    else:
        rho = float(spearmanr(scores, reference).statistic)
    logger.info("cross-encoder in %s against fp32: Spearman %.4f over %d pairs", lane, rho, len(scores))
    if rho < LEAST_SPEARMAN:
        raise UserError(
            f"negatives.cross-encoder.precision: {lane} ranks {len(scores)} sampled pairs otherwise than fp32 does "
            f'(Spearman {rho:.4f}; wanted {LEAST_SPEARMAN} or more); set precision = "fp32"'
        )
    return rho

"""Scores of pairs of texts by one cross-encoder in one lane: computed once, stored as they come."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from builders.passages import Passages
from builders.row_store import Keys, RowStore, keys_of
from builders.scoring.config import CrossEncoderConfig
from builders.scoring.lanes import CONVERTED, lane_of, load
from foils.encode.batches import Flags, Floats, Numbers, left_over, tokenise
from foils.models import resolve_model
from foils.provenance import package_versions, sha256_json

BLOCK = 20_000
"""Pairs that are in memory as texts at one time, and sorted by length among each other."""
BATCH_TOKENS = {"converted": 2048, "cpu": 8192, "gpu": 65_536}
"""Padded tokens of a batch. Converted models run several small batches side by side; torch runs one after the other."""
DIGITS = 6
_FORM = "2"  # counted up with what changes the last digits of scores, or a converted model
_KEEP_EVERY = 2.0  # seconds that a kill may cost


@dataclass(frozen=True)
class Pairs:
    """Pairs by the positions of their texts.

    Attributes:
        queries: texts.
        passages: to look texts up in.
        query_positions: `(n_pairs,)`, in `queries`.
        passage_positions: `(n_pairs,)`, in `passages`.
    """

    queries: pa.ChunkedArray
    passages: Passages
    query_positions: Numbers
    passage_positions: Numbers

    def __len__(self) -> int:
        return len(self.query_positions)

    def at(self, rows: Numbers | slice) -> "Pairs":
        """Some of them."""
        return replace(self, query_positions=self.query_positions[rows], passage_positions=self.passage_positions[rows])

    def blocks(self, size: int) -> Iterator["Pairs"]:
        """All of them, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.at(slice(start, start + size))

    def texts(self) -> list[tuple[str, str]]:
        """Query and passage text of each; a text that several share is one object."""
        queries, query_numbers = np.unique(self.query_positions, return_inverse=True)
        passages, passage_numbers = np.unique(self.passage_positions, return_inverse=True)
        asked = self.queries.take(pa.array(queries)).to_pylist()
        answering = self.passages.texts(passages).to_pylist()
        return [(asked[i], answering[j]) for i, j in zip(query_numbers, passage_numbers, strict=True)]


class Scorer:
    """A cross-encoder, a lane, and the scores that it has given before.

    Args:
        config: names the model, which is loaded only if a score is missing.
        lane: see `lanes.lane_name`.
        cache: the folder for what is computed once.
        device: torch's name for where the model runs; without it, the GPU if there is one.

    Raises:
        UserError: the model is not as it must be, or the store cannot be written.
    """

    def __init__(self, config: CrossEncoderConfig, lane: str, cache: Path, device: str | None = None) -> None:
        self._config, self._lane_name, self._cache, self._device = config, lane, cache, device
        self._reference = resolve_model(config.model or "")
        about = {
            "model": self._reference.identity,
            "max_length": str(config.max_length),
            "lane": lane,
            "form": _FORM,
            "packages": sha256_json(_packages(lane)),
        }
        self.folder = cache / "scores" / f"cross-encoder-{sha256_json(about)[:16]}"
        self._store = RowStore(self.folder, np.float32, 1, about)
        self._model: Any = None
        self._run: Any = None

    def scores(self, pairs: Pairs) -> npt.NDArray[np.float64]:
        """Scores of pairs `(n_pairs,)`, rounded to 6 digits; the missing ones are computed first."""
        found = np.empty(len(pairs), np.float64)
        with _bar(len(pairs), f"cross-encoder, {self._lane_name}") as bar:
            for start, block in zip(range(0, len(pairs), BLOCK), pairs.blocks(BLOCK), strict=True):
                texts = block.texts()
                keys = pair_keys(texts)
                self._complete(texts, keys, bar)
                found[start : start + len(block)] = self._store.rows()[self._store.find(keys), 0]
        return found.round(DIGITS)

    def fill(self, pairs: Pairs, process: int, processes: int) -> Iterator[None]:
        """Computes one process's share of the missing scores; yields after each block, for who would stop.

        A pair's key tells whose it is, so that no two processes score the same texts.
        """
        with _bar(len(pairs), f"process {process + 1} of {processes}, {self._lane_name}", process) as bar:
            for block in pairs.blocks(BLOCK):
                texts = block.texts()
                keys = pair_keys(texts)
                own = np.flatnonzero(keys[:, 0] % np.uint64(processes) == process)
                _forget(bar, len(texts) - len(own))
                self._complete([texts[i] for i in own], keys[own], bar)
                yield

    def missing(self, pairs: Pairs) -> bool:
        """Whether any score is still to be computed."""
        return any((self._store.find(pair_keys(block.texts())) < 0).any() for block in pairs.blocks(BLOCK))

    def _complete(self, texts: list[tuple[str, str]], keys: Keys, bar: Any) -> None:
        """Computes and stores what is missing of a block; equal texts once."""
        keys, firsts = np.unique(keys, axis=0, return_index=True)
        missing = self._store.find(keys) < 0
        _forget(bar, len(texts) - int(missing.sum()))
        if missing.any():
            self._compute([texts[i] for i in firsts], keys, missing, bar)

    def _compute(self, texts: list[tuple[str, str]], keys: Keys, missing: Flags, bar: Any) -> None:
        self._load()
        tokens = tokenise(self._model, texts, self._model._resolve_prompt(None, None))  # noqa: SLF001  as predict() does
        batches = left_over(tokens.lengths, missing, self._budget())
        unsaved: list[tuple[Numbers, Floats]] = []
        saved = monotonic()
        for numbers, scores in self._run((numbers, tokens.padded(numbers)) for numbers in batches):
            unsaved.append((numbers, scores))
            bar.update(len(numbers))
            if monotonic() - saved > _KEEP_EVERY:
                self._save(keys, unsaved)
                unsaved, saved = [], monotonic()
        self._save(keys, unsaved)

    def _save(self, keys: Keys, unsaved: list[tuple[Numbers, Floats]]) -> None:
        if unsaved:
            numbers, scores = (np.concatenate(parts) for parts in zip(*unsaved, strict=True))
            self._store.add(keys[numbers], scores[:, None])

    def _load(self) -> None:
        if self._run is None:
            device = "cpu" if self._lane_name in CONVERTED else self._device
            self._model = load(self._config, self._reference, device)
            converted = self._cache / self._lane_name / self.folder.name
            self._run = lane_of(self._lane_name, self._model, converted)

    def _budget(self) -> int:
        where = "converted" if self._lane_name in CONVERTED else "cpu" if self._model.device.type == "cpu" else "gpu"
        return self._config.batch_tokens or BATCH_TOKENS[where]


def pair_keys(texts: list[tuple[str, str]]) -> Keys:
    """Keys `(n_pairs, 2)` of query and passage texts; the query's length keeps them apart.

    >>> keys = pair_keys([("a b", "c"), ("a", "b c"), ("a b", "c")])
    >>> bool((keys[0] == keys[1]).any()), bool((keys[0] == keys[2]).all())
    (False, True)
    """
    return keys_of(f"{len(query)} {query} {passage}" for query, passage in texts)


def _packages(lane: str) -> dict[str, str]:
    """Versions of what a score may depend on."""
    from importlib.metadata import version

    names = ["sentence-transformers", "torch", "transformers"]
    return {
        **{name: package_versions()[name] for name in names},
        **{name: version(name) for name in CONVERTED.get(lane, ())},
    }


def _bar(pairs: int, label: str, process: int = 0) -> Any:
    return tqdm(total=pairs, desc=label, unit=" pairs", disable=True if process else None)


def _forget(bar: Any, pairs: int) -> None:
    """Takes pairs that need no scoring out of a bar, so that its rate and time left are those of the work."""
    if bar.total is not None:
        bar.total -= pairs
        bar.refresh()

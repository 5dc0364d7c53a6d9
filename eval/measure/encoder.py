"""A model as mteb asks it for embeddings, in batches that are as fast as the machine can be.

mteb hands over passages in blocks, so that memory does not grow with the corpus. A block's texts are tokenised once and
read longest first, in batches of about as many tokens each. Which prompts they get stays mteb's business. Tasks on one
corpus share its embeddings.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from foils.encode.batches import Features, Floats, Numbers, on_device, planned, tokenise
from foils.encode.drift import Texts, compare, in_torch, score
from foils.provenance import sha256_texts
from foils.records import Drift

BATCH_TOKENS = {"cpu": 4096, "cuda": 131_072}
"""Padded tokens of a batch."""


def block_key(texts: Sequence[str], prompt: str | None) -> str:
    """Names a block of passages after what a model reads of it."""
    return sha256_texts([texts, [] if prompt is None else [prompt]])


class Encoder:
    """Stands where mteb's wrapper has its `SentenceTransformer`, and gives the same embeddings sooner.

    Args:
        model: in fp32; the encoder may change its weights.
        precision: `fp32` or `bf16`.
        sample: texts that show how far bf16 is from fp32; without them, that is not measured.
        batch_tokens: padded tokens of a batch; without it, as `BATCH_TOKENS` has it.
        devices: that all encode; without them, all GPUs, or the model's own device.
        keep_in: a folder for embeddings of passages, so that further tasks on one corpus need not encode it again.

    Attributes:
        model: in torch.
        drift: the sample's scores against those of fp32; None for fp32 itself.
        made: `block_key` of passages -> what reads their embeddings.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        precision: str,
        sample: Texts | None,
        batch_tokens: int | None = None,
        devices: Sequence[str] = (),
        keep_in: Path | None = None,
    ) -> None:
        self.model = model.eval()
        self.drift: Drift | None = None
        if precision == "bf16":
            reference = score(model, in_torch(model), sample) if sample else None
            model.bfloat16()
            if sample and reference:
                self.drift = compare(reference, score(model, in_torch(model), sample))
        self.made: dict[str, Callable[[], Floats]] = {}
        self._kept = keep_in and TemporaryDirectory(prefix=".embeddings-", dir=keep_in)
        self._tokens = batch_tokens or BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"])
        self._copies: SimpleQueue[SentenceTransformer] = SimpleQueue()
        gpus = torch.cuda.device_count() if model.device.type == "cuda" else 0
        names = devices or [f"cuda:{number}" for number in range(gpus)]
        self._copies.put(model.to(names[0]) if names else model)
        for name in names[1:]:
            self._copies.put(deepcopy(model).to(name))

    def encode_query(self, texts: Sequence[str], prompt: str | None = None, **_: Any) -> Floats:
        """Embeddings `(n_texts, dim)` of queries, after `prompt` or the model's own."""
        return self._encode(texts, "query", ("query",), prompt)

    def encode_document(self, texts: Sequence[str], prompt: str | None = None, **_: Any) -> Floats:
        """Embeddings `(n_texts, dim)` of passages, after `prompt` or the model's own."""
        names = ("document", "passage", "corpus")
        key = block_key(texts, prompt)
        if key not in self.made:
            vectors = self._encode(texts, "document", names, prompt)
            if self._kept is None:
                return vectors
            file = Path(self._kept.name) / f"{key}.npy"
            np.save(file, vectors)
            self.made[key] = partial(np.load, file, mmap_mode="c")
        return self.made[key]()

    def similarity(self, queries: Any, passages: Any) -> Any:
        """The model's own."""
        return self.model.similarity(queries, passages)

    def _encode(self, texts: Sequence[str], task: str, names: Sequence[str], prompt: str | None) -> Floats:
        if prompt is None:  # as the model's `encode_query` and `encode_document` choose it
            prompt = next((self.model.prompts[name] for name in names if name in self.model.prompts), None)
        if not hasattr(self.model[0], "model"):  # a table of vectors, or ways of its own for queries and passages
            found = self.model.encode(
                list(texts), prompt=prompt, task=task, convert_to_tensor=True, show_progress_bar=False
            )
            whole: Floats = found.float().cpu().numpy()
            return whole
        tokens = tokenise(self.model, texts, prompt, task=task)
        batches = planned(tokens.lengths, self._tokens)
        embeddings = np.empty((len(texts), 0), np.float32)
        with tqdm(total=len(texts), desc=f"encoding, {task}", unit=" texts", dynamic_ncols=True, disable=None) as bar:
            for places, vectors in self._read((batch, tokens.padded(batch)) for batch in batches):
                cut = vectors[:, : self.model.truncate_dim]
                if not embeddings.size:
                    embeddings = np.empty((len(texts), cut.shape[1]), np.float32)
                embeddings[places] = cut
                bar.update(len(places))
        return embeddings

    def _read(self, batches: Iterable[tuple[Numbers, Features]]) -> Iterator[tuple[Numbers, Floats]]:
        """Gives each batch to the copy of the model that is free next; the embeddings come in the batches' order."""
        workers = self._copies.qsize()
        begun: deque[tuple[Numbers, Future[Floats]]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            for places, features in batches:  # the next is padded while the last are read
                begun.append((places, pool.submit(self._embeddings, features)))
                if len(begun) > workers:
                    done, future = begun.popleft()
                    yield done, future.result()
            for done, future in begun:
                yield done, future.result()

    def _embeddings(self, features: Features) -> Floats:
        copy = self._copies.get()
        try:
            with torch.inference_mode():
                values: Floats = copy(on_device(features, copy.device))["sentence_embedding"].float().cpu().numpy()
            return values
        finally:
            self._copies.put(copy)

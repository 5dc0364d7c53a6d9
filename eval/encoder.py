"""A model as mteb asks it for embeddings, in batches and by a runtime that are as fast as the machine can be.

mteb hands over passages in blocks, so that memory does not grow with the corpus. A block's texts are tokenised once and
read longest first, in batches of about as many tokens each. Which prompts they get stays mteb's business.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from foils.encode.batches import Features, Floats, Numbers, on_device, planned, tokenise
from foils.encode.convert import PACKAGES, Format, check, convert
from foils.encode.drift import Measured, Run, Texts, compare, in_torch, score
from foils.encode.runtimes import Lane, lane_of_file, runner
from foils.errors import UserError
from foils.hardware import has_native_bf16

logger = logging.getLogger(__name__)

CONVERTED: dict[str, Format] = {"onnx": "onnx", "onnx-int8": "onnx-int8", "openvino": "openvino"}
"""Precisions that are runtimes of the CPU's; the others are torch's, `fp32` and `bf16`."""
BATCH_TOKENS = {"converted": 2048, "cpu": 4096, "cuda": 131_072}
"""Padded tokens of a batch. OpenVINO runs several small batches side by side; torch runs one after the other."""


def resolve_precision(wanted: str) -> str:
    """`auto` as what this machine is good at.

    Raises:
        UserError: a runtime is not installed.
    """
    if wanted == "auto":
        return "bf16" if has_native_bf16() else "fp32"
    missing = (
        [package for package in PACKAGES[CONVERTED[wanted]] if not find_spec(package)] if wanted in CONVERTED else []
    )
    if missing:
        raise UserError(
            f"precision {wanted}: not installed: {', '.join(missing)}; run: pip install {' '.join(missing)} (or pip "
            "install -e '.[fast]')"
        )
    return wanted


class Encoder:
    """Stands where mteb's wrapper has its `SentenceTransformer`, and gives the same embeddings sooner.

    Args:
        model: in fp32; the encoder may change its weights.
        precision: `fp32`, `bf16` or one of `CONVERTED`.
        sample: texts that tell how far this precision is from fp32.
        batch_tokens: padded tokens of a batch; without it, as `BATCH_TOKENS` has it.
        devices: that all encode; without them, all GPUs, or the model's own device.

    Attributes:
        model: in torch; of a converted one the tokeniser, prompts and similarity are still used.
        drift: the sample's scores against those of fp32 in torch; None for fp32 itself.

    Raises:
        UserError: the model cannot be converted.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        precision: str,
        sample: Texts,
        batch_tokens: int | None = None,
        devices: Sequence[str] = (),
    ) -> None:
        self.model = model.eval()
        reference = None if precision == "fp32" else score(model, in_torch(model), sample)
        if precision in CONVERTED:
            check(model, f"precision {precision}")
            run, self._lane = _converted(model, CONVERTED[precision])
        else:
            if precision == "bf16":
                model.bfloat16()
            run, self._lane = in_torch(model), _in_torch(model, devices or _gpus(model))
        where = "converted" if precision in CONVERTED else model.device.type
        self._tokens = batch_tokens or BATCH_TOKENS.get(where, BATCH_TOKENS["cuda"])
        self.drift: Measured | None = None if reference is None else compare(reference, score(model, run, sample))

    def encode_query(self, texts: Sequence[str], prompt: str | None = None, **_: Any) -> Floats:
        """Embeddings `(n_texts, dim)` of queries, after `prompt` or the model's own."""
        return self._encode(texts, "query", ("query",), prompt)

    def encode_document(self, texts: Sequence[str], prompt: str | None = None, **_: Any) -> Floats:
        """Embeddings `(n_texts, dim)` of passages, likewise."""
        return self._encode(texts, "document", ("document", "passage", "corpus"), prompt)

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
        embeddings: Floats | None = None
        with tqdm(total=len(texts), desc=f"encoding, {task}", unit=" texts", dynamic_ncols=True, disable=None) as bar:
            for places, vectors in self._lane((places, tokens.padded(places)) for places in batches):
                if embeddings is None:
                    width = self.model.truncate_dim or vectors.shape[1]
                    embeddings = np.empty((len(texts), width), np.float32)
                embeddings[places] = vectors[:, : embeddings.shape[1]]
                bar.update(len(places))
        assert embeddings is not None  # there are texts
        return embeddings


def _converted(model: SentenceTransformer, name: Format) -> tuple[Run, Lane]:
    with TemporaryDirectory() as scratch:
        logger.info("converting the model for %s", name)
        file = convert(model.float().cpu(), name, Path(scratch))
        return runner(name, file), lane_of_file(name, file)


def _gpus(model: SentenceTransformer) -> list[str]:
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] if model.device.type == "cuda" else []


def _in_torch(model: SentenceTransformer, devices: Sequence[str]) -> Lane:
    """On each device the model or a copy, which takes the next batch as soon as it is free."""
    idle: SimpleQueue[SentenceTransformer] = SimpleQueue()
    idle.put(model.to(devices[0]) if devices else model)
    for name in devices[1:]:
        idle.put(deepcopy(model).to(name))
    workers = idle.qsize()

    def embeddings(features: Features) -> Floats:
        copy = idle.get()
        try:
            with torch.inference_mode():
                values: Floats = copy(on_device(features, copy.device))["sentence_embedding"].float().cpu().numpy()
            return values
        finally:
            idle.put(copy)

    def run(batches: Iterable[tuple[Numbers, Features]]) -> Iterator[tuple[Numbers, Floats]]:
        begun: deque[tuple[Numbers, Future[Floats]]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            for places, features in batches:  # the next is padded while the last are read
                begun.append((places, pool.submit(embeddings, features)))
                if len(begun) > workers:
                    done, future = begun.popleft()
                    yield done, future.result()
            for done, future in begun:
                yield done, future.result()

    return run

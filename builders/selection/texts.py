"""Which texts are the same, and which nearly: hashes and shingles of many texts at once, without Python objects."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builders import schema
from builders.passages import Passages, Positions
from builders.selection.kernels import hashes, jaccards, shingles

BLOCK = 20_000
_ASCII = 128
_SPACES = frozenset((*range(9, 14), *range(28, 33)))  # what str.split() parts at, in ASCII
_SPACE = np.array([byte in _SPACES for byte in range(256)])
_LOWER = np.array([ord(chr(byte).lower()) if byte < _ASCII else byte for byte in range(256)], np.uint8)
_AS_IT_IS, _NOTHING = np.arange(256, dtype=np.uint8), np.zeros(256, np.bool_)
_WORD = np.array([byte >= _ASCII or chr(byte).isalnum() for byte in range(256)])
Hashes = npt.NDArray[np.uint64]


def text_hashes(passages: Passages, positions: Positions) -> Hashes:
    """64-bit hashes of passages without their titles; equal for texts that are equal once normalised.

    Args:
        passages: where they are looked up.
        positions: `(n,)`.
    """
    found = np.empty(len(positions), np.uint64)
    for start in range(0, len(positions), BLOCK):
        found[start : start + BLOCK] = hashes_of(passages.bodies(positions[start : start + BLOCK]))
    return found


def hashes_of(texts: pa.Array) -> Hashes:
    """64-bit hashes of texts, shape `(n,)`, after `schema.normalised`.

    >>> a, b = hashes_of(pa.array(["Straße  one", "STRASSE one"]))
    >>> bool(a == b)
    True
    """
    content, offsets = _buffers(texts)
    found: Hashes
    found, is_ascii = hashes(content, offsets, _LOWER, _SPACE)
    other = np.flatnonzero(~is_ascii)
    if len(other):  # folding letters beyond ASCII is Python's business
        folded = pa.array([schema.normalised(text) for text in texts.take(pa.array(other)).to_pylist()], pa.string())
        found[other] = hashes(*_buffers(folded), _LOWER, _SPACE)[0]
    return found


def plain_hashes(texts: pa.Array) -> Hashes:
    """64-bit hashes of strings as they are, shape `(n,)`.

    >>> a, b = plain_hashes(pa.array(["a", "A"]))
    >>> bool(a == b)
    False
    """
    found: Hashes = hashes(*_buffers(texts), _AS_IT_IS, _NOTHING)[0]
    return found


def jaccard(texts: pa.Array, references: pa.Array, pairs: tuple[Positions, Positions]) -> npt.NDArray[np.float64]:
    """Jaccard similarity of pairs of texts as sets of three-word shingles (Broder 1997), shape `(n_pairs,)`.

    Exact but for collisions of 64-bit hashes. Words are runs of letters and digits; only ASCII letters are folded. A
    text of fewer than three words is one shingle.

    >>> texts = pa.array(["the owl hunts mice at night", "The owl hunts mice by day", "a bee"])
    >>> jaccard(texts, texts, (np.array([0, 0, 2]), np.array([0, 1, 0]))).round(2).tolist()
    [1.0, 0.33, 0.0]
    """
    left, right = (shingles(*_buffers(side), _LOWER, _WORD) for side in (texts, references))
    similarities: npt.NDArray[np.float64] = jaccards(*left, *right, *pairs)
    return similarities


def _buffers(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes of all texts, and where each begins, shape `(n + 1,)`."""
    _, offsets, content = texts.buffers()
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    starts = np.frombuffer(offsets, width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return np.frombuffer(content or b"", np.uint8), starts

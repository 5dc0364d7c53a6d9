"""Equal and nearly equal texts, against plain Python."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import schema
from builders.selection.texts import hashes_of, jaccard, plain_hashes

FOLDED = st.text(
    st.sampled_from("aAbB \t\n\x1c\u00a0\u2003\u00df\u1e9e\u017fsS\u0130i\u0307\u03a3\u03c3\u03c2"), max_size=8
)


@given(st.lists(FOLDED | st.text(max_size=12), max_size=12))
def test_hashes_are_equal_for_texts_that_are_once_normalised(texts):
    hashes = hashes_of(pa.array(texts, pa.string()))
    normal = [schema.normalised(text) for text in texts]
    for one, first in zip(normal, hashes, strict=True):
        assert [one == other for other in normal] == (hashes == first).tolist()


@given(st.lists(st.text(max_size=12), max_size=12))
def test_plain_hashes_are_equal_for_equal_texts_alone(texts):
    hashes = plain_hashes(pa.array(texts, pa.string()).slice(0))
    for one, first in zip(texts, hashes, strict=True):
        assert [one == other for other in texts] == (hashes == first).tolist()


WORDS = st.lists(st.sampled_from(["owl", "Bee", "eel", "ant,", "(bat)"]), max_size=9).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=6), st.integers(0, 3))
def test_jaccard_is_that_of_sets_of_shingles(texts, skipped):
    def shingles(text):
        words = re.findall(r"[a-z]+", text.lower())
        return {tuple(words[n : n + 3]) for n in range(max(len(words) - 2, 1))} if words else set()

    pairs = np.meshgrid(np.arange(len(texts)), np.arange(len(texts)))
    left, right = (side.ravel() for side in pairs)
    cut = pa.array(["skipped"] * skipped + texts).slice(skipped)  # buffers that do not begin with the first text
    for one, other, found in zip(left, right, jaccard(cut, pa.array(texts), (left, right)), strict=True):
        a, b = shingles(texts[one]), shingles(texts[other])
        assert found == pytest.approx(len(a & b) / len(a | b) if a | b else 0)

"""Similarity of texts against a ten-line reference, by column and by text, and in every form of Unicode."""

import itertools
import random
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.texts import containment, jaccard, letters, runs, shingles, similarity, whole, word_hashes
from foils.languages import UNSPACED
from foils.texts import folded, normalised

SPACES = [" ", "  ", "\t", "\n", "\x1c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u202f", "\u205f", "\u3000"]
PIECES = ["owl", "OWL", "Ünï", "straße", "STRASSE", "ΣΑΣ", "猫", "a", "b", "\u200d", "é", "é", "\x00", *SPACES]
PUNCTUATION = ["?", ".", ",", "!", "'", '"', "(", ")", "-", "\u2019", "\u201c", "\u2026", "\u00bf", "\u3002"]
texts = st.lists(st.sampled_from(PIECES + PUNCTUATION), max_size=12).map("".join)


def shingles_of(text, words=3):
    """The ten-line reference: a set of tuples of words."""
    spaced = re.sub(f"([{UNSPACED}])", r" \1 ", folded(text))
    found = "".join(" " if unicodedata.category(letter)[0] == "P" else letter for letter in spaced).split()
    length = min(words, len(found))
    return {tuple(found[start : start + length]) for start in range(len(found) - length + 1)} if found else set()


def reference(left, right):
    a, b = shingles_of(left), shingles_of(right)
    return len(a & b) / len(a | b) if a | b else 1.0


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
def test_similarity_is_that_of_the_words(rows):
    left, right = (pa.array(side) for side in zip(*rows, strict=True))
    wanted = [reference(*row) for row in rows]
    assert jaccard(left, right).tolist() == wanted
    assert [similarity(shingles(one), shingles(other)) for one, other in rows] == wanted


@given(texts)
def test_shingles_are_those_of_the_reference(text):
    assert shingles(text) == shingles_of(text)


def test_containment_is_the_share_of_the_shorter_text():
    long = "one two three four five six seven"
    assert containment(shingles("three four five six"), shingles(long)) == 1.0
    assert containment(shingles(long), shingles("four five six eight")) == 0.5
    assert containment(shingles("?!"), shingles(long)) == 0.0


def test_many_pairs_are_compared_as_few_are():
    draw = random.Random(3)
    left = [" ".join(draw.choices("abcd", k=draw.randrange(9))) for _ in range(9000)]
    right = [" ".join(draw.choices("abcd", k=draw.randrange(9))) for _ in range(9000)]
    assert jaccard(pa.array(left), pa.array(right)).tolist() == list(map(reference, left, right))


@given(st.lists(texts, max_size=8), st.integers(0, 8))
def test_a_slice_in_chunks_has_the_words_of_its_rows(rows, start):
    every = pa.array([*rows, None], pa.string())
    start = min(start, len(every))
    found, offsets = word_hashes(every)
    part, part_offsets = word_hashes(every[start:])
    assert np.array_equal(part, found[offsets[start] :])
    assert np.array_equal(part_offsets, offsets[start:] - offsets[start])
    chunked, _ = word_hashes(pa.chunked_array([every[:start], every[start:]]))
    assert np.array_equal(chunked, found)


@pytest.mark.parametrize("form", ["NFD", "NFKD"])
def test_a_text_in_another_form_is_the_same(form):
    text = "the caf\u00e9 closes at five, \u201cas ever\u201d, and opens again at nine"
    other = unicodedata.normalize(form, text).replace("closes", "clo\u00adses").replace("\u201c", "'") + "\u200b."
    assert jaccard(pa.array([text]), pa.array([other])).tolist() == [1.0]
    one, same = whole(*word_hashes(pa.array([text, other])))
    assert one == same


def test_runs_of_words_lie_behind_one_another():
    rows = ["a b c d", "b c d", "", "a b"]
    found, offsets = runs(*word_hashes(pa.array(rows)), 3)
    expected = [[tuple(r.split()[i : i + 3]) for i in range(len(r.split()) - 2)] for r in rows]
    assert np.diff(offsets).tolist() == [len(each) for each in expected]
    flat = [run for each in expected for run in each]
    for (i, a), (j, b) in itertools.product(enumerate(flat), repeat=2):
        assert (found[i] == found[j]) == (a == b)


def test_every_character_has_the_words_and_letters_of_its_folded_form():
    """Most texts are lowered by Arrow and not folded."""
    points = [chr(n) for n in range(0x30000) if unicodedata.category(chr(n)) not in ("Cs", "Cn")]
    rows = [f"a{point} b {point}{point}c" for point in points]
    rows = [row for row in rows if folded(folded(row)) == folded(row)]  # three Arabic ligatures change again
    own, folded_rows = pa.array(rows), pa.array(map(folded, rows))
    (found, offsets), (wanted, wanted_offsets) = word_hashes(own), word_hashes(folded_rows)
    assert np.array_equal(offsets, wanted_offsets)
    assert np.array_equal(found, wanted)
    assert np.array_equal(letters(own), letters(pa.array(map(normalised, rows))))


@given(texts, texts)
def test_letters_are_those_of_the_normalised_text_and_add_up(one, other):
    title, text, both, same = letters(pa.array([one, other, f"{one} {other}", normalised(f"{one} {other}")])).tolist()
    assert (title + text) % 2**64 == both == same

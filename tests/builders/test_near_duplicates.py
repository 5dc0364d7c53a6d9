"""MinHash against exact Jaccard on sets of word runs, and pairs found without comparing all with all."""

import itertools
import random
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import near_duplicates, shingles
from builders.near_duplicates import exact_jaccard, jaccard, matches, signatures
from builders.near_duplicates import near_duplicates as pairs_of
from foils.texts import folded

WORDS = [f"word{number}" for number in range(2000)]
SPACES = [" ", "  ", "\t", "\n", "\x1c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u202f", "\u205f", "\u3000"]
PIECES = ["owl", "OWL", "Ünï", "straße", "STRASSE", "ΣΑΣ", "猫", "a", "b", "\u200d", "é", "é", *SPACES]
PUNCTUATION = ["?", ".", ",", "!", "'", '"', "(", ")", "-", "\u2019", "\u201c", "\u2026", "\u00bf", "\u3002"]
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def shingles_of(text, words=3):
    """The ten-line reference: a set of tuples of words."""
    found = "".join(" " if unicodedata.category(letter)[0] == "P" else letter for letter in folded(text)).split()
    length = min(words, len(found))
    return {tuple(found[start : start + length]) for start in range(len(found) - length + 1)} if found else set()


def reference(left, right, words=3):
    a, b = shingles_of(left, words), shingles_of(right, words)
    return len(a & b) / len(a | b) if a | b else 1.0


def changed(draw, words, changes):
    other = list(words)
    for _ in range(changes):
        other[draw.randrange(len(other))] = draw.choice(WORDS)
    return other


def some_pairs(count, length, seed):
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        words = draw.choices(WORDS, k=length)
        made.append((" ".join(words), " ".join(changed(draw, words, draw.randrange(1, length // 4)))))
    return [list(side) for side in zip(*made, strict=True)]


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), st.integers(1, 4))
def test_exact_jaccard_is_that_of_the_words(rows, words):
    left, right = (pa.array(side) for side in zip(*rows, strict=True))
    assert exact_jaccard(left, right, words).tolist() == [reference(*row, words) for row in rows]


@given(st.lists(texts, min_size=1, max_size=6))
def test_signatures_are_the_same_where_the_words_are(rows):
    made = signatures(pa.array(rows))
    for (i, a), (j, b) in itertools.product(enumerate(rows), repeat=2):
        same_shingles = shingles_of(a) == shingles_of(b)
        assert np.array_equal(made[i], made[j]) == same_shingles


@given(st.lists(texts, max_size=8), st.integers(0, 8))
def test_a_slice_in_chunks_has_the_signatures_of_its_rows(rows, start):
    whole = pa.array([*rows, None], pa.string())
    start = min(start, len(whole))
    chunked = pa.chunked_array([whole[:start], whole[start:]])
    assert np.array_equal(signatures(whole[start:]), signatures(whole)[start:])
    assert np.array_equal(signatures(chunked), signatures(whole.cast(pa.large_string())))


def test_estimates_err_as_the_formula_says():
    left, right = some_pairs(3000, 100, seed=5)
    estimate = jaccard(signatures(pa.array(left)), signatures(pa.array(right)))
    exact = np.array([reference(*row) for row in zip(left, right, strict=True)])
    error = (estimate - exact) / np.sqrt(exact * (1 - exact) / 128)
    assert abs(error.mean()) < 4 / np.sqrt(len(error))
    assert error.std() == pytest.approx(1, abs=0.06)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.7, 0.9]))
def test_all_pairs_above_the_threshold_are_found_and_no_others(seed, threshold):
    draw = random.Random(seed)
    left, right = some_pairs(20, 40, seed)
    right = [*right, *left[:3], left[0], "", "one"]
    draw.shuffle(right)
    found = pairs_of(pa.array(left), pa.array(right), threshold)
    exact = {(i, j): reference(a, b) for i, a in enumerate(left) for j, b in enumerate(right)}
    wanted = {pair: value for pair, value in exact.items() if value >= threshold}
    got = {(int(i), int(j)): value for i, j, value in zip(*found, strict=True)}
    assert got.items() <= wanted.items()
    assert all(exact[pair] < threshold + 0.15 for pair in wanted.keys() - got.keys())
    assert len(wanted.keys() - got.keys()) <= 1


def test_matches_are_the_pairs_whose_estimates_reach_the_threshold():
    left, right = (signatures(pa.array(side)) for side in some_pairs(60, 60, seed=2))
    found = matches(left, right, 0.6)
    estimates = (left[:, None, :] == right[None, :, :]).mean(axis=2)
    assert [pair for pair in zip(found.left, found.right, strict=True)] == list(zip(*np.nonzero(estimates >= 0.6)))  # noqa: B905, C416
    assert np.array_equal(found.similarity, estimates[found.left, found.right])
    assert 5 < len(found.left) < 60


def test_nothing_matches_nothing():
    empty, one = signatures(pa.array([], pa.string())), signatures(pa.array(["one two three"]))
    for left, right in ((empty, one), (one, empty), (empty, empty)):
        assert len(matches(left, right, 0.7).left) == 0


def test_signatures_stay_comparable_between_versions():
    made = signatures(pa.array(["Owls hunt mice at night"]))
    assert made[0, :4].tolist() == [765421688, 197402668, 724585320, 323521730]
    assert np.array_equal(signatures(pa.array(["Owls hunt mice at night"]), permutations=16), made[:, :16])


@given(st.lists(st.sampled_from([*PUNCTUATION, "owl", "Bee", "x", " ", "  "]), max_size=12).map("".join))
def test_words_are_those_without_punctuation(text):
    plain = text
    for mark in PUNCTUATION:
        plain = plain.replace(mark, " ")
    (bare,), (count,) = shingles.whole(pa.array([text]))
    (wanted,), _ = shingles.whole(pa.array([plain]))
    assert bare == wanted
    assert count == len(plain.split())


@pytest.mark.parametrize("form", ["NFD", "NFKD"])
def test_a_text_in_another_form_is_the_same(form):
    text = "the caf\u00e9 closes at five, \u201cas ever\u201d, and opens again at nine"
    other = unicodedata.normalize(form, text).replace("closes", "clo\u00adses").replace("\u201c", "'") + "\u200b."
    assert exact_jaccard(pa.array([text]), pa.array([other])).tolist() == [1.0]


def test_runs_of_words_lie_behind_one_another():
    rows = ["a b c d", "b c d", "", "a b"]
    found, offsets = shingles.hashes(pa.array(rows), 3)
    runs = [[tuple(r.split()[i : i + 3]) for i in range(len(r.split()) - 2)] for r in rows]
    assert np.diff(offsets).tolist() == [len(each) for each in runs]
    flat = [run for each in runs for run in each]
    for (i, a), (j, b) in itertools.product(enumerate(flat), repeat=2):
        assert (found[i] == found[j]) == (a == b)


def test_the_height_of_bands_keeps_what_may_be_missed_small():
    for threshold in (0.3, 0.5, 0.6, 0.7, 0.8, 0.95):
        height = near_duplicates._height(threshold, 128)
        assert height == 1 or (1 - threshold**height) ** (128 // height) < 0.001

"""BM25 against a ten-line reference, and the rules that bm25s leaves open."""

import math
import random
import re

import bm25s.stopwords
import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from builders.negatives.bm25_index import K1, B, Bm25Index
from cards.errors import UserError

WORDS = ["owl", "bee", "eel", "ant", "bat", "cow", "fox", "hen", "pig", "running", "runs", "jumped"]


def reference(texts, query):
    """BM25 as Lucene has it, straight from the formula."""
    stem = Stemmer.Stemmer("english").stemWord

    def tokens(text):
        found = re.findall(r"(?u)\b\w\w+\b", text.lower())
        return [stem(word) for word in found if word not in bm25s.stopwords.STOPWORDS_EN_PLUS]

    documents = [tokens(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = [0.0] * len(documents)
    for term in tokens(query):
        holding = sum(term in document for document in documents)
        idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
        for position, document in enumerate(documents):
            tf = document.count(term)
            scores[position] += idf * tf / (tf + K1 * (1 - B + B * len(document) / mean))
    return scores


def test_scores_equal_the_reference():
    lots = random.Random(3)
    texts = [" ".join(lots.choices(WORDS, k=lots.randint(2, 30))) for _ in range(200)]
    ids = [f"p{n:03}" for n in range(200)]
    queries = ["owl and the bee", "running cows", "hen hen hen", "jumping"]
    for query, hits in zip(queries, Bm25Index(ids, texts, "en").search(queries, 200), strict=True):
        wanted = {ids[n]: score for n, score in enumerate(reference(texts, query)) if score > 0}
        assert dict(hits) == pytest.approx(wanted, rel=1e-5)


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), min_size=2, max_size=30), st.integers(1, 40))
def test_order_is_by_score_then_id_whatever_the_order_of_passages(documents, k):
    texts = [" ".join(words) for words in documents]
    ids = [f"p{n:02}" for n in range(len(texts))]
    (hits,) = Bm25Index(ids, texts, "en").search(["owl bee eel"], k)
    assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0]))
    assert len(hits) <= k
    assert all(score > 0 for _, score in hits)
    (backwards,) = Bm25Index(ids[::-1], texts[::-1], "en").search(["owl bee eel"], k)
    assert [i for i, _ in backwards] == [i for i, _ in hits]


def test_no_shared_word_no_hit():
    index = Bm25Index(["a", "b"], ["how one owl will do", "two bees, and you"], "en")
    assert index.search(["zebra", "", "the and of", "how do you do it"], 5) == [[], [], [], []]


def test_language_chooses_the_stemmer():
    index = Bm25Index(["a", "b"], ["die Häuser am Fluss", "ein Boot"], "de")
    assert [i for i, _ in index.search(["das Haus"], 5)[0]] == ["a"]
    with pytest.raises(UserError, match=r"'xx'.*allowed: da, de, en"):
        Bm25Index(["a"], ["x"], "xx")

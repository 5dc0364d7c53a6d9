"""Realism: what can be told apart, what cannot, and what the figures on texts and queries say."""

import itertools
import json
import random

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from builders.realism import gaps, queries, separability
from builders.realism.separability import Text, by_embeddings, by_words, joined, telling_words
from foils.errors import UserError

WORDS = [f"{first}{last}" for first, last in itertools.product("bdfgklmnprst", ("ako", "emi", "ilu", "oda", "una"))]


def texts(number, seed, words=WORDS, length=30):
    lots = random.Random(seed)
    return [" ".join(lots.choices(words, k=length)) for _ in range(number)]


def sides(ours, theirs):
    """Two sides of which the i-th text of each belongs to group i."""
    grouped = [[Text(text, f"p{number}") for number, text in enumerate(side)] for side in (ours, theirs)]
    return joined(*grouped)


def test_texts_like_the_corpus_cannot_be_told_and_others_can():
    alike = by_words(sides(texts(300, 1), texts(300, 2)), 42)
    assert alike["low"] <= 0.5 <= alike["high"]
    assert 0.01 < alike["high"] - alike["low"] < 0.2
    marked = [f"{text} certainly" for text in texts(300, 1)]
    other = by_words(sides(marked, texts(300, 2)), 42)
    assert other["auc"] > 0.99
    assert other["low"] > 0.98
    assert other == by_words(sides(marked, texts(300, 2)), 42)


def test_a_slight_difference_lies_between():
    lots = random.Random(3)
    tinted = [f"{text} certainly" if lots.random() < 0.5 else text for text in texts(300, 1)]
    found = by_words(sides(tinted, texts(300, 2)), 42)
    assert found["low"] < 0.75 < found["high"]  # half of them can be told, the others are a toss-up


def test_embeddings_too():
    normal = np.random.default_rng(1).standard_normal((400, 16)).astype(np.float32)
    both = sides(texts(200, 1), texts(200, 2))
    found = by_embeddings(both, normal, 42)
    assert found["low"] <= 0.5 <= found["high"]
    apart = normal + 4 * both.is_ours[:, None]
    assert by_embeddings(both, apart, 42)["auc"] > 0.99


def test_the_same_text_in_two_groups_does_not_leak():
    # Each text stands under two queries. If a fold could know the one from the other, all would be told apart.
    ours, theirs = texts(60, 1), texts(60, 2)
    twice = joined(
        [Text(text, f"p{number}{copy}") for copy in "ab" for number, text in enumerate(ours)],
        [Text(text, f"p{number}{copy}") for copy in "ab" for number, text in enumerate(theirs)],
    )
    assert len(twice.texts) == 120
    assert len(twice.names) == 60  # the two queries of a text are one group
    found = by_words(twice, 42)
    assert found["low"] <= 0.5 <= found["high"]
    # Copies of passages, under other queries than the passages' own, are in the passages' folds.
    copied = joined(
        [Text(text, f"p{(number + 1) % 60}") for number, text in enumerate(theirs[:30])],
        [Text(text, f"p{number}") for number, text in enumerate(theirs)],
    )
    of = dict(zip(copied.texts[30:], copied.groups[30:], strict=True))
    assert all(of[text] == group for text, group in zip(copied.texts[:30], copied.groups[:30], strict=True))


def test_too_few_texts_tell_nothing():
    assert by_words(sides(texts(19, 1), texts(19, 2)), 42) is None
    assert by_words(joined([], [Text(text, text) for text in texts(40, 1)]), 42) is None


def test_areas_are_scikit_learn_s():
    lots = np.random.default_rng(5)
    scores, ours = np.round(lots.standard_normal(200), 1), lots.random(200) < 0.4  # with ties
    won, pairs = separability._won(scores, ours, np.ones((1, 200)))
    assert won / pairs == pytest.approx(roc_auc_score(ours, scores))
    weights = lots.integers(0, 4, 200).astype(float)
    won, pairs = separability._won(scores, ours, weights[None])
    assert won / pairs == pytest.approx(roc_auc_score(ours, scores, sample_weight=weights))


def test_the_words_that_tell_are_named():
    marked = [f"{text} certainly" for text in texts(80, 1)]
    told = telling_words(sides(marked, [f"{text} hence" for text in texts(80, 2)]), ("generated", "corpus"))
    assert told["generated"][0] == {"word": "certainly", "generated": 1.0, "corpus": 0.0}
    assert told["corpus"][0] == {"word": "hence", "generated": 0.0, "corpus": 1.0}
    assert len(told["generated"]) <= 10


def test_repeated_texts():
    column = pa.chunked_array([["An owl hunts here.", "an  owl hunts HERE."], ["A bee dances here."] * 2])
    assert gaps.exact_duplicates(column) == 0.5
    assert gaps.exact_duplicates(pa.chunked_array([pa.array([], pa.string())])) == 0.0
    base = texts(20, 1)
    assert gaps.near_duplicates(base) == 0.0
    assert gaps.near_duplicates([*base, *(f"{text} indeed" for text in base[:5])]) == 0.2
    assert gaps.near_duplicates(["", " "]) == 0.0


def test_overlap_with_the_passage_and_lengths_of_queries():
    asked = ["how do owls hunt?", "Do owls sleep?", "owl mouse night", "Owls turn their heads.", "what is the of"]
    passages = ["Owls hunt mice.", "Bees dance.", "A mouse at night.", "Owls turn heads.", "Anything."]
    found = queries.describe(asked, passages, "en")
    assert found["sampled"] == 5
    assert found["overlap"] == {"q1": 0.5, "median": 0.8333, "q3": 1.0}
    assert found["words"] == {"q1": 3, "median": 4, "q3": 4}


def test_a_query_log_is_read_and_compared(tmp_path):
    real = [f"{text}" for text in texts(100, 4, length=4)]
    (tmp_path / "log.txt").write_text("\n".join([*real, "", real[0]]))
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in real))
    log = queries.read_log(tmp_path / "log.txt")
    assert log == queries.read_log(tmp_path / "log.jsonl") == real
    like = [Text(text, f"p{number}") for number, text in enumerate(texts(100, 5, length=4))]
    near = queries.distance_to_log(like, log, 42, None)
    assert near["auc"]["words"]["low"] <= 0.5 <= near["auc"]["words"]["high"]
    assert near["length_gap"] == 0.0
    unlike = [Text(f"what about {query.text}?", query.group) for query in like]
    far = queries.distance_to_log(unlike, log, 42, None)
    assert far["auc"]["words"]["auc"] > 0.99
    assert far["length_gap"] == 1.0
    assert {word["word"] for word in far["telling"]["ours"]} >= {"what", "about"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "none.txt",
            None,
            r"--query-log .*none\.txt: cannot be read \(No such file or directory\); wanted a text file",
        ),
        ("latin.txt", "caf\xe9".encode("latin-1"), r"cannot be read \(not UTF-8\); wanted a text file with a query"),
        ("empty.txt", b"\n \n", r"empty\.txt: it holds no query; wanted a query a line"),
        ("bad.jsonl", b'{"text": "a"}\n{"query": "b"}\n', r"bad\.jsonl: line 2 has no 'text', or null in it"),
        ("list.jsonl", b"[1]\n", r"list\.jsonl: line 1 is not a JSON object such as"),
    ],
)
def test_a_log_that_is_none_is_refused(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        queries.read_log(tmp_path / name)

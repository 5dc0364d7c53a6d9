"""Realism: which texts a classifier separates, which it does not, and what the figures on texts say."""

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from builders import queries as queries_module
from builders import schema
from builders.negatives import Mined
from builders.passages import Passages
from builders.realism import gaps, separability
from builders.realism.gate import GateConfig, gated
from builders.realism.separability import by_words, joined, telling_words
from foils.errors import UserError
from foils.texts import overlap

WORDS = [f"{first}{last}" for first, last in itertools.product("bdfgklmnprst", ("ako", "emi", "ilu", "oda", "una"))]


def texts(number, seed, length=30):
    dice = random.Random(seed)
    return [" ".join(dice.choices(WORDS, k=length)) for _ in range(number)]


def grouped(side, shift=0):
    """Texts of which the i-th belongs to group i."""
    return [(text, f"p{(number + shift) % 60}") for number, text in enumerate(side)]


def sides(ours, theirs):
    return joined(*([(text, f"p{number}") for number, text in enumerate(side)] for side in (ours, theirs)))


def test_texts_like_the_corpus_cannot_be_separated_and_others_can():
    alike = by_words(sides(texts(300, 1), texts(300, 2)), 42)
    assert alike["low"] <= 0.5 <= alike["high"]
    assert 0.01 < alike["high"] - alike["low"] < 0.2
    marked = [f"{text} certainly" for text in texts(300, 1)]
    other = by_words(sides(marked, texts(300, 2)), 42)
    assert other["auc"] > 0.99
    assert other["low"] > 0.98
    assert other == by_words(sides(marked, texts(300, 2)), 42)
    half = by_words(sides(marked[::2] + texts(300, 1)[1::2], texts(300, 2)), 42)
    assert half["low"] < 0.75 < half["high"]  # half of them are recognised, the others are a toss-up


def test_the_same_text_in_two_groups_does_not_leak():
    # Each text stands under two queries. If a fold could know the one from the other, all would be separated.
    ours, theirs = texts(60, 1), texts(60, 2)
    twice = joined(
        *([(text, f"p{n}{copy}") for copy in "ab" for n, text in enumerate(side)] for side in (ours, theirs))
    )
    assert len(twice.texts) == 120
    assert len(set(twice.groups)) == 60  # the two queries of a text are one group
    found = by_words(twice, 42)
    assert found["low"] <= 0.5 <= found["high"]
    # Copies of passages, under other queries than the passages' own, are in the passages' folds.
    copied = joined(grouped(theirs[:30], shift=1), grouped(theirs))
    of = dict(zip(copied.texts[30:], copied.groups[30:], strict=True))
    assert all(of[text] == group for text, group in zip(copied.texts[:30], copied.groups[:30], strict=True))


def test_of_too_few_texts_nothing_is_said():
    assert by_words(sides(texts(19, 1), texts(19, 2)), 42) is None
    assert by_words(joined([], [(text, text) for text in texts(40, 1)]), 42) is None


def test_areas_are_scikit_learn_s():
    dice = np.random.default_rng(5)
    scores, ours = np.round(dice.standard_normal(200), 1), dice.random(200) < 0.4  # with ties
    for weights in (np.ones(200), dice.integers(0, 4, 200).astype(float)):
        won, pairs = separability._won(scores, ours, weights[None])
        assert won / pairs == pytest.approx(roc_auc_score(ours, scores, sample_weight=weights))


def test_the_words_that_mark_a_side_are_named():
    marked = [f"{text} certainly" for text in texts(80, 1)]
    found = telling_words(sides(marked, [f"{text} hence" for text in texts(80, 2)]))
    assert found["generated"][0] == {"word": "certainly", "generated": 1.0, "corpus": 0.0}
    assert found["corpus"][0] == {"word": "hence", "generated": 0.0, "corpus": 1.0}
    assert len(found["generated"]) <= 10


def test_repeated_texts():
    column = pa.chunked_array([["An owl hunts here.", "an  owl hunts HERE."], ["A bee dances here."] * 2])
    assert gaps.exact_duplicates(column) == 0.5
    assert gaps.exact_duplicates(pa.chunked_array([pa.array([], pa.string())])) == 0.0
    base = texts(20, 1)
    assert gaps.near_duplicates(base) == 0.0
    assert gaps.near_duplicates([*base, *(f"{text} indeed" for text in base[:5])]) == 0.2
    assert gaps.near_duplicates(["", " "]) == 0.0


@pytest.mark.parametrize(
    ("query", "passage", "share"),
    [
        ("how do owls hunt?", "Owls hunt mice.", 1.0),
        ("Do owls sleep?", "Bees dance.", 0.0),
        ("what is the of", "Anything.", 0.0),
        ("where does an owl hunt", "Owls hunted mice.", 1.0),
    ],
)
def test_content_words_of_a_query_in_its_passage(query, passage, share):
    assert overlap(query, passage, "en") == share


def through_the_gate(negatives, **config):
    """What the gate makes of a negative for each of as many passages."""
    number, ids = len(negatives), [f"p{n}" for n in range(len(negatives))]
    passages = pa.table([ids, [""] * number, texts(number, 2)], schema=schema.CORPUS)
    queries = pa.table([[f"{each}/q1" for each in ids], ids, ids], schema=queries_module.TABLE)
    names, nulls = [f"{each}/q1/llm1" for each in ids], [None] * number
    generated = pa.table([names, negatives, queries["_id"], nulls, nulls], schema=schema.GENERATED)
    candidates = pa.table([queries["_id"], names, [1] * number, nulls], schema=schema.CANDIDATES)
    return gated("llm", Mined(candidates, generated), queries, Passages(passages), GateConfig(**config))


def test_negatives_that_are_like_passages_pass_the_gate(caplog):
    found = through_the_gate(texts(200, 1), then="stop")
    assert found.record["separability"]["auc"] < 0.65
    assert found.record["separability"]["words"] == {"generated": 30, "corpus": 30}
    assert not caplog.text
    assert not through_the_gate(texts(10, 1), then="stop").record  # too few to say anything


def test_the_gate_names_what_gives_negatives_away(caplog):
    marked = [f"certainly {text}" for text in texts(200, 1, length=9)]
    through_the_gate(marked)
    said = r"llm: a classifier recognises its negatives (area 1.000, at least 1.000): 10 words against 30, and "
    assert f"{said}`certainly`" in caplog.text
    with pytest.raises(
        UserError, match=r"`certainly`.* against .*; take another prompt, .* or set negatives.gate.then"
    ):
        through_the_gate(marked, then="stop")


def test_the_gate_reads_scripts_without_spaces():
    passages = [f"梟は夜に森の中で{n}匹の鼠を狩り、朝には巣に帰って眠る。" for n in range(60)]
    written = [f"この文章は質問に答えず、蜂の{n}個の巣について述べている。" for n in range(60)]
    area = by_words(sides(written, passages), 1)
    assert area["low"] > 0.9


def test_a_gate_that_would_drop_all_says_so():
    with pytest.raises(UserError, match=r"recognises all 200 negatives as written, .*; set it to \"warn\", or take"):
        through_the_gate([f"certainly {text}" for text in texts(200, 1, length=9)], then="drop")


def test_the_gate_drops_what_looks_written_and_keeps_the_rest():
    mixed = [f"certainly {text}" if n % 4 else text for n, text in enumerate(texts(200, 1))]
    found = through_the_gate(mixed, above=0.6, then="drop")
    kept = found.generated["text"].to_pylist()
    assert not [text for text in kept if text.startswith("certainly")]
    assert len(kept) > 30  # of 50
    assert found.candidates["corpus-id"].to_pylist() == found.generated["_id"].to_pylist()
    assert {row["reason"] for row in found.drops.to_pylist()} == {"recognised-as-written"}
    assert found.drops.num_rows == found.record["separability"]["dropped"] == 200 - len(kept)

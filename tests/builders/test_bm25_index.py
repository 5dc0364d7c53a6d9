"""BM25 against a ten-line reference and against bm25s, and the rules that bm25s leaves open."""

import math
import random
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import bm25s
import numpy as np
import pyarrow as pa
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import schema
from builders.corpus import load
from builders.passages import Passages
from builders.recipe import CorpusConfig
from builders.retrieval.bm25.index import K1, B, index_key
from builders.retrieval.bm25.search import Bm25Index
from foils.errors import UserError
from foils.stems import stop_words_of
from tests.builders.rare_words import made
from tests.conftest import beir

WORDS = ["owl", "bee", "eel", "ant", "bat", "cow", "fox", "hen", "pig", "running", "runs", "jumped"]


def passages(ids, texts):
    return Passages(pa.table({"_id": ids, "title": [""] * len(ids), "text": texts}, schema.CORPUS))


def split(texts):
    return bm25s.tokenize(
        texts,
        stopwords=list(stop_words_of("en")),
        stemmer=Stemmer.Stemmer("english"),
        return_ids=False,
        show_progress=False,
    )


def reference(texts, query):
    """BM25 as Lucene has it, straight from the formula."""
    stem = Stemmer.Stemmer("english").stemWord

    def tokens(text):
        found = re.findall(r"(?u)\b\w\w+\b", text.lower())
        return [stem(word) for word in found if word not in stop_words_of("en")]

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


def assert_equals_bm25s(ids, texts, queries, folder, k):
    """The same scores to the last bit, in the order of scores and then ids."""
    theirs = bm25s.BM25(k1=K1, b=B, method="lucene")
    theirs.index(split(texts), show_progress=False)
    index = Bm25Index(passages(ids, texts), "en", folder)
    hits = index.search_arrow(pa.array(queries), k, np.arange(len(queries)) % len(ids))
    for n, tokens in enumerate(split(queries)):
        known = [token for token in tokens if token in theirs.vocab_dict]
        scores = theirs.get_scores(known) if known else np.zeros(len(ids), np.float32)
        wanted = sorted((-score, ids[at], at) for at, score in enumerate(scores.tolist()) if score > 0)[:k]
        start, end = hits.offsets[n : n + 2]
        found = zip(hits.scores[start:end].tolist(), hits.positions[start:end].tolist(), strict=True)
        assert [(-score, ids[at], at) for score, at in found] == wanted
        assert hits.given[n] == scores[n % len(ids)]


def test_scores_equal_the_reference(tmp_path):
    draw = random.Random(3)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(2, 30))) for _ in range(200)]
    ids = [f"p{n:03}" for n in range(200)]
    queries = ["owl and the bee", "running cows", "hen hen hen", "jumping"]
    index = Bm25Index(passages(ids, texts), "en", tmp_path)
    for query, hits in zip(queries, index.search(queries, 200), strict=True):
        wanted = {ids[n]: score for n, score in enumerate(reference(texts, query)) if score > 0}
        assert dict(hits) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("k", [1, 20, 5000])
def test_scores_equal_bm25s_on_made_text(tmp_path, k):
    ids, texts = made(700, 1)
    _, queries = made(150, 2, longest=9)
    assert_equals_bm25s(ids, texts, [*queries, "", "unheardof", "word3 word3 the w7é"], tmp_path, k)


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=6), min_size=2, max_size=30), st.integers(1, 40))
def test_order_is_by_score_then_id_whatever_the_order_of_passages(documents, k):
    texts = [" ".join(words) for words in documents]
    ids = [f"p{n}" for n in range(len(texts))]  # p10 comes before p2
    with tempfile.TemporaryDirectory() as folder:
        (hits,) = Bm25Index(passages(ids, texts), "en", Path(folder)).search(["owl bee eel"], k)
        (backwards,) = Bm25Index(passages(ids[::-1], texts[::-1]), "en", Path(folder)).search(["owl bee eel"], k)
    assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0]))
    assert len(hits) == min(k, sum(bool({"owl", "bee", "eel"} & set(words)) for words in documents))
    assert all(score > 0 for _, score in hits)
    assert backwards == hits


def test_no_shared_word_no_hit(tmp_path):
    index = Bm25Index(passages(["a", "b"], ["how one owl will do", "two bees, and you"]), "en", tmp_path)
    assert index.search(["zebra", "", "the and of", "how do you do it"], 5) == [[], [], [], []]
    assert index.search([], 5) == []
    assert Bm25Index(passages(["a", "b"], ["", "? !"]), "en", tmp_path).search(["owl", ""], 5) == [[], []]


def test_language_chooses_the_stemmer(tmp_path):
    german = passages(["a", "b"], ["die Häuser am Fluss", "ein Boot"])
    assert [i for i, _ in Bm25Index(german, "de", tmp_path).search(["das Haus"], 5)[0]] == ["a"]


def test_key_is_of_content_and_not_of_chunks():
    whole = passages(["a", "b", "c"], ["one", "two", ""])
    table = pa.concat_tables([whole.table.slice(1, 2), whole.table.slice(1, 2)]).slice(2, 2)
    chunked = Passages(pa.concat_tables([whole.table.slice(0, 1), table.slice(0, 0), table]))
    assert index_key(chunked, "en") == index_key(whole, "en")
    others = [
        index_key(whole, "de"),
        index_key(passages(["a", "b", "d"], ["one", "two", ""]), "en"),
        index_key(passages(["a", "b", "c"], ["on", "etwo", ""]), "en"),
        index_key(passages(["b", "a", "c"], ["one", "two", ""]), "en"),
    ]
    assert len({index_key(whole, "en"), *others}) == 5


def test_second_use_maps_what_the_first_wrote(tmp_path):
    ids, texts = made(300, 5)
    first = Bm25Index(passages(ids, texts), "en", tmp_path).search(texts[:20], 10)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert Bm25Index(passages(ids, texts), "en", tmp_path).search(texts[:20], 10) == first
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written


KILLED = """
import sys
from pathlib import Path
import numpy as np
from builders.retrieval.bm25 import index, search
from builders.corpus import load
from builders.passages import Passages
from builders.recipe import CorpusConfig
save = np.save
def slow(path, array):
    save(path, array)
    if path.name.startswith(sys.argv[2]):
        print("written", flush=True)
        sys.stdin.read()
np.save = slow
search.Bm25Index(Passages(load(CorpusConfig(sys.argv[1])).passages), "en", Path(sys.argv[1]) / "bm25")
"""


@pytest.mark.parametrize("file", ["data", "order"])
def test_killed_while_writing_is_built_anew(tmp_path, file):
    ids, texts = made(200, 6)
    beir(tmp_path, zip(ids, [""] * len(ids), texts, strict=True))
    command = [sys.executable, "-c", KILLED, str(tmp_path), file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    corpus = Passages(load(CorpusConfig(str(tmp_path))).passages)
    place = tmp_path / "bm25" / index_key(corpus, "en")
    assert not place.exists()
    assert place.with_name(f"{place.name}.partial").is_dir()
    found = Bm25Index(corpus, "en", tmp_path / "bm25").search(texts[:20], 10)
    assert found == Bm25Index(corpus, "en", tmp_path / "elsewhere").search(texts[:20], 10)
    assert place.is_dir()
    assert not place.with_name(f"{place.name}.partial").exists()


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"BM25 index .*file.*: .*; make room or name another folder"):
        Bm25Index(passages(["a"], ["owl"]), "en", tmp_path / "file" / "bm25")

"""What a data set's card says of how its rows came about: only what is so."""

import json

import pyarrow.parquet as pq

from builders.realism import separability
from builders.selection import __main__ as reselection
from tests.chat_server import about_animals, last_user_message


def in_parts(body, _):
    """The animals' answers, with negatives in parts: all of them give themselves away."""
    text = about_animals(body, _)
    if "Requires:" not in body["messages"][0]["content"]:
        return text
    query = last_user_message(body).removeprefix("Query: ").strip("?")
    parts = "Requires: an animal; what it does\nBreaks: what it does\nTitle: Animals\nPassage: "
    return f"{parts}As to {query}, nobody has seen it."


def card(folder):
    return (folder / "README.md").read_text()


def test_a_build_without_written_negatives_claims_none(build_animals):
    text = card(build_animals("plain", 'negatives.kinds=["bm25", "random", "none"]', "negatives.bm25.depth=7"))
    assert (
        "  - queries: temperature 0.2, higher with each further try; at most 48 tokens an answer and 3 tries." in text
    )
    assert "negatives of `llm`" not in text
    assert "0.7" not in text  # the temperature of negatives that nobody wrote
    assert "query has 1 negative of every kind below but `none`." in text
    assert "| `bm25` | 8 | negatives among BM25's first 7 hits |" in text
    assert 'load_dataset("FOLDER", "bm25", split="train")  # query, positive, negative_1\n' in text


def test_a_mix_that_cannot_keep_its_shares_says_so(build_animals):
    folder = build_animals(
        "mixed",
        'negatives.kinds=["llm", "bm25", "llm+bm25"]',
        'negatives.shares={"llm+bm25" = {llm = 1, bm25 = 9}}',
        'selection.kinds={"llm+bm25" = {max_uses = 1}}',
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    taken = manifest["mixes"]["llm+bm25"]
    assert sum(taken.values()) == manifest["configs"]["llm+bm25"]["rows"]
    told = (
        f"- Negatives of `llm+bm25`: {taken['llm']} of `llm`, {taken['bm25']} of `bm25`; the recipe's shares are 1 : 9."
    )
    assert told in card(folder)
    reselection.main(folder, ['negatives.shares={"llm+bm25" = {llm = 1, bm25 = 0.001}}'])
    assert json.loads((folder / "manifest.json").read_text())["mixes"]["llm+bm25"] == {"llm": 8, "bm25": 0}


def test_queries_are_dropped_once_however_many_kinds_lack_negatives(build_animals):
    folder = build_animals("short", "selection.kinds={bm25 = {max_uses = 1}, random = {max_uses = 1, rank_max = 1}}")
    manifest = json.loads((folder / "manifest.json").read_text())
    dropped = manifest["configs"]["train-queries"]["rows"] - manifest["configs"]["bm25"]["rows"]
    assert dropped > 0
    assert f"| selection | too-few-negatives | {dropped} |" in card(folder)


def test_whole_passages_have_their_length_and_what_gives_them_away_in_the_card(build_animals, chat_server, monkeypatch):
    monkeypatch.setattr(separability, "FEWEST_GROUPS", 5)  # the animals are few
    monkeypatch.setattr(separability, "FOLDS", 2)
    whole = ('negatives.llm.prompt="counterfactual-v1"', 'negatives.kinds=["llm", "random"]')
    chat_server.script = in_parts
    folder = build_animals("whole", *whole, "negatives.llm.length=[5, 30]")
    text = card(folder)
    assert "- `llm` was asked for passages of 5 to 30 words. Each was to leave one requirement" in text
    assert "unmet (`broken` in `generated`); whether it does has not been looked at." in text
    area = json.loads((folder / "manifest.json").read_text())["mining"]["llm"]["separability"]["auc"]
    assert (
        f"- A classifier recognises the texts of `llm` among passages with an area under its ROC curve of {area:.3f} ("
        in text
    )
    assert {row["broken"] for row in pq.read_table(folder / "generated").to_pylist()} == {"what it does"}
    assert "words, the length of the corpus's own. Each was" in card(build_animals("as the corpus", *whole))

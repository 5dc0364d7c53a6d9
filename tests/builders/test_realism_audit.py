"""The whole audit: hardness from stored scores, the picture, a built data set, the command and the card."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image
from sentence_transformers import CrossEncoder

from builders import schema
from builders.corpus import sample
from builders.dataset.folder import amend
from builders.dataset.read import DataSet
from builders.realism import hardness
from builders.realism.__main__ import main
from builders.realism.examine import distance, examine, read_log
from cards.templates import section
from foils.errors import UserError
from tests.fixtures import commands
from tests.fixtures.tiny import word_ranker

NAN = float("nan")


def fates(**kinds):
    rows = [
        {"kind": kind, "query-id": query, "corpus-id": passage, "fate": fate}
        for kind, chosen in kinds.items()
        for query, passage, fate in chosen
    ]
    return pa.Table.from_pylist(rows, schema.FATES)


def scores(**rows):
    return pa.Table.from_pylist(
        [{"query-id": pair[:2], "corpus-id": pair[2:], "score": score} for pair, score in rows.items()], schema.SCORES
    )


QRELS = pa.Table.from_pylist(
    [{"query-id": query, "corpus-id": passage, "score": 1} for query, passage in (("q1", "p1"), ("q2", "p2"))],
    schema.QRELS,
)
FATES = fates(
    bm25=[("q1", "p2", "negative_1"), ("q2", "p3", "negative_1"), ("q2", "p9", "below-floor")],
    random=[("q1", "p3", "negative_1"), ("q2", "p1", "negative_1")],
)


def test_margins_are_the_positives_score_minus_the_negatives():
    negatives = FATES.filter(pc.starts_with(FATES["fate"], "negative_")).select(["kind", "query-id", "corpus-id"])
    found = hardness.margins(negatives, QRELS, scores(q1p1=3.0, q1p2=1.0, q1p3=0.5, q2p2=2.0, q2p3=5.0))
    assert found["bm25"].tolist() == [-3.0, 2.0]
    np.testing.assert_array_equal(found["random"], [2.5, NAN])  # q2 and p1 were not scored together
    unscored = hardness.margins(negatives, QRELS, scores(q1p2=1.0, q1p3=0.5))
    assert np.isnan(unscored["bm25"]).all()  # nothing without the positive's score


def test_figures_of_hardness():
    found = hardness.figures(np.array([-3.0, 1.0, 2.0, 2.0, NAN]))
    assert (found["negatives"], found["scored"], found["harder"]) == (5, 4, 0.25)
    assert found["quantiles"]["0.5"] == 1.5


def test_the_picture_is_the_same_for_the_same_margins(tmp_path):
    margins = {"bm25": np.sort(np.random.default_rng(1).normal(2, 2, 500)), "one": np.array([0.5])}
    first = hardness.draw(margins, "dense")
    assert first == hardness.draw(margins, "dense")
    (tmp_path / "h.png").write_bytes(first)
    with Image.open(tmp_path / "h.png") as picture:
        assert picture.mode == "RGBA"
        assert picture.width > 1000
        assert picture.getpixel((2, 2))[3] == 0  # no background
        assert len({colour[:3] for _, colour in picture.getcolors(1 << 20)}) > 2
        assert not picture.info.get("Software")
    assert first != hardness.draw({**margins, "bm25": margins["bm25"] + 1}, "dense")


def add_scores(folder, scorer="bm25", share=1.0):
    """Gives a built data set fates by which each kind's first candidates are its negatives, and a scorer's scores.

    The scorer has not scored all of them if the share of queries is below 1.
    """
    dataset = DataSet(folder)
    qrels = dataset.table("train-qrels").select(["query-id", "corpus-id"]).to_pylist()
    kinds = {}
    for kind in ("llm", "bm25", "random"):
        first = {}
        for row in dataset.table(f"candidates-{kind}").to_pylist():
            first.setdefault(row["query-id"], (row["query-id"], row["corpus-id"], "negative_1"))
        kinds[kind] = list(first.values())
    pairs = {(query, passage) for chosen in kinds.values() for query, passage, _ in chosen}
    pairs = sorted(pairs | {tuple(row.values()) for row in qrels})
    rows = [{"query-id": q, "corpus-id": p, "score": float(len(p) + n)} for n, (q, p) in enumerate(pairs)]
    table = pa.Table.from_pylist(rows[: int(share * len(rows))], schema.SCORES)
    amend(folder, {}, {f"scores-{scorer}": table, "fates": fates(**kinds)})


def card(result):
    return section("dataset_realism.md", audit={"realism": result})


def test_a_built_data_set_end_to_end(build_animals, capsys):
    folder = build_animals("audited")
    add_scores(folder)
    result = main(folder)
    assert json.loads((folder / "manifest.json").read_text())["audit"]["realism"] == json.loads(json.dumps(result))
    assert (folder / "figures" / "hardness.png").stat().st_size > 1000
    assert result == examine(folder)[0]  # what is stored beside the rows changes none of it
    llm = result["generated"]["llm"]
    assert (llm["texts"], llm["sampled"], llm["passages"]) == (8, 8, 8)
    assert llm["without_titles"] == llm["with_titles"] == {"words": None}  # eight queries are too few
    assert llm["exact_duplicates"] == 0
    assert set(result["hardness"]["kinds"]) == {"llm", "bm25", "random"}
    assert result["hardness"]["scorer"] == "bm25"
    printed = capsys.readouterr().out
    assert printed.strip() == card(result)
    assert "| `llm` | too few texts | too few texts | 8 of 8 | 8 |\n" in printed
    assert "Hardness is the positive's score minus the negative's, by `bm25`." in printed
    assert "](figures/hardness.png)" in printed
    assert "![Distribution of the positive's score minus the negative's by bm25, per kind: bm25: median" in printed
    tables = tables_of(printed)
    assert len(tables) == 3
    assert all(len(set(rows)) == 1 and len(rows) > 2 for rows in tables), printed
    labelled = card(result | {"generated": {}})
    assert labelled.startswith("## How the queries look, and how hard the negatives are\n\nThe queries have")
    assert "generated" not in labelled


def tables_of(text):
    """The rows of each Markdown table, as numbers of cells."""
    tables, inside = [], False
    for line in text.splitlines():
        if line.startswith("|"):
            if not inside:
                tables.append([])
            tables[-1].append(line.count("|"))
        inside = line.startswith("|")
    return tables


def test_the_first_scorer_that_scored_all_kinds_is_taken(build_animals):
    folder = build_animals("bare")
    result, files = examine(folder)
    assert files == {}
    assert result["hardness"] == {
        "why_not": "no scorer has scored the negatives of all kinds (scores by: bm25); name a cross-encoder with "
        "--score-with"
    }
    assert "Hardness was not measured: no scorer has scored the negatives of all kinds" in card(result)
    for scorer, share, taken in (("own", 1, "own"), ("dense", 1, "dense"), ("cross-encoder", 0.5, "dense")):
        add_scores(folder, scorer, share)
        assert examine(folder)[0]["hardness"]["scorer"] == taken


def test_a_cross_encoder_scores_all_kinds_when_asked(build_animals, tmp_path):
    folder, model = build_animals("asked"), word_ranker(tmp_path / "judge")
    result, files = examine(folder, str(model))
    hard, rows = result["hardness"], DataSet(folder).table("random").to_pylist()
    assert hard["scorer"] == "judge"
    assert {kind: (each["negatives"], each["scored"]) for kind, each in hard["kinds"].items()} == dict.fromkeys(
        ("bm25", "llm", "random"), (len(rows), len(rows))
    )
    assert set(files) == {"figures/hardness.png"}
    encoder = CrossEncoder(str(model), max_length=256)
    positives, negatives = (
        encoder.predict([(row["query"], row[column]) for row in rows]) for column in ("positive", "negative_1")
    )
    assert hard["kinds"]["random"]["quantiles"]["0.5"] == pytest.approx(np.median(positives - negatives), abs=2e-4)


def test_the_command(build_animals, tmp_path):
    folder = build_animals("commanded")
    before = (folder / "manifest.json").read_bytes()
    done = commands.module("builders.realism", folder, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("## How real the generated texts look")
    assert (folder / "manifest.json").read_bytes() == before
    for arguments, words in (
        ((tmp_path / "no",), "no: empty or not there; build it first: python -m builders.build RECIPE"),
        ((folder, "--query-log", "gone.txt"), "error: --query-log gone.txt: cannot be read"),
    ):
        done = commands.module("builders.realism", *arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_queries_beside_those_of_a_log(build_animals, tmp_path):
    folder, log = build_animals("logged"), tmp_path / "log.txt"
    log.write_text("\n".join(f"whichever creature{n} hibernates" for n in range(30)))
    found = examine(folder, query_log=log)[0]
    beside = found["queries"]["log"]
    assert (beside["sampled"], beside["words"]["median"], beside["auc"]) == (30, 3, None)  # eight queries are too few
    many = distance([(f"what does animal {n} eat", f"p{n}") for n in range(30)], read_log(log, "--query-log"), 42)
    assert many["auc"]["auc"] > 0.9
    assert "hibernates" in {each["word"] for each in many["telling"]["corpus"]}
    assert "Beside 30 real queries, of 3 / 3 / 3 words" in card(found)
    lines = tmp_path / "log.jsonl"
    texts = ["", " ", None, *log.read_text().splitlines()]
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts) + '{"id": 1}\n')
    assert read_log(lines, "--query-log") == read_log(log, "--query-log")
    log.write_text(" \n")
    with pytest.raises(UserError, match=r"log\.txt: holds no query; wanted UTF-8 text, a query a line"):
        read_log(log, f"--query-log {log}")
    with pytest.raises(UserError, match=r"no\.txt: cannot be read"):
        read_log(tmp_path / "no.txt", "--query-log no.txt")


def test_a_sample_depends_on_ids_alone():
    table = pa.table({"_id": [f"t{number}" for number in range(500)]})
    drawn = set(sample(table, 100, 42)["_id"].to_pylist())
    assert len(drawn) == 100
    turned = table.take(pa.array(range(499, -1, -1)))
    assert set(sample(turned, 100, 42)["_id"].to_pylist()) == drawn

"""The whole audit: hardness from stored scores, the picture, a built data set, the command and the card."""

import json
import sys

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from sentence_transformers import CrossEncoder

from builders import schema
from builders.dataset.folder import read_config, read_manifest, write_config
from builders.dataset.read import DataSet
from builders.realism import examine as examine_module
from builders.realism import figure, hardness
from builders.realism.__main__ import main
from builders.realism.examine import AuditConfig, examine
from cards.templates import section
from foils.errors import UserError
from tests.builders.test_scoring import tiny_model
from tests.conftest import BASE
from tests.fixtures import commands

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


def load(folder, config):
    return read_config(folder, read_manifest(folder), config).to_pylist()


QRELS = pa.Table.from_pylist(
    [{"query-id": query, "corpus-id": passage, "score": 1} for query, passage in (("q1", "p1"), ("q2", "p2"))],
    schema.QRELS,
)
FATES = fates(
    bm25=[("q1", "p2", "negative_1"), ("q2", "p3", "negative_1"), ("q2", "p9", "below-floor")],
    random=[("q1", "p3", "negative_1"), ("q2", "p1", "negative_1")],
)


def test_margins_are_the_positives_score_less_the_negatives():
    negatives = hardness.negatives_of(FATES)
    assert negatives.num_rows == 4  # what became no negative does not count
    found = hardness.margins(negatives, QRELS, scores(q1p1=3.0, q1p2=1.0, q1p3=0.5, q2p2=2.0, q2p3=5.0))
    assert found["bm25"].tolist() == [-3.0, 2.0]
    np.testing.assert_array_equal(found["random"], [2.5, NAN])  # q2 and p1 were not scored together
    unscored = hardness.margins(negatives, QRELS, scores(q1p2=1.0, q1p3=0.5))
    assert hardness.scored_share(unscored["bm25"]) == 0  # nothing without the positive's score


def test_figures_of_hardness():
    told = hardness.figures(np.array([-3.0, 1.0, 2.0, 2.0, NAN]))
    assert (told["negatives"], told["scored"], told["harder"]) == (5, 4, 0.25)
    assert told["quantiles"]["0.5"] == 1.5
    assert hardness.figures(np.array([NAN])) == {"negatives": 1, "scored": 0}


def test_the_first_scorer_that_scored_all_kinds_is_taken():
    whole, half = {"a": np.zeros(2), "b": np.ones(2)}, {"a": np.zeros(2), "b": np.array([1.0, NAN])}
    found = {"bm25": whole, "cross-encoder": half, "dense": whole, "own": whole}
    choose = hardness.choose_scorer
    assert choose(sorted(found), None, found.get) == ("dense", whole)
    assert choose(["bm25", "cross-encoder", "own"], None, found.get) == ("bm25", whole)
    assert choose(["own"], None, found.get) == ("own", whole)
    assert choose(["cross-encoder"], None, found.get) is None
    assert choose(["cross-encoder"], "cross-encoder", found.get) == ("cross-encoder", half)
    with pytest.raises(UserError, match=r"--scorer x: the data set has no configuration scores-x; .* by: bm25, dense"):
        choose(["bm25", "dense"], "x", found.get)


def test_the_picture_is_the_same_for_the_same_margins(tmp_path):
    lots = np.random.default_rng(1)
    margins = {"bm25": np.sort(lots.normal(2, 2, 500)), "one": np.array([0.5]), "none": np.array([NAN, NAN])}
    first, second = (figure.draw(margins, "dense") for _ in range(2))
    assert first == second
    (tmp_path / "h.png").write_bytes(first["png"])
    with Image.open(tmp_path / "h.png") as picture:
        assert picture.mode == "RGBA"
        assert picture.width > 1000
        assert picture.getpixel((2, 2))[3] == 0  # no background
        colours = {colour[:3] for _, colour in picture.getcolors(1 << 20)}
        assert not picture.info.get("Software")
    assert len(colours) > 2
    assert b"<dc:date>" not in first["svg"]
    assert first != figure.draw({**margins, "bm25": margins["bm25"] + 1}, "dense")


def add_scores(folder):
    """Gives a built data set the configurations that selection and a scorer leave."""
    manifest = json.loads((folder / "manifest.json").read_text())
    dataset = DataSet(folder)
    qrels = dataset.table("default")
    kinds = {}
    for kind in ("llm", "bm25", "random"):
        first = {}
        for row in dataset.table(f"candidates-{kind}").to_pylist():
            first.setdefault(row["query-id"], (row["query-id"], row["corpus-id"], "negative_1"))
        kinds[kind] = list(first.values())
    pairs = {(query, passage) for chosen in kinds.values() for query, passage, _ in chosen}
    pairs |= set(zip(qrels["query-id"].to_pylist(), qrels["corpus-id"].to_pylist(), strict=True))
    rows = [{"query-id": q, "corpus-id": p, "score": float(len(p) + n)} for n, (q, p) in enumerate(sorted(pairs))]
    tables = {"scores-bm25": pa.Table.from_pylist(rows, schema.SCORES)}
    tables["fates"] = fates(**kinds)
    for name, table in tables.items():
        files = [file.relative_to(folder).as_posix() for file in write_config(folder, name, table)]
        manifest["configs"][name] = {
            "split": "train",
            "rows": table.num_rows,
            "columns": [],
            "files": dict.fromkeys(files, ""),
        }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_built_data_set_end_to_end(build_animals, tmp_path, capsys):
    folder = build_animals("audited")
    add_scores(folder)
    (tmp_path / "log.txt").write_text("\n".join(f"what does animal {n} eat?" for n in range(30)))
    config = AuditConfig(query_log=tmp_path / "log.txt")
    result = main(folder, config)
    assert json.loads((folder / "manifest.json").read_text())["audit"]["realism"] == json.loads(json.dumps(result))
    for name in ("figures/hardness.png", "figures/hardness.svg"):
        assert (folder / name).stat().st_size > 1000
    assert result == examine(folder, config)[0]  # what is stored beside the rows changes none of it
    llm = result["generated"]["llm"]
    assert (llm["texts"], llm["sampled"], llm["passages"]) == (8, 8, 8)
    assert llm["without_titles"] == llm["with_titles"] == {"words": None}  # eight queries are too few
    assert llm["exact_duplicates"] == 0
    assert result["queries"]["log"]["sampled"] == 30
    assert set(result["hardness"]["kinds"]) == {"llm", "bm25", "random"}
    assert result["hardness"]["scorer"] == "bm25"
    printed = capsys.readouterr().out
    assert printed.strip() == card(result)
    assert "| `llm` | words | too few texts | too few texts | 8 of 8 | 8 |\n" in printed
    assert "Hardness is the positive's score less the negative's, by `bm25`." in printed


def card(result):
    return section("dataset_realism.md", audit={"realism": result})


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


def test_the_card_has_whole_tables(build_animals, tmp_path):
    folder = build_animals("carded")
    add_scores(folder)
    (tmp_path / "log.txt").write_text("\n".join(f"what does animal {n} eat?" for n in range(30)))
    for config in (AuditConfig(), AuditConfig(query_log=tmp_path / "log.txt", model=BASE)):
        text = card(examine(folder, config)[0])
        tables = tables_of(text)
        assert len(tables) == 4
        assert all(len(set(rows)) == 1 and len(rows) > 2 for rows in tables), text
        assert "](figures/hardness.png)" in text
        assert "![Distribution of the positive's score less the negative's by bm25, per kind: bm25: median" in text
        assert "\n\n\n" not in text
    assert "of the log they were compared with" in text


def test_nothing_of_labelled_data_is_called_generated(build_animals):
    folder = build_animals("labelled")
    add_scores(folder)
    result = examine(folder, AuditConfig())[0] | {"generated": {}}
    text = card(result)
    assert "## How the queries look, and how hard the negatives are\n\n| queries |" in text
    assert "generated" not in text


def test_without_scores_of_all_kinds_it_says_so(build_animals):
    folder = build_animals("bare")
    result, files = examine(folder, AuditConfig())
    assert files == {}
    why_not = (
        "no scorer has scored the negatives of all kinds (scores by: bm25); name a cross-encoder with --score-with"
    )
    assert result["hardness"] == {"why_not": why_not}
    assert "Hardness was not measured: no scorer has scored the negatives of all kinds" in card(result)
    add_scores(folder)
    with pytest.raises(UserError, match=r"--scorer dense: the data set has no configuration scores-dense; .* by: bm25"):
        examine(folder, AuditConfig(scorer="dense"))


def test_a_cross_encoder_scores_all_kinds_when_asked(build_animals, tmp_path):
    folder, model = build_animals("asked"), tiny_model(tmp_path / "judge")
    result, files = examine(folder, AuditConfig(score_with=str(model)))
    told = result["hardness"]
    assert told["scorer"] == "judge"
    rows = load(folder, "random")
    assert {kind: (each["negatives"], each["scored"]) for kind, each in told["kinds"].items()} == dict.fromkeys(
        ("bm25", "llm", "random"), (len(rows), len(rows))
    )
    assert set(files) == {"figures/hardness.png", "figures/hardness.svg"}
    encoder = CrossEncoder(str(model), max_length=256)
    positives, negatives = (
        encoder.predict([(row["query"], row[column]) for row in rows]) for column in ("positive", "negative_1")
    )
    assert told["kinds"]["random"]["quantiles"]["0.5"] == pytest.approx(np.median(positives - negatives), abs=2e-4)


def test_the_command(build_animals, tmp_path):
    folder = build_animals("commanded")
    before = (folder / "manifest.json").read_bytes()
    command = [sys.executable, "-m", "builders.realism"]

    def run(*arguments):
        return commands.run([*command, *arguments], capture_output=True, text=True, check=False)

    done = run(str(folder), "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("## How real the generated texts look")
    assert (folder / "manifest.json").read_bytes() == before
    for arguments, words in (
        ((str(tmp_path / "no"),), "no: empty or not there; build it first: python -m builders.build RECIPE"),
        ((str(folder), "--sampled", "5"), "error: --sampled 5: Expected `int` >= 100"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_sample_depends_on_ids_alone():
    table = pa.table({"_id": [f"t{number}" for number in range(500)]})
    config = AuditConfig(sampled=100)
    drawn = set(examine_module.drawn(table, config)["_id"].to_pylist())
    assert len(drawn) == 100
    turned = table.take(pa.array(range(499, -1, -1)))
    assert set(examine_module.drawn(turned, config)["_id"].to_pylist()) == drawn

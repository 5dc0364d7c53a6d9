"""A sample to a person and back, through spreadsheets that damage it."""

import csv
import itertools

import pytest

from builders.audit.__main__ import Options, main
from builders.audit.exchange import CELL_CHARS, pair_id
from builders.audit.false_negatives import draw, sampled_pairs
from builders.dataset.read import DataSet
from foils.errors import UserError
from tests.builders.audited import a_dataset, fill, numbered

EVIL = '=HYPERLINK("http://x"), a "quote";\ta tab\nand a line\u2028 \x85 é 猫'


@pytest.fixture
def houses(tmp_path):
    return numbered(tmp_path / "houses", count=60)[0]


@pytest.fixture
def exported(houses, tmp_path):
    """A data set and an exported sample of it."""
    file = tmp_path / "sample.csv"
    main(houses, Options(export_to=file, sample=20))
    return houses, file


def by_hand(row):
    return "yes" if "owners" in row["passage"] else "no"


def read(file):
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def kinds_of(houses, file):
    return main(houses, Options(import_from=file, sample=20))["kinds"]


def test_the_person_sees_query_positive_and_passage_and_not_the_kind(exported):
    houses, file = exported
    rows = read(file)
    assert len(rows) == sampled_pairs(draw(DataSet(houses), 42), 20).num_rows == 40
    assert list(rows[0]) == ["pair", "query", "positive", "passage", "relevant"]
    assert {row["relevant"] for row in rows} == {""}
    text = file.read_text("utf-8-sig")
    assert not any(word in text for word in ("bm25", "random", "other", "also"))
    for row in rows:
        number = row["query"].removeprefix("who owns house number ").rstrip("?")
        assert row["positive"] == f"House number {number} belongs to family {int(number) * 7}."
    kinds = ["random" if row["query"].split()[-1][:-1] not in row["passage"] else "bm25" for row in rows]
    assert kinds != sorted(kinds)
    assert kinds != sorted(kinds, reverse=True)


def reordered(rows):
    names = {"relevant": " Relevant", "note": "note", "pair": "PAIR ", "passage": "passage"}
    return [{new: row.get(old, "") for old, new in names.items()} for row in reversed(rows)]


@pytest.mark.parametrize(
    ("change", "form"),
    [
        (list, {"encoding": "utf-8-sig"}),
        (list, {"encoding": "cp1252", "delimiter": ";"}),
        (list, {"encoding": "utf-16", "delimiter": "\t"}),
        (list, {"lineterminator": "\n", "quoting": csv.QUOTE_ALL}),
        (reordered, {}),
    ],
)
def test_a_filled_export_comes_back_as_any_spreadsheet_saves_it(exported, change, form):
    houses, file = exported
    truly = sampled_pairs(draw(DataSet(houses), 42), 20)["corpus-id"].to_pylist()
    yes, no = itertools.cycle(["yes", "YES", "1", "TRUE", "y"]), itertools.cycle(["no", " NO ", "0", "FALSE", "n"])
    fill(file, lambda row: next(yes) if by_hand(row) == "yes" else next(no), change, **form)
    kinds = kinds_of(houses, file)
    assert {kind: (about["judged"], about["unjudged"]) for kind, about in kinds.items()} == {
        "bm25": (20, 0),
        "random": (20, 0),
    }
    assert kinds["bm25"]["relevant"] == sum(passage.startswith("also") for passage in truly) > 0
    assert kinds["random"]["relevant"] == 0


def test_rows_without_an_answer_and_rows_that_are_gone_are_unjudged(exported):
    houses, file = exported
    fill(file, lambda row: "no" if int(row["pair"][1:], 16) % 2 else "", lambda rows: [{**rows[0]}, *rows[3:], {}])
    kinds = kinds_of(houses, file)
    judged = sum(row["relevant"] == "no" for row in read(file))
    assert 0 < judged < 38
    assert kinds["bm25"]["judged"] + kinds["random"]["judged"] == judged
    assert kinds["bm25"]["unjudged"] + kinds["random"]["unjudged"] == 40 - judged
    assert kinds["bm25"]["relevant"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [*rows, {**rows[0], "pair": "p0123456789abcdef"}],
            r"line 42: pair 'p0123456789abcdef' is not in this sample; wanted a file that was exported from this",
        ),
        (
            lambda rows: [*rows, {**rows[0], "relevant": "yes"}],
            r"line 42: pair 'p\w+' stands on line 2 already; keep one of the two",
        ),
        (
            lambda rows: [*rows[:3], {**rows[3], "relevant": "perhaps"}, *rows[4:]],
            r"line 5: relevant is 'perhaps'; wanted yes, no, 1, 0, TRUE or FALSE, or nothing for no verdict",
        ),
        (
            lambda rows: [{key: row[key] for key in ("query", "relevant")} for row in rows],
            r"line 1 has no column 'pair', or two; it has query, relevant",
        ),
    ],
)
def test_what_can_be_mistaken_is_refused_with_its_line(exported, change, message):
    houses, file = exported
    fill(file, lambda _: "no", change)
    with pytest.raises(UserError, match=message):
        kinds_of(houses, file)


def test_files_that_are_no_exports_are_refused(exported, tmp_path):
    houses, _ = exported
    with pytest.raises(UserError, match=r"--import .*none.csv: cannot be read \(No such file or directory\)"):
        kinds_of(houses, tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match=r"empty.csv: line 1 has no column 'pair', or two; it has nothing; save the"):
        kinds_of(houses, tmp_path / "empty.csv")


def test_a_filled_file_is_never_written_over(exported):
    houses, file = exported
    with pytest.raises(UserError, match=r"sample.csv: is there already, maybe with answers in it; name another file"):
        main(houses, Options(export_to=file))


def test_lines_are_counted_as_an_editor_shows_them_and_texts_cannot_break_out(tmp_path):
    passages = {"p": EVIL, "long": "x" * 50_000, "n": "-1 is below zero"}
    chosen = {"bm25": [("q", "long"), ("q", "n")], "llm": [("q", "q/llm1")]}
    generated = [("q/llm1", "@SUM(1)", "q")]
    folder = a_dataset(tmp_path / "evil", passages, {"q": EVIL}, [("q", "p")], chosen, generated)
    file = tmp_path / "evil.csv"
    main(folder, Options(export_to=file))
    rows = read(file)
    assert [row["query"] for row in rows] == ["'" + EVIL] * 3
    assert {row["passage"] for row in rows} == {"x" * CELL_CHARS, "'-1 is below zero", "'@SUM(1)"}
    fill(file, lambda _: "no")
    kinds = kinds_of(folder, file)
    assert (kinds["bm25"]["judged"], kinds["llm"]["judged"]) == (2, 1)
    fill(file, lambda row: "" if row["pair"] != rows[2]["pair"] else "perhaps")
    file.write_bytes(file.read_bytes().replace(b"\r\n", b"\r\n\r\n"))  # empty lines count too
    line = next(n for n, text in enumerate(file.read_bytes().split(b"\n"), 1) if rows[2]["pair"].encode() in text)
    with pytest.raises(UserError, match=rf"line {line}: relevant is 'perhaps'"):
        kinds_of(folder, file)


def test_ids_that_look_like_numbers_do_not_clash():
    assert pair_id("1", "23") != pair_id("12", "3")

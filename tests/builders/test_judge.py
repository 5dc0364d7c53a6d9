"""Judging what compared systems found: quotes, failures, errors, what is written, and the next comparison."""

import json
import re
import shutil
from collections import Counter

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import build, schema
from builders.dataset.folder import amend
from builders.dataset.read import DataSet
from builders.judge.__main__ import Options, main
from builders.judge.pool import asked_about
from builders.prompts import load_prompt
from builders.recipe import BuildRecipe
from builders.scores.llm_judge import QUOTING, quoted_in
from cards.verify.artefact import find
from cards.verify.dataset import dataset_links
from cards.verify.exam import check_exam
from cards.verify.links import BrokenError
from foils.comparison import COMPARISON, read_comparison
from foils.errors import UserError
from foils.evidence import read_rankings
from foils.metrics import top
from foils.recipe import load_recipe
from foils.texts import is_quote
from tests.chat_server import ChatServer, about_animals, last_user_message
from tests.conftest import ANIMALS, SHARED, as_corpus
from tests.eval.conftest import compare
from tests.fixtures import tiny
from tests.fixtures.publications import local

MINI = SHARED / "models" / "cross-encoder-mini"
KEY = "sk-canaryOfTheJudge"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set with an exam of four queries, and a comparison of one arm with the base and BM25 on it."""
    folder = tmp_path_factory.mktemp("judge")
    corpus, base = as_corpus(folder / "animals", ANIMALS), tiny.retriever("mean", folder / "tiny", length=32)
    with ChatServer() as server:
        server.script = about_animals
        (folder / "build.toml").write_text(
            f'name = "judge"\n[corpus]\nsource = "{corpus}"\nsample = 8\nlicense = "cc0-1.0"\n[exam]\nqueries = 4\n'
            f'[llm]\nbase_url = "{server.url}"\nmodel = "scripted"\n[queries]\nround_trip_k = 3\n'
            '[negatives]\nkinds = ["bm25", "random"]\n'
        )
        build.main(load_recipe(folder / "build.toml", [], BuildRecipe), folder / "dataset", folder / "calls.sqlite")
    (folder / "train.toml").write_text(
        f'dataset = "x"\nkind = "bm25"\nbase = "{base}"\nmax_seq_length = 32\n'
        "[trainer]\nmax_steps = 1\nper_device_train_batch_size = 4\n"
    )
    (folder / "compare.toml").write_text(
        f'name = "c"\ndataset = "{folder / "dataset"}"\ntraining = "{folder / "train.toml"}"\n'
        f'out = "{folder / "out"}"\narms = ["bm25"]\nseeds = [1]\n'
    )
    finished = compare(folder / "compare.toml")
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"Recall@100 +judged@10\n", finished.stdout)
    return folder


@pytest.fixture
def judge(made, tmp_path, chat_server, monkeypatch):
    """Judges the comparison's hits by an LLM that `script` stands for; returns the judged data set's folder."""
    monkeypatch.setenv("JUDGE_KEY", KEY)

    def judged(script, comparison=made / "out", out=tmp_path / "judged", dataset=made / "dataset", **options):
        chat_server.script = script
        overrides = (f"llm.base_url={chat_server.url}", "llm.concurrency=2", "llm.api_key_env=JUDGE_KEY")
        options = {"recipe": made / "build.toml", "overrides": overrides, **options}
        return main(dataset, Options((comparison,), store=tmp_path / "calls.sqlite", out=out, **options))

    return judged


def roles(made):
    """Four animals that were found and not asked for: one that answers all, a misquoted, a silent, a refused one."""
    asked = {row["corpus-id"] for row in rows(made / "dataset", "default")}
    return sorted({passage for _, passage in pool_of(made)} - asked)[:4]


def shown(body):
    """The query that a judge is shown, and the animal that the passage is about."""
    query, passage = re.fullmatch(r"Query: (.*)\nPassage: (.*)", last_user_message(body)).groups()
    return query, passage.split()[0].lower()


def knows(made):
    """An LLM that says yes for the animal that is asked for, and for the others what their roles are."""
    always, misquoted, silent, refused = roles(made)

    def script(body, _):
        passage = last_user_message(body).partition("\nPassage: ")[2]
        query, animal = shown(body)
        if animal == silent:
            return "I cannot say."
        if animal == refused:
            return (400, {}, '{"error": {"message": "this passage is refused"}}')
        if animal == misquoted:
            return 'yes: "it is made of green cheese"'
        words = " ".join(passage.split()[2:6])
        return f'yes: "{words}"' if animal in {re.findall(r"\w+", query)[-1], always} else "no"

    return script


def rows(folder, config):
    return pq.read_table(folder / config).to_pylist()


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def pairs_of(table):
    return [(row["query-id"], row["corpus-id"]) for row in table]


def pool_of(made):
    """Query and passage of all systems' hits that have no judgement."""
    rankings = read_comparison(made / "out").rankings["judge"]
    assert rankings.keys() == {"base", "bm25-seed1", "BM25"}
    found = [read_rankings(made / "out" / file) for file in rankings.values()]
    hits = {(query, hit[0]) for each in found for query, ranked in each.items() for hit in top(ranked, 10)}
    return hits - set(pairs_of(rows(made / "dataset", "default")))


def test_quotes_are_checked_and_failures_are_no_zeros(made, judge, capsys, chat_server):
    before, pool, (always, misquoted, *failing) = local(made / "dataset"), pool_of(made), roles(made)
    folder = judge(knows(made))
    assert local(made / "dataset") == before
    known, stated = rows(made / "dataset", "default"), rows(folder, "default")
    assert stated[: len(known)] == known
    added = stated[len(known) :]
    assert set(pairs_of(added)) == {pair for pair in pool if pair[1] not in failing}
    assert {row["corpus-id"] for row in added if row["score"]} == {always}
    (about,), failed = manifest(folder)["judges"], [pair for pair in pool if pair[1] in failing]
    relevant, misquotes = ([pair for pair in pool if pair[1] == name] for name in (always, misquoted))
    assert (about["pairs"], about["relevant"], about["outside"]) == (len(added), len(relevant), len(relevant))
    assert (about["failed"], about["false_quotes"], about["systems"]) == (len(failed), len(misquotes), 3)
    assert (about["positives"], about["missed"]) == (4, 0)
    drawn = [row for row in rows(folder, "judgements") if row["of"] == "random"]
    assert [about["random"], about["alarms"]] == [
        sum(row["corpus-id"] not in failing for row in drawn), sum(row["corpus-id"] == always for row in drawn),
    ]  # fmt: skip
    quotes = {row["corpus-id"]: row["quote"] for row in rows(folder, "judgements") if row["score"]}
    assert quotes[always] == " ".join(ANIMALS[always].split()[1:5])
    output = capsys.readouterr().out
    assert f"{len(relevant)} relevant, {len(added) - len(relevant)} not ({len(misquotes)} for a quote" in output
    assert f"{len(failed)} failed\n" in output
    assert not [link for link in dataset_links(find(str(folder))) if link.status == "broken"]
    assert f"called 0 of 4 known positives not relevant, and {about['alarms']} of" in (folder / "README.md").read_text()
    assert manifest(folder)["usage"]["exam-judge"]["calls"] < len(chat_server.bodies)  # refusals do not count
    assert f"Bearer {KEY}" in chat_server.headers[0].values()
    assert not [path for path, content in local(folder.parent).items() if KEY.encode() in content]


def test_nothing_is_paid_for_twice_and_nothing_replaced(made, judge, chat_server, caplog, tmp_path):
    given, script = Counter(), knows(made)

    def counted(body, number):
        given[shown(body)] += 1
        return script(body, number)

    with pytest.raises(UserError, match="answered 401"):
        judge(lambda body, number: (401, {}, "") if number > 10 else counted(body, number))
    assert not (tmp_path / "judged").exists()
    first = judge(counted)
    assert {number for (_, animal), number in given.items() if animal not in roles(made)[2:]} == {1}
    caplog.set_level("INFO")
    calls = len(chat_server.bodies)
    assert judge(script) == first
    assert "is judged and nothing that shapes it has changed: nothing to do" in caplog.text
    assert len(chat_server.bodies) == calls
    with pytest.raises(
        UserError, match="judged: it holds another data set, or other judgements; name another with --out"
    ):
        judge(script, seed=7)
    other = judge(script, out=tmp_path / "other")
    assert {shown(body)[1] for body in chat_server.bodies[calls:]} == {roles(made)[3]}  # refusals are not stored
    assert (other / "manifest.json").read_bytes() == (first / "manifest.json").read_bytes()


def test_judging_goes_on_from_what_was_judged(made, judge, tmp_path):
    first, refused = judge(knows(made)), roles(made)[3]
    answers = lambda body, number: "no" if shown(body)[1] == refused else knows(made)(body, number)  # noqa: E731
    folder = judge(answers, dataset=first, out=tmp_path / "more")
    one, two = manifest(folder)["judges"]
    assert (two["positives"], two["missed"], two["false_quotes"]) == (4, 0, 0)
    added = rows(folder, "default")[len(rows(first, "default")) :]
    assert {(row["corpus-id"], row["score"]) for row in added} == {(refused, 0)}
    assert two["pairs"] == len(added) == one["failed"] - two["failed"] > 0
    assert {"exam-judge", "exam-judge-2"} < manifest(folder)["usage"].keys()
    check_exam(find(str(folder)))


def agrees(body, _):
    return f'yes: "{" ".join(last_user_message(body).split("Passage: ")[1].split()[1:5])}"'


def test_a_judge_that_says_yes_to_everything_is_refused(judge, tmp_path):
    words = (
        r"judge scripted: it misses 0 of 4 known positives .* and calls 4 of 4 random passages .*no better than chance"
    )
    with pytest.raises(UserError, match=words):
        judge(agrees)
    assert not (tmp_path / "judged").exists()


def test_a_judge_is_measured_where_an_llm_found_all_answers(made, judge, tmp_path):
    known = [{**row, "of": "pool", "quote": "of another judge"} for row in rows(made / "dataset", "default")]
    said = {"judgements": pa.Table.from_pylist(known, schema.JUDGEMENTS)}
    amend(made / "dataset", {}, said, out=tmp_path / "found")
    with pytest.raises(UserError, match=r"misses 0 of 0 known positives .* calls 4 of 4 random passages .*no better"):
        judge(agrees, dataset=tmp_path / "found")


def test_a_comparison_that_is_named_twice_counts_once(made):
    asked = asked_about(DataSet(made / "dataset"), [made / "out", made / "out" / COMPARISON], 9, 1)
    assert len(asked.systems) == 3


def test_a_comparison_of_another_revision_of_the_corpus_is_refused(made, tmp_path):
    kept, corpus = {row["corpus-id"] for row in rows(made / "dataset", "default")}, rows(made / "dataset", "corpus")
    fewer = pa.Table.from_pylist([row for row in corpus if row["_id"] in kept], schema.CORPUS)
    amend(made / "dataset", {}, {"corpus": fewer}, out=tmp_path / "fewer")
    with pytest.raises(
        UserError, match=r"fewer: \d+ hits of the compared systems, such as '\w+', are not among its pas"
    ):
        asked_about(DataSet(tmp_path / "fewer"), [made / "out"], 9, 1)


def test_a_judge_without_any_answer_is_an_error(judge, tmp_path):
    with pytest.raises(
        UserError, match=r"exam-judge: none of .* rows has a usable answer: no-verdict \d+ \(another LLM, with"
    ):
        judge(lambda *_: "Let me think about it.")
    assert not (tmp_path / "judged").exists()


def test_the_next_comparison_counts_them_and_trains_nothing_anew(made, judge, tmp_path):
    folder = judge(knows(made))
    shutil.copytree(made / "out", tmp_path / "out")
    old = read_comparison(tmp_path / "out")
    finished = compare(made / "compare.toml", f"dataset={folder}", f"out={tmp_path / 'out'}")
    assert finished.returncode == 0, finished.stderr
    trained = "models/bm25-seed1/model.safetensors"
    assert (tmp_path / "out" / trained).read_bytes() == (made / "out" / trained).read_bytes()
    new = read_comparison(tmp_path / "out")
    assert new.tables[0].revision != old.tables[0].revision
    for before, after in zip(old.tables[0].rows, new.tables[0].rows, strict=True):
        assert before.metrics["judged@10"] <= 0.1
        assert 0.7 < after.metrics["judged@10"] < 1
        assert after.metrics["Recall@100"] <= 1
    assert set(new.rankings["judge"].values()).isdisjoint(old.rankings["judge"].values())
    assert all((tmp_path / "out" / file).is_file() for file in old.rankings["judge"].values())


def test_comparisons_that_do_not_fit_are_refused(made, judge, tmp_path):
    shutil.copytree(made / "out", tmp_path / "out")
    file = tmp_path / "out" / COMPARISON
    found = read_comparison(file.parent)

    def refused(changed, words):
        file.write_bytes(msgspec.json.encode(changed))
        with pytest.raises(UserError, match=words):
            judge(knows(made), comparison=file)

    refused(msgspec.structs.replace(found, rankings={}), "the rankings of judge are not where it says, or an")
    gone = {"judge": {"base": "results/gone.parquet"}}
    refused(
        msgspec.structs.replace(found, rankings=gone), "run eval.compare again, which trains and measures nothing anew"
    )
    other = [msgspec.structs.replace(task, texts=["another question"] * 4) for task in found.queries]
    refused(
        msgspec.structs.replace(found, queries=other), r"none of its tasks \(judge\) asks the exam of .*dataset; name"
    )


@pytest.mark.parametrize(
    ("config", "change", "words"),
    [
        ("judgements", {"quote": "of green cheese"}, "'of green cheese' is not in the passage that it is quoted from"),
        ("judgements", {"score": 0}, "a verdict on .* is not in default"),
        ("default", {"score": 2}, "a verdict on .* is not in default"),
        (
            "judgements",
            {"of": "random"},
            "a judgement is of .*, which is not among the exam's groups and was not judged",
        ),
    ],
)
def test_judgements_that_were_tampered_with_are_found(made, judge, config, change, words):
    folder, always = judge(knows(made)), roles(made)[0]
    check_exam(find(str(folder)))
    (file,), changed = (folder / config).glob("*.parquet"), rows(folder, config)
    place = next(
        number
        for number, row in enumerate(changed)
        if row["corpus-id"] == always and row["score"] == 1 and row.get("of", "pool") == "pool"
    )
    changed[place] |= change
    pq.write_table(pa.Table.from_pylist(changed, pq.read_schema(file)), file)
    with pytest.raises(BrokenError, match=words):
        check_exam(find(str(folder)))


@pytest.mark.skipif(not MINI.exists(), reason="the cross-encoder is not here")
def test_a_cross_encoder_judges_by_a_threshold(made, judge):
    folder = judge(None, judge="cross-encoder", model=str(MINI), recipe=None)
    (about,) = manifest(folder)["judges"]
    assert (about["positives"], about["random"], about["failed"]) == (2, 2, 0)
    assert about["rule"].startswith("it scores ")
    assert len(rows(folder, "default")) == 4 + len(pool_of(made)) == 4 + about["pairs"]


def test_the_prompts_examples_quote_their_passages():
    prompt = load_prompt(QUOTING)
    found = [quoted_in(turn.answer, turn.input.partition("Passage: ")[2])[0] for turn in prompt.turns]
    assert found == [1.0, 0.0, 0.0, 1.0]


PASSAGE = 'Hedgehogs sleep from November. Before that it must weigh at least 450 grams, or "its fat" will not last.'


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("**Yes**: \u201cbefore that it must weigh\u201d", 1.0), ('Yes\n"Before that it must weigh at least"', 1.0),
        ('Answer: yes\nQuote: "Before that it must weigh"', 1.0), ("yes - it must weigh at least 450 grams", 1.0),
        ('{"verdict": "yes", "quote": "it must weigh at least 450 grams"}', 1.0),
        ('{"relevant": "yes", "reason": "it tells the weight of a hedgehog", "quote": "must weigh at least 450"}', 1.0),
        ('```json\n{"answer": "no", "quote": ""}\n```', 0.0), ('Here it is:\nyes: "it must weigh at least"', 1.0),
        ('yes, as "it must weigh at least 450 grams" and not "less than that"', 1.0), ("No. It is about nests.", 0.0),
        ('yes: "Hedgehogs sleep ... must weigh at least 450"', None), ('yes: "or "its fat" will not last"', 1.0),
        ('yes: "Hedgehogs sleep from ... must weigh at least 450"', 1.0), ('yes: "it weighs a kilogram"', 0.0),
        ('yes: "450 grams"', None), ("yes", None), ("Yes, the passage says so.", None), ("yes and no", None),
        ("No, I'm sorry, but I can't help with that request.", None),
        ('{"answer": "yes", "passage": "it must weigh at least 450 grams", "quote": "made up by the judge"}', 0.0),
        ('yes: "450 pounds of fat it has" "Hedgehogs sleep from November"', 0.0), ('yes: "eigh at least 450 gra"', 0.0),
        ("no doubt it is", None), ("<answer>yes</answer>", None), ("Yesterday it must weigh", None), ("", None),
    ],
)  # fmt: skip
def test_answers_with_quotes(answer, verdict):
    assert quoted_in(answer, PASSAGE)[0] == verdict


def test_quotes_in_scripts_without_spaces():
    passage = "フクロウは夜に小さなネズミを狩り、昼は木の上で眠る。"
    assert [is_quote(quote, passage) for quote in ("小さなネズミを狩り", "昼に小さな魚を狩り", "ネズミ")] == [
        True,
        False,
        None,
    ]

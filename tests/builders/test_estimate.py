"""Dry runs: what a build will cost, told from a few real calls, against what it then costs."""

import hashlib
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from builders import build
from builders.estimate.sample import total_of
from builders.recipe import BuildRecipe
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.chat_server import completion, last_user_message
from tests.fixtures import commands
from tests.fixtures.tasks import task_folder

PRICES = ("llm.prices.input=0.5", "llm.prices.output=1.5")
QUESTIONS = 'exam={queries = 40, types = {"exam-question-v1" = 1}}'


def chance(*parts):
    """A number in [0, 1) that the parts determine."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4], "big") / 2**32


def moody(body, _, rejected=0.2, lost=0.15, copies=0.0):
    """Answers of many lengths; some are too short, some queries fit any passage. The request alone decides which."""
    text, seed = last_user_message(body), body["seed"]
    passage = re.match(r"Passage: (Thing\w+)\. ", text)
    more = "much " * int(40 * chance(seed, "length") ** 2)
    if text.startswith("Document: "):  # an exam's prompt
        name = text.split()[1].rstrip(".")
        answer = f"this is entry {name}" if chance(name) < copies else f"where does {name} belong"
    elif chance(seed, "mood") < rejected:
        answer = "bad"
    elif passage is None:
        matters = " ".join(f"matter{chance(seed, part):.6f}" for part in range(12))  # no two answers are copies
        answer = f"Written for: {text} It speaks of {matters} and answers nothing {more}"
    elif chance(passage[1], "lost") < lost:
        answer = f"what is the number {seed} about?"
    else:
        answer = f"what about the one called {passage[1].lower()}?"
    reply = completion(answer)
    reply["usage"] = {"prompt_tokens": 100 + len(text) // 4, "completion_tokens": len(answer) // 4, "total_tokens": 0}
    return 200, {"Content-Type": "application/json"}, json.dumps(reply)


@pytest.fixture
def recipe(tmp_path, chat_server, write_corpus):
    """Writes a recipe for a corpus of 160 things, of which 120 get a query."""
    chat_server.script = moody
    words = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "sigma", "tau")

    def text(i):
        return " ".join(words[(7 * i + j * j) % len(words)] for j in range(8 + i % 40))

    corpus = write_corpus([(f"p{i}", f"Thing{i}x", f"{text(i)} and this is entry {i}.") for i in range(160)])

    def load(*overrides, kinds='["llm", "llm-with-positive", "random"]'):
        path = tmp_path / "recipe.toml"
        path.write_text(
            f'name = "things"\n[corpus]\nsource = "{corpus}"\nsample = 120\nlanguage = "en"\n'
            f'[llm]\nbase_url = "{chat_server.url}"\nmodel = "scripted"\n[queries]\nround_trip_k = 5\n'
            f"[negatives]\nkinds = {kinds}\n[negatives.llm]\ncount = 2\n"
        )
        return load_recipe(path, overrides, BuildRecipe)

    return load


@pytest.fixture
def dry_run(tmp_path, capsys):
    """Runs an estimate; returns what it printed."""

    def run(recipe, rows=24):
        build.estimate(recipe, tmp_path / "calls.sqlite", rows)
        return capsys.readouterr().out

    return run


def row_of(printed, stage):
    """A row of the table: column -> (value, low, high), in the table's own units."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]
    header = next(line for line in lines if line[0] == "stage")
    cells = next(line for line in lines if line[0] == stage)
    cells.insert(1, "0") if len(cells) < len(header) else None  # totals have no rows
    found = {}
    for column, cell in zip(header[1:], cells[1:], strict=True):
        value, margin, *_ = [*(float(n.replace(",", "")) for n in re.findall(r"\d[\d,.]*", cell)), 0.0, 0.0]
        found[column] = (value, value - margin, value + margin)
    return found


def keys(bodies):
    return Counter(json.dumps(body, sort_keys=True) for body in bodies)


def test_the_build_pays_for_no_call_of_the_sample_again(recipe, dry_run, chat_server, tmp_path):
    printed = dry_run(recipe())
    sampled = keys(chat_server.bodies)
    assert 24 + 2 * 15 < sampled.total() < 200
    assert f"{sampled.total():,} of them new" in printed
    build.main(recipe(), tmp_path / "out" / "d", tmp_path / "calls.sqlite")
    asked = keys(chat_server.bodies)
    assert asked.total() > 3 * sampled.total()
    assert set(asked.values()) == {1}
    printed = dry_run(recipe(*PRICES))
    assert keys(chat_server.bodies) == asked
    assert ", 0 of them new: " in printed
    assert f"in the store now: {asked.total():,} calls of the build, which it does not pay for again" in printed
    left, paid = (float(re.search(rf"{words} ([\d.]+)", printed)[1]) for words in ("left to pay:", "they cost"))
    total, low, high = row_of(printed, "total")["money (USD)"]
    assert low <= paid <= high
    assert left == pytest.approx(max(0, total - paid), abs=1e-4)


def test_the_sample_makes_the_builds_own_calls(recipe, dry_run, chat_server, tmp_path):
    dry_run(recipe())
    sampled = keys(chat_server.bodies)
    chat_server.bodies.clear()
    build.main(recipe(), tmp_path / "out" / "d", tmp_path / "other.sqlite")
    assert sampled.keys() <= keys(chat_server.bodies).keys()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_intervals_hold_what_the_build_then_uses(recipe, dry_run, tmp_path, seed):
    it = recipe(f"seed={seed}", *PRICES)
    printed = dry_run(it)
    build.main(it, tmp_path / "out" / "d", tmp_path / "calls.sqlite")
    manifest = json.loads((tmp_path / "out" / "d" / "manifest.json").read_text())
    usage = manifest["usage"]
    columns = {
        "calls": "calls",
        "tokens in": "prompt_tokens",
        "tokens out": "completion_tokens",
        "money (USD)": "money",
    }
    for column, key in columns.items():
        told, used = row_of(printed, "total")[column], sum(account[key] for account in usage.values())
        value, low, high = told
        assert low <= used <= high, column
        assert 0.4 * value < low < value < high < 1.6 * value, column
    for stage in ("queries", "llm", "llm-with-positive"):
        low, high = row_of(printed, stage)["calls"][1:]
        assert 0.9 * low <= usage[stage]["calls"] <= 1.1 * high, stage  # a dozen intervals at 90 %: one may just miss
    assert row_of(printed, "queries")["rows"] == (120, 120, 120)
    low, high = row_of(printed, "llm-with-positive")["rows"][1:]
    assert low <= manifest["funnel"]["queries that find their passage"] <= high


def test_what_no_sampled_row_showed_may_still_come(recipe, dry_run, chat_server):
    chat_server.script = lambda body, n: moody(body, n, rejected=0, lost=0)
    printed = dry_run(recipe())
    assert row_of(printed, "queries")["calls"] == (120, 120, 120)


@pytest.fixture
def own_exam(tmp_path):
    """People's own queries on the things: three of them on two passages."""
    queries = [("q1", "which one is it"), ("q2", "where is it"), ("q3", "what is it for")]
    (tmp_path / "asked").mkdir()
    return task_folder(tmp_path / "asked", queries, ["q1\tp1\t1", "q2\tp2\t1", "q3\tp2\t1"])


def test_an_exam_is_paid_for_and_says_what_it_can_show(recipe, dry_run, chat_server):
    chat_server.script = lambda body, n: moody(body, n, rejected=0, lost=0)
    plain, printed = (dry_run(recipe("corpus.sample=0", *PRICES, *more)) for more in ((), (QUESTIONS,)))
    assert "measured on 24 of 160 seed passages" in plain
    assert int(re.search(r"measured on 24 of (\d+) seed passages", printed)[1]) <= 120
    assert row_of(printed, "exam")["calls"] == (40, 40, 40)
    of = {stage: row_of(printed, stage)["money (USD)"][0] for stage in ("queries", "exam", "total")}
    assert of["total"] > of["queries"] + of["exam"] > of["queries"]
    assert "exam of 40 queries: with three seeds it can be expected to show a difference of\n" in printed
    assert "  0.033 nDCG@10, with one of 0.034; 160 queries with three seeds: 0.017 (about 120 more calls" in printed
    chat_server.script = lambda body, n: moody(body, n, rejected=0, lost=0, copies=0.5)  # their queries are left out
    printed = dry_run(recipe("corpus.sample=0", *PRICES, QUESTIONS, "exam.seed=43"))
    asked, (calls, *_) = re.search(r"  exam: (\d+) of 24 ", printed), row_of(printed, "exam")["calls"]
    assert 4 < int(asked[1]) < 20
    assert calls == pytest.approx(40 * 24 / int(asked[1]), abs=1)
    chat_server.script = lambda body, n: moody(body, n, rejected=0, lost=0)
    another = (f"exam.llm.base_url={chat_server.url}", "exam.llm.model=another")  # has a budget of its own
    for more, budgeted in (((), of["total"]), (another, of["total"] - of["exam"])):
        printed = dry_run(recipe("corpus.sample=0", *PRICES, QUESTIONS, "llm.budget=9", *more))
        assert float(re.search(r"budget 9 USD: estimated ([\d.]+)", printed)[1]) == pytest.approx(budgeted, rel=0.01)


def test_peoples_own_exam_costs_no_calls_and_its_passages_get_none(recipe, dry_run, own_exam, tmp_path):
    it = recipe("corpus.sample=0", f"exam.source={own_exam}", kinds='["random"]')
    printed = dry_run(it)
    build.main(it, tmp_path / "out" / "d", tmp_path / "calls.sqlite")
    left = json.loads((tmp_path / "out" / "d" / "manifest.json").read_text())["funnel"]["passages left for training"]
    assert f"measured on 24 of {left} seed passages" in printed
    assert left < 160
    assert not re.search(r"^ *exam  ", printed, re.MULTILINE)
    assert "exam of 3 queries: with three seeds it can be expected" in printed


@pytest.mark.parametrize("own", [False, True])
def test_an_exam_that_the_build_refuses_has_no_estimate(recipe, dry_run, own_exam, chat_server, own):
    qrels, few = "".join(f"q1\tp{i}\t1\n" for i in range(90)), "the exam may have 80 passages; set it to 80 or lower"
    Path(own_exam, "qrels", "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{qrels}")
    exam, words = (
        (f"exam.source={own_exam}", r"groups of \d+ passages, and at most half of the 160")
        if own
        else ("exam.queries=81", few)
    )
    with pytest.raises(UserError, match=words):
        dry_run(recipe(exam))
    assert not chat_server.bodies


def test_a_sample_of_all_rows_gives_points(recipe, dry_run, tmp_path):
    it = recipe("corpus.sample=30", *PRICES)
    printed = dry_run(it, 30)
    assert "measured on 30 of 30 seed passages, which is all of it" in printed
    assert "±" not in printed
    build.main(it, tmp_path / "out" / "d", tmp_path / "calls.sqlite")
    usage = json.loads((tmp_path / "out" / "d" / "manifest.json").read_text())["usage"]
    total = row_of(printed, "total")
    assert total["calls"][0] == sum(account["calls"] for account in usage.values())
    assert total["tokens in"][0] == sum(account["prompt_tokens"] for account in usage.values())
    assert total["money (USD)"][0] == pytest.approx(sum(account["money"] for account in usage.values()), abs=1e-4)
    for stage, account in usage.items():
        assert row_of(printed, stage)["wall"][0] == pytest.approx(account["busy_seconds"], rel=0.06, abs=0.06), stage


def test_priming_is_paid_once(recipe, dry_run, chat_server, tmp_path):
    it = recipe("negatives.llm.prompt=hard-negative-primed-v1", "negatives.llm.count=1", kinds='["llm", "random"]')
    chat_server.script = lambda body, n: moody(body, n, rejected=0, lost=0)
    assert row_of(dry_run(it), "llm")["calls"][0] == 121
    build.main(it, tmp_path / "out" / "d", tmp_path / "calls.sqlite")
    usage = json.loads((tmp_path / "out" / "d" / "manifest.json").read_text())["usage"]
    assert usage["llm"]["calls"] == 121


def test_shares_and_reasons(recipe, dry_run, chat_server):
    def script(body, n):
        return moody(body, n, rejected=0, lost=0.4)

    chat_server.script = script
    printed = dry_run(recipe())
    lost = int(re.search(r"round trip: \d+ of 24 .*; dropped: own-passage-not-found (\d+)", printed)[1])
    assert 2 < lost < 20
    assert "  queries: 24 of 24 (100 %)\n" in printed
    assert f"  round trip: {24 - lost} of 24 ({(24 - lost) / 24:.0%})".replace("%", " %") in printed
    assert f"  llm: {2 * (24 - lost)} of {2 * (24 - lost)} (100 %)" in printed
    chat_server.script = moody
    assert re.search(r"queries: \d+ of 24 \(\d+ %\); rejected answers: too-short \d+", dry_run(recipe("seed=7")))


def test_a_build_that_would_accept_nothing_has_no_estimate(recipe, dry_run, chat_server):
    chat_server.script = lambda *_: "bad"
    with pytest.raises(UserError, match=r"queries: none of 24 rows has a usable answer: too-short 72 \(another llm"):
        dry_run(recipe(*PRICES))
    chat_server.script = lambda body, n: moody(body, n, rejected=0, lost=1)
    with pytest.raises(UserError, match=r"round trip: 24 of 24 dropped .*: 24 own-passage-not-found; try"):
        dry_run(recipe("seed=7"))


def command(recipe, tmp_path, *options):
    path = tmp_path / "recipe.toml"
    sets = [word for override in recipe.overrides for word in ("--set", override)]
    return commands.run(
        [
            *(sys.executable, "-m", "builders.build", str(path), *sets, *options),
            *("--store", str(tmp_path / "calls.sqlite"), "--out", str(tmp_path / "out" / "d")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_budget_that_is_too_small_ends_with_2_and_nothing_is_built(recipe, dry_run, tmp_path):
    it = recipe(*PRICES)
    value, low, high = row_of(dry_run(it), "total")["money (USD)"]
    finished = command(recipe(*PRICES, f"llm.budget={0.9 * low}"), tmp_path, "--dry-run")
    assert finished.returncode == 2
    assert "\ntotal " in finished.stdout
    error = finished.stderr.splitlines()[-1]
    assert re.match(r"error: llm\.budget 0\.\d+ USD: the whole build costs about 0\.\d+ ± 0\.\d+,", error)
    assert error.endswith("raise llm.budget, or ask for fewer rows (corpus.sample)")
    for budget, verdict in ((value, "passes it: the build may stop on its way"), (1.1 * high, "stays under it")):
        finished = command(recipe(*PRICES, f"llm.budget={budget}"), tmp_path, "--dry-run")
        assert finished.returncode == 0
        assert re.search(rf"llm\.budget \S+ USD: estimated \S+ ± \S+; the upper end {verdict}\n", finished.stdout)
    assert not (tmp_path / "out").exists()


def test_no_prices_no_money(recipe, tmp_path):
    finished = command(recipe(), tmp_path, "--dry-run", "--sample-rows", "10")
    assert finished.returncode == 0
    assert "measured on 10 of 120 seed passages" in finished.stdout
    assert not re.search("money|USD", finished.stdout)
    assert "tokens out" in finished.stdout
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("calls.")) == [
        *("cache", "corpus", "recipe.toml")
    ]
    priced = command(recipe(*PRICES), tmp_path, "--dry-run", "--sample-rows", "10")
    assert "money (USD)" in priced.stdout


def test_options_that_do_not_go_together(recipe, tmp_path, chat_server):
    for options, words in (
        (("--sample-rows", "5"), "error: --sample-rows belongs to --dry-run without --push"),
        (("--dry-run", "--sample-rows", "1"), "error: --sample-rows 1: wanted 2 or more"),
        (("--dry-run", "--private"), "error: --version and --private belong to --push OWNER/NAME"),
    ):
        finished = command(recipe(), tmp_path, *options)
        assert finished.returncode == 2
        assert finished.stderr.splitlines()[-1].startswith(words)
    assert not chat_server.bodies


def test_wall_time_by_the_concurrency_that_the_sample_reached(recipe, dry_run, chat_server):
    seconds = 0.3  # long beside what a busy machine adds to a call
    chat_server.script = lambda body, n: time.sleep(seconds) or moody(body, n, rejected=0, lost=0)
    printed = dry_run(recipe("llm.concurrency=4", kinds='["random"]'))
    reached = float(re.search(r"in flight at once as in the sample: (\d\.\d) \(queries\), of\n  4 allowed", printed)[1])
    assert 2.5 < reached <= 4
    assert 120 * seconds / 4 < row_of(printed, "queries")["wall"][0] < 120 * seconds / 4 * 2


def simulated(rng, n, rejected):
    """What passages cost with up to three attempts for a query and a negative each: calls, tokens and rows."""
    tries = np.minimum(rng.geometric(1 - rejected, n), 4)
    accepted = (tries < 4) & (rng.random(n) < 0.8)
    calls = np.minimum(tries, 3) + accepted * np.minimum(rng.geometric(1 - rejected, n), 3)
    return {"calls": calls, "tokens": calls * rng.lognormal(3, 0.6, n), "rows": accepted * 1.0}


@pytest.mark.parametrize(("sampled", "population"), [(24, 2000), (24, 40), (60, 2000)])
def test_coverage_is_near_its_level(sampled, population):
    held, runs = Counter(), 200
    for seed in range(runs):
        for name, everything in simulated(np.random.default_rng(seed), population, rejected=0.25).items():
            estimate = total_of(everything[:sampled], population)
            held[name] += abs(everything.sum() - estimate.value) <= estimate.margin
    for name, count in held.items():
        assert 0.85 < count / runs < 0.96, (name, count / runs)


def test_uncertainty_falls_to_none_as_the_sample_grows():
    everything = np.random.default_rng(1).lognormal(0, 1, 400)
    margins = []
    for sampled in (50, 200, 390, 400):
        margins.append(total_of(everything[:sampled], 400).margin)
        spread = everything[:sampled].std(ddof=1)
        assert margins[-1] == pytest.approx(1.66 * np.sqrt(400 * (400 - sampled) / sampled) * spread, rel=0.02)
    assert margins == sorted(margins, reverse=True)
    assert margins[-1] == 0

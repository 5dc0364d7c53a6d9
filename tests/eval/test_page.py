"""The report in a real browser: no error, nothing fetched, figures there, search finds; on a phone, dark, on paper."""

import re
import shutil

import msgspec
import numpy as np
import pytest

from eval.report.files import write_comparison
from eval.report.terminal import bases_table
from eval.statistics.tables import OVERALL, Measured, tables
from foils.comparison import VERSION, ArmChanges, Change, Comparison, Cost, Hit, Pairing, RecipeText, TaskQueries
from foils.metrics import REPORTED
from foils.verdicts import BASE

ARMS = ["none", "random", "bm25", "llm"]
LIFT = {"none": 0.0, "random": 0.0005, "bm25": 0.06, "llm": 0.05}


def measured(task, queries=60, seeds=(1, 2), **lift):
    choice = np.random.default_rng(len(task))
    base = choice.uniform(0.2, 0.8, queries)

    def scores(mean, noise):
        values = base + mean + choice.normal(0, noise, queries)
        return {f"q{n}": dict.fromkeys(REPORTED, float(v)) for n, v in enumerate(values)}

    arms = {arm: {seed: scores(mean, 0.01) for seed in seeds} for arm, mean in {**LIFT, **lift}.items()}
    overlap = {f"q{n}": n / queries for n in range(queries)}
    return Measured(task, "sha256:abc", {BASE: {0: scores(0, 0)}, **arms}, (), overlap, scores(0.02, 0.1))


@pytest.fixture(scope="module")
def found():
    return tables([measured("cats"), measured("birds", bm25=-0.05)], 0.01)


def queries_of(task):
    names = list(task.runs[BASE][0])
    scores = {
        arm: {seed: {"nDCG@10": [found[name]["nDCG@10"] for name in names]} for seed, found in runs.items()}
        for arm, runs in task.runs.items()
    }
    hits = [Hit("p1", "a passage <b>of text</b>", True), Hit("p2", "another", False)]
    change = Change("q1", "what is q1?", 0.2, 0.9, hits, hits[::-1], [("p1", 3, 1), ("p9", None, 2)])
    texts = [f"what is <{name}> & how many?" for name in names]
    arms = [ArmChanges("bm25", [change], []), ArmChanges("llm", [], [change])]
    return TaskQueries(task.task, names, texts, scores, arms)


@pytest.fixture(scope="module")
def comparison(found):
    spent = [Cost(arm, 400, arm != "llm", 0, 0, 0.0, "USD", 3.0 * number, 20.0, 900) for number, arm in enumerate(ARMS)]
    spent[-1] = msgspec.structs.replace(spent[-1], llm_calls=433, llm_tokens=157388, money=0.08)
    return Comparison(
        version=VERSION,
        name="t",
        recipe=RecipeText(""),
        dataset="data",
        training="training/recipes/x.toml",
        base="package:mini",
        base_name="mini",
        arms=tuple(ARMS),
        seeds=(1, 2),
        margin=0.01,
        precision="fp32",
        drift_of_base=None,
        pairs=[Pairing("bm25", "none", ["steps"], ["kind", "batch size"], ["batch size"])],
        tokens_of_a_row={"bm25": 512},
        costs=spent,
        tables=found,
        packages={"mteb": "2"},
        funnel={"passages read": 900, "queries written": 30},
        queries=[queries_of(measured("cats")), queries_of(measured("birds"))],
    )


@pytest.fixture(scope="module")
def page_file(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    write_comparison(folder, comparison)
    return folder / "report.html"


def test_several_bases_stand_side_by_side(comparison):
    short = msgspec.structs.replace(comparison.tables[-1], rows=comparison.tables[-1].rows[:2])
    other = msgspec.structs.replace(comparison, base_name="maxi", arms=("none",), tables=[short])
    header, *lines = [line.split("  ") for line in bases_table([comparison, other]).splitlines()]
    assert [word.strip() for word in header if word] == ["mini", "maxi"]
    assert [line[0].strip() for line in lines] == ARMS
    none, llm = ([word.strip() for word in line if word] for line in (lines[0], lines[-1]))
    assert none[1] == none[2] != ""
    assert len(llm) == 2  # a dash for neither: that base has no such arm
    difference = comparison.tables[-1].rows[-1].difference.mean
    assert llm[1].startswith(f"{difference:+.4f} ")


@pytest.fixture(scope="module")
def browser():
    if not shutil.which("chromium"):
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


def test_what_the_page_says(page_file, found):
    text = page_file.read_text("utf-8")
    advice = re.search(r'<p class="advice">(.*)</p>', text)[1]
    size = r"\+0\.0\d\d nDCG@10 over the base \(0\.\d+\), certainly better \(95 % interval"
    assert re.match(f"Take <code>llm</code>: {size}", advice)
    assert "mini beside 4 arms with 2 seeds each, measured on cats, birds (120 queries)." in text
    assert text.count(" pairs are decided") == 1
    assert "Not controlled: bm25/none differ in more than the recipe names: batch size." in text
    assert "shares most: 74 % of a query's content words" in text
    assert f"<h2>{OVERALL}, 120 queries</h2>" in text
    assert "bm25 is ahead of" in " ".join(found[-1].turned)  # birds turn it round
    assert "what is &lt;q1&gt; &amp; how many?" in text
    assert "<b>of text" not in text
    names = ("forest-base", "pareto")
    figures = {file.name: file.read_bytes() for file in (page_file.parent / "figures").iterdir()}
    assert sorted(figures) == sorted(f"{name}.{form}" for name in names for form in ("png", "svg"))
    assert all(figures[f"{name}.png"].startswith(b"\x89PNG") for name in names)
    assert not re.search(r"(src|href)=.(https?:|//)|@import|url\(['\"]?http", text)


def test_in_a_browser(browser, page_file, tmp_path):
    page = browser.new_page()
    problems, fetched = [], []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(page_file.as_uri())
    figures = page.locator("figure [role=img]")
    assert figures.count() == 2  # beside the base, quality against cost
    assert (
        page.locator(".funnel .bar").nth(1).bounding_box()["width"]
        < page.locator(".funnel .bar").nth(0).bounding_box()["width"] / 20
    )
    assert "llm 0.2, 0.57" in figures.nth(1).get_attribute("aria-label")
    assert "bm25 +0.0" in figures.nth(0).get_attribute("aria-label")
    assert all(figures.nth(number).locator("svg").bounding_box()["width"] > 300 for number in range(2))

    rows = page.locator("table.queries tbody tr")
    assert rows.count() == 120
    assert sum(row.is_visible() for row in rows.all()) == 50
    page.fill("#search", "q17 how")
    assert [row.inner_text()[:14] for row in rows.all() if row.is_visible()] == ["what is <q17> "] * 2
    assert page.locator("#count").inner_text() == "2 of 120 queries"
    page.fill("#search", "")
    assert sum(row.is_visible() for row in rows.all()) == 50

    details = page.locator("details", has_text="bm25: 1 gained").first
    assert not details.locator(".pair").is_visible()
    details.locator("summary").click()
    assert details.locator(".pair li.hit").first.is_visible()
    assert (problems, fetched) == ([], [page_file.as_uri()])
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert page.locator("details:not([open])").count() == 0  # paper has nothing to open


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_in_light_and_dark(browser, page_file, scheme):
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    word = page.locator("td .better").first.bounding_box()
    assert word["x"] + word["width"] <= 390  # the verdict is seen without scrolling
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")

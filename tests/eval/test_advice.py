"""What a comparison advises: the first sentence, what would decide more, and what to be wary of."""

import re

import msgspec
import numpy as np
import pytest

from eval.gathering import model_to_take
from eval.plan import Plan
from eval.recipe import CompareRecipe
from eval.report.advice import recommendation, recommended, warnings
from eval.report.terminal import comparison_text
from eval.report.wording import summary
from eval.statistics.tables import Measured, tables
from foils.comparison import VERSION, Comparison, Cost, Pairing, RecipeText
from foils.errors import UserError
from foils.metrics import REPORTED
from foils.verdicts import BASE


def measured(seeds, base=0.5, spread=0.05, queries=200, overlap=None, by_seed=0.001, **lift):
    """Arms with a lift, or one for each query."""
    choice = np.random.default_rng(4)
    level = choice.normal(base, 0.01, queries)

    def scores(values):
        return {f"q{n}": dict.fromkeys(REPORTED, float(v)) for n, v in enumerate(values)}

    runs = {BASE: {0: scores(level)}}
    for arm, mean in lift.items():
        taste = choice.normal(0, spread, queries)
        runs[arm] = {seed: scores(level + mean + taste - taste.mean() + by_seed * seed) for seed in range(seeds)}
    words = {f"q{n}": n / queries for n in range(queries)} if overlap else {}
    return Measured(
        "own", "sha256:1", runs, (), words, scores(level + 0.3 * np.arange(queries) / queries) if words else {}, True
    )


def comparison(task, **more):
    about = {
        "version": VERSION,
        "name": "t",
        "recipe": RecipeText(""),
        "base": "b",
        "base_name": "mini",
        "precision": "fp32",
    }
    empty = {"drift_of_base": None, "tokens_of_a_row": {}, "costs": [], "packages": {}}
    arms = tuple(arm for arm in task.runs if arm != BASE)
    seeds = tuple(range(len(task.runs[arms[0]])))
    found = {"arms": arms, "seeds": seeds, "margin": 0.01, "tables": tables([task], 0.01)}
    return Comparison(**(about | empty | found | more))


def test_the_best_of_those_that_are_better_is_taken():
    found = comparison(measured(3, titles=0.04, bm25=0.03, none=0.0))
    sentence = recommendation(found)
    assert re.fullmatch(
        r"Take `titles`: \+0\.041 nDCG@10 over the base \(0\.\d{3}\), certainly better "
        r"\(95 % interval \+0\.03\d to \+0\.04\d; 200 queries, 3 seeds\)\.",
        sentence,
    )
    assert comparison_text(found).splitlines()[0] == sentence
    assert recommended(msgspec.structs.replace(found, outside={"titles": "its base is x"})).first == "bm25"
    neither = msgspec.structs.replace(found, outside={"titles": "its base is x", "bm25": "its training is not known"})
    assert recommendation(neither).startswith(
        "Keep the base: nothing that the exam was validated for is certainly better"
    )


def test_one_seed_speaks_of_this_training_and_says_what_more_seeds_take():
    sentence = recommendation(comparison(measured(1, bm25=0.04), seed_seconds=400.0))
    assert sentence.startswith("Take `bm25` as it was trained here: +0.040 nDCG@10 over the base")
    assert "better in this training" in sentence
    assert sentence.endswith("one seed); 2 more seeds, about 13 min, would say whether other trainings are.")


def test_the_base_is_kept_and_what_would_decide_is_said_in_numbers():
    cost = {"exam": "own", "query_seconds": 2.0, "query_money": 0.001, "currency": "EUR"}
    found = comparison(measured(1, spread=0.2, limited=0.012, none=-0.05), **cost)
    sentence = recommendation(found)
    more = re.fullmatch(
        r"Keep the base: nothing is certainly better; about ([\d,]+) more exam queries for about ([\d.]+) EUR, about "
        r"[\d.]+ (min|h), would decide `limited` as it was trained here \(\+0\.012 so far\)\.",
        sentence,
    )
    assert more is not None, sentence
    assert int(more[1].replace(",", "")) > 1000
    assert float(more[2]) == pytest.approx(int(more[1].replace(",", "")) / 1000, rel=0.1)
    assert " more queries would decide" in recommendation(
        msgspec.structs.replace(found, exam="", query_seconds=0.0, query_money=0.0)
    )
    worse = recommendation(comparison(measured(3, llm=-0.05)))
    assert worse == "Keep the base: `llm` (-0.049) is certainly worse."
    one_seed = recommendation(comparison(measured(1, llm=-0.05, none=-0.04)))
    assert one_seed == "Keep the base: `none` (-0.040), `llm` (-0.050) are worse in this training."
    small = recommendation(comparison(measured(1, spread=0.005, bm25=0.004)))
    assert small == "Keep the base: `bm25` is better in this training, but by less than 0.01 (+0.0040)."
    alike = recommendation(comparison(measured(1, spread=0.01, bm25=0.0005)))
    assert alike == "Keep the base: nothing is certainly better; equivalent within 0.01: `bm25` (+0.000)."


def test_hundreds_of_seeds_are_not_advice():
    sentence = recommendation(comparison(measured(2, by_seed=0.02, spread=0.001, limited=-0.008)))
    assert sentence == (
        "Keep the base: nothing is certainly better; it takes more than 20 more seeds to decide `limited` "
        "(+0.002 so far)."
    )


def test_a_comparison_of_given_models_alone_speaks_of_no_trainings():
    task = measured(1, mine=0.04)._replace(given=["mine"])
    found = comparison(task)
    assert "Intervals speak of other queries of this kind; none speaks" in comparison_text(found)
    assert "200 queries, encoded in fp32" in comparison_text(found)
    assert "seed" not in comparison_text(found).replace("seed_", "")


def test_what_to_be_wary_of():
    easy = comparison(measured(1, base=0.97, bm25=0.0), exam="own")
    assert [text for text in warnings(easy) if text.startswith("own is saturated: the untouched base has 0.97")]
    pairs = [Pairing("bm25", "none", [], ["loss", "steps"], ["steps"])]
    found = comparison(measured(3, bm25=0.0), exam="own", outside={"mine": "its base is x"}, pairs=pairs)
    outside, uncontrolled = warnings(found)
    assert outside.startswith("`mine` (its base is x): outside what a generated exam was validated for")
    assert uncontrolled == "Not controlled: bm25/none differ in more than the recipe names: steps."


def test_peoples_own_queries_stand_beside_the_exam_and_are_heard_where_they_contradict():
    exam, own = measured(3, titles=0.04, bm25=0.0), measured(3, titles=-0.04, bm25=0.0)._replace(task="own-own")
    both = msgspec.structs.replace(comparison(exam), exam="own", own="own-own")
    both = msgspec.structs.replace(both, tables=tables([exam, own], 0.01, beside="own-own"))
    assert [table.task for table in both.tables] == ["own-own", "own"]  # no mean of the two
    found = recommendation(both)
    assert found.startswith("Keep the base: `titles` (+0.041) by the exam alone, and worse by people's own queries;")
    said = "titles/untouched base, bm25/titles the other way round; take their word."
    assert warnings(both) == [f"own-own: people's own queries decide {said}"]
    assert any(
        text.startswith("By people's own queries, own-own: equivalent within 0.01: bm25") for text in summary(both)
    )
    assert comparison_text(both).count("Intervals speak of other queries") == 1


def test_an_exam_that_favours_word_matching_is_named_with_its_size():
    task = measured(3, overlap=True, spread=0.01, none=0.0)
    lexical = {
        seed: {
            query: {**run[query], "nDCG@10": run[query]["nDCG@10"] + 0.3 * task.overlap[query] - 0.1} for query in run
        }
        for seed, run in task.runs["none"].items()
    }
    (warning,) = warnings(comparison(task._replace(runs={**task.runs, "lexical": lexical})))
    assert warning.startswith(
        "own: lexical/untouched base, lexical/none change their order with the words that a query"
    )
    assert "it favours word matching: BM25 less the base is +0.2" in warning
    assert "(75 %) and +0.0" in warning


def test_the_model_to_take_lies_under_one_name(tmp_path):
    plan = Plan(
        CompareRecipe("t", "d", "x.toml", arms=("titles", "none"), out=str(tmp_path)), "x.toml", "base", {}, "f"
    )
    made = tmp_path / "models" / "titles-seed1"
    made.mkdir(parents=True)
    for name in ("run.json", "README.md"):
        (made / name).write_text(name)
    better = comparison(measured(3, titles=0.04, none=0.0))
    assert model_to_take(plan, better) == f"to take   {tmp_path / 'model'} (arm titles, seed 1)"
    assert {file.name for file in (tmp_path / "model").iterdir()} == {"run.json", "README.md"}
    (tmp_path / "model" / "README.md").write_text("notes")  # a copy: the run's own model stays as it is
    assert (made / "README.md").read_text() == "README.md"
    neither = comparison(measured(3, titles=0.0, none=0.0))
    assert model_to_take(plan, neither).startswith(f"to take   base; {tmp_path / 'model'}, a copy of what was taken")
    assert model_to_take(plan, neither) == "to take   base"
    assert not (tmp_path / "model").exists()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "run.json").write_text("of a training of one's own")
    for found in (better, neither):
        with pytest.raises(UserError, match="model: not the copy that this comparison put there; move it away"):
            model_to_take(plan, found)
    assert (tmp_path / "model" / "run.json").read_text() == "of a training of one's own"


def test_written_negatives_that_a_classifier_recognises_are_warned_of():
    def costs(area):
        return [
            Cost("llm", 9, False, 9, 9, None, None, 1.0, 1.0, separability=area),
            Cost("b", 9, True, 0, 0, 0, None, 1, 1),
        ]

    task = measured(1, llm=0.01, b=0.0)
    (warned,) = [each for each in warnings(comparison(task, costs=costs(0.971))) if "classifier" in each]
    assert warned.startswith("`llm` (0.971): before any training, a classifier recognised what the LLM wrote (")
    assert not [each for each in warnings(comparison(task, costs=costs(0.89))) if "classifier" in each]

"""Selection: never a positive, at most n, the same whatever the order of candidates and the cuts between batches."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import schema
from builders.passages import Passages
from builders.queries import TABLE
from builders.selection import select
from builders.selection.config import SelectionConfig, Wanted
from builders.selection.frame import Inputs
from foils.errors import UserError
from foils.recipe import decode_config
from foils.texts import normalised

IDS = [f"p{n}" for n in range(8)]
# p6 and p7 are p0 and p1 again, but for case and white space.
BODIES = {**{i: f"body of {i}" for i in IDS[:6]}, "p6": "Body  OF p0", "p7": "body of\np1"}
GENERATED = {"q0/llm1": "written for q0", "q0/llm2": "body OF p2", "q1/llm1": "written for q1"}


def corpus():
    rows = [{"_id": i, "title": "title", "text": body} for i, body in BODIES.items()]
    return Passages(pa.Table.from_pylist(rows, schema.CORPUS))


def passages():
    rows = [{"_id": i, "text": text, "query-id": i[:2], "call-key": ""} for i, text in GENERATED.items()]
    return corpus().and_generated(pa.Table.from_pylist(rows, schema.GENERATED))


TEXTS = dict(
    zip(
        passages().ids.to_pylist(),
        passages().texts(np.arange(len(IDS) + len(GENERATED))).to_pylist(),
        strict=True,
    )
)


def candidates(rankings):
    rows = [
        {"query-id": query, "corpus-id": passage, "rank": rank, "score": None}
        for query, ranking in rankings.items()
        for rank, passage in enumerate(ranking, start=1)
    ]
    return pa.Table.from_pylist(rows, schema.CANDIDATES)


def queries(positives):
    return pa.table(
        {"_id": list(positives), "text": [f"text {q}" for q in positives], "corpus-id": list(positives.values())}, TABLE
    )


def scores(by_pair):
    rows = [{"query-id": q, "corpus-id": p, "score": score} for (q, p), score in by_pair.items()]
    return pa.Table.from_pylist(rows, schema.SCORES)


def inputs(positives, rankings, scored=None, more=()):
    judged = [*positives.items(), *more]
    qrels = pa.table(
        {"query-id": [q for q, _ in judged], "corpus-id": [p for _, p in judged], "score": [1] * len(judged)}
    )
    tables = {kind: candidates(ranking) for kind, ranking in rankings.items()}
    scored = {scorer: scores(values) for scorer, values in (scored or {}).items()}
    return Inputs(queries(positives), qrels.cast(schema.QRELS), tables, scored, passages(), len(IDS))


def config(**rules):
    return decode_config(rules, SelectionConfig, "test")


def fates(selection, kind="bm25"):
    rows = selection.fates.to_pylist()
    return {(row["query-id"], row["corpus-id"]): row["fate"] for row in rows if row["kind"] == kind}


@st.composite
def cases(draw):
    positives = {f"q{n}": draw(st.sampled_from(IDS)) for n in range(draw(st.integers(1, 5)))}
    kinds = draw(st.lists(st.sampled_from(["bm25", "random", "dense"]), min_size=1, max_size=3, unique=True))
    rankings = {
        kind: {query: draw(st.permutations(IDS).map(lambda p: p[: draw(st.integers(0, 8))])) for query in positives}
        for kind in kinds
    }
    more = draw(st.lists(st.tuples(st.sampled_from(sorted(positives)), st.sampled_from(IDS)), max_size=3))
    scored = {(query, passage): draw(st.floats(-3, 3)) for query in positives for passage in IDS}
    rules = {
        "sampling": draw(st.sampled_from(["top", "hardest", "random", "around-positive"])),
        "around_scorer": "s",
        "near_duplicate": 0.0,  # bodies of three words would all be one shingle
        "rank_min": draw(st.integers(1, 2)),
        "rank_max": draw(st.none() | st.integers(2, 8)),
        "max_uses": draw(st.none() | st.integers(1, 3)),
        **draw(
            st.sampled_from(
                [{}, {"relative_margin": {"s": 0.05}}, {"absolute_margin": {"s": 0.5}}, {"floor": {"s": -1}}]
            )
        ),
    }
    names = [*kinds, "+".join(kinds)] if len(kinds) > 1 and draw(st.booleans()) else kinds
    wanted = Wanted((*names, "none"), draw(st.integers(1, 4)), draw(st.integers(0, 9)), config(**rules))
    return inputs(positives, rankings, {"s": scored}, more), wanted


@given(cases())
def test_rules_hold_for_all_candidates(case):
    given_, wanted = case
    selection = select(given_, wanted)
    kept = selection.queries.to_pylist()
    positives = {}
    for row in given_.qrels.to_pylist():
        positives.setdefault(row["query-id"], set()).add(normalised(BODIES[row["corpus-id"]]))
    id_of = {text: passage for passage, text in TEXTS.items()}
    for kind, rows in selection.rows.items():
        negatives = len(rows.column_names) - 2
        assert negatives == (0 if kind == "none" else wanted.per_query)
        assert rows.schema == schema.training(negatives)
        assert rows["query"].to_pylist() == [f"text {query}" for query in kept]
        uses = {}
        for query, row in zip(kept, rows.to_pylist(), strict=True):
            ids = [id_of[row[f"negative_{n + 1}"]] for n in range(negatives)]
            bodies = {normalised(BODIES[i]) for i in ids}
            assert not bodies & positives[query]
            assert len(bodies) == negatives
            found = {i: fate for (q, i), fate in fates(selection, kind).items() if q == query}
            assert [found[i] for i in ids] == [f"negative_{n + 1}" for n in range(negatives)]
            for i in ids:
                uses[i] = uses.get(i, 0) + 1
        if "+" not in kind:
            assert max(uses.values(), default=0) <= (wanted.config.max_uses or len(kept))
    for kind, table in given_.candidates.items():
        assert len(fates(selection, kind)) == table.num_rows
        assert sum(selection.summary[kind].values()) == table.num_rows
    short = {row["id"] for row in selection.drops.to_pylist()}
    assert set(kept) | short == set(given_.queries["_id"].to_pylist())
    assert not set(kept) & short


@given(cases(), st.randoms(use_true_random=False))
def test_neither_order_nor_batches_matter(case, shuffler):
    given_, wanted = case

    def shuffled(table):
        table = table.take(_order(table.num_rows, shuffler))
        cut = shuffler.randint(0, table.num_rows)
        return pa.concat_tables([table.slice(0, cut), table.slice(cut)])

    first = select(given_, wanted)
    again = select(
        given_._replace(
            qrels=shuffled(given_.qrels),
            candidates={kind: shuffled(table) for kind, table in given_.candidates.items()},
            scores={scorer: shuffled(table) for scorer, table in given_.scores.items()},
        ),
        wanted,
    )
    assert again.rows == first.rows
    assert all(fates(again, kind) == fates(first, kind) for kind in wanted.kinds)
    assert again.drops == first.drops


@given(cases(), st.integers(0, 5))
def test_a_query_fares_the_same_in_any_batch_of_queries(case, cut):
    given_, wanted = case
    if wanted.config.max_uses is not None:
        return  # what one query takes there depends on the others, by definition
    whole = select(given_, wanted)
    parts = [select(given_._replace(queries=part), wanted) for part in (given_.queries[:cut], given_.queries[cut:])]
    for kind in wanted.kinds:
        assert pa.concat_tables([part.rows[kind] for part in parts]) == whole.rows[kind]


def _order(size, shuffler: random.Random):
    order = list(range(size))
    shuffler.shuffle(order)
    return pa.array(order, pa.int64())


def test_the_best_ranked_are_taken_and_every_fate_is_recorded():
    rankings = {"bm25": {"q0": ["p0", "p6", "p2", "p3"], "q1": ["p1"]}, "random": {"q0": ["p4"], "q1": ["p5"]}}
    wanted = Wanted(("bm25", "random"), 1, 42, config(near_duplicate=0))
    selection = select(inputs({"q0": "p0", "q1": "p1"}, rankings), wanted)
    assert selection.rows["bm25"].to_pylist() == [
        {"query": "text q0", "positive": TEXTS["p0"], "negative_1": TEXTS["p2"]}
    ]
    assert selection.rows["random"]["negative_1"].to_pylist() == [TEXTS["p4"]]
    assert fates(selection) == {
        ("q0", "p0"): "is-a-positive",
        ("q0", "p6"): "same-text-as-a-positive",
        ("q0", "p2"): "negative_1",
        ("q0", "p3"): "not-needed",
        ("q1", "p1"): "is-a-positive",
    }
    assert fates(selection, "random") == {("q0", "p4"): "negative_1", ("q1", "p5"): "its-query-was-left-out"}
    assert selection.drops.to_pylist() == [
        {"stage": "selection", "id": "q1", "reason": "too-few-negatives", "detail": "bm25: 0 of 1"}
    ]


SCORED = {("q0", "p0"): 2.0, ("q0", "p2"): 1.99, ("q0", "p3"): 1.5, ("q0", "p4"): -4.0}
BELOW_ZERO = {("q0", "p0"): -2.0, ("q0", "p2"): -2.05, ("q0", "p3"): -1.95, ("q0", "p4"): -2.2}


@pytest.mark.parametrize(
    ("rules", "scored", "outcomes"),
    [
        ({"relative_margin": {"s": 0.05}}, SCORED, ["too-close-to-the-positive", "negative_1", "not-needed"]),
        # A share of a negative score lies above it: 95 % of -2 is -1.9, and p3 with -1.95 beats the positive.
        ({"relative_margin": {"s": 0.05}}, BELOW_ZERO, [*["too-close-to-the-positive"] * 2, "negative_1"]),
        ({"absolute_margin": {"s": 1.0}}, SCORED, [*["too-close-to-the-positive"] * 2, "negative_1"]),
        ({"floor": {"s": 1.6}}, SCORED, ["negative_1", "below-the-floor", "below-the-floor"]),
        ({"ceiling": {"s": 1.6}}, SCORED, ["above-the-ceiling", "negative_1", "not-needed"]),
        ({"relabel": {"s": 1.9}}, SCORED, ["relabelled-as-positive", "negative_1", "not-needed"]),
        ({"rank_min": 3}, {}, ["outside-the-ranks", "negative_1", "not-needed"]),
        ({"ceiling": {"s": 3}}, {("q0", "p2"): 1.0}, ["negative_1", "unscored", "unscored"]),
    ],
)
def test_rules(rules, scored, outcomes):
    given_ = inputs({"q0": "p0"}, {"bm25": {"q0": ["p0", "p2", "p3", "p4"]}}, {"s": scored})
    selection = select(given_, Wanted(("bm25",), 1, 42, config(near_duplicate=0, **rules)))
    assert [fates(selection)["q0", passage] for passage in ("p2", "p3", "p4")] == outcomes
    more = [{"query-id": "q0", "corpus-id": "p2", "score": 1}] if "relabel" in rules else []
    assert selection.qrels.to_pylist() == [{"query-id": "q0", "corpus-id": "p0", "score": 1}, *more]


def test_a_relabelled_passage_is_no_kinds_negative():
    rankings = {"bm25": {"q0": ["p2", "p3"]}, "random": {"q0": ["p2", "p4"]}}
    given_ = inputs({"q0": "p0"}, rankings, {"s": {("q0", "p2"): 9.0, ("q0", "p3"): 0.0}})
    rules = {"relabel": {"s": 5.0}, "near_duplicate": 0, "kinds": {"random": {"relabel": {}}}}
    selection = select(given_, Wanted(("bm25", "random"), 1, 42, config(**rules)))
    assert fates(selection, "random") == {("q0", "p2"): "relabelled-as-positive", ("q0", "p4"): "negative_1"}


def test_a_passage_with_the_querys_id_is_neither_a_negative_nor_relabelled():
    rankings = {"bm25": {"p2": ["p2", "p3", "p4"]}, "random": {"p2": ["p2", "p5"]}}
    given_ = inputs({"p2": "p0"}, rankings, {"s": {("p2", "p2"): 9.0, ("p2", "p3"): 0.0, ("p2", "p4"): 0.0}})
    rules = {"near_duplicate": 0, "kinds": {"bm25": {"relabel": {"s": 5.0}}}}
    selection = select(given_, Wanted(("bm25", "random"), 1, 42, config(**rules)))
    assert fates(selection)["p2", "p2"] == fates(selection, "random")["p2", "p2"] == "is-the-query-itself"
    assert [row["corpus-id"] for row in selection.qrels.to_pylist()] == ["p0"]
    judged = select(inputs({"p2": "p0"}, rankings, more=[("p2", "p2")]), Wanted(("bm25",), 1, 42, config()))
    assert fates(judged)["p2", "p2"] == "is-a-positive"


def test_generated_negatives_have_texts_and_cannot_repeat_a_positive():
    rankings = {"llm": {"q0": ["q0/llm2", "q0/llm1"], "q1": ["q1/llm1"]}}
    given_ = inputs({"q0": "p2", "q1": "p1"}, rankings)
    selection = select(given_, Wanted(("llm",), 1, 42, config(near_duplicate=0)))
    assert selection.rows["llm"]["negative_1"].to_pylist() == ["written for q0", "written for q1"]
    assert fates(selection, "llm")["q0", "q0/llm2"] == "same-text-as-a-positive"


def test_the_title_tells_passages_apart_unless_one_has_none():
    rows = [
        ("x100", "Printer X100", "No, it does not."),
        ("y200", "Toaster Y200", "No, it does not."),
        ("bare", "", "\u201cNo\u201d, it does not"),
        ("copy", "", "no it does not"),
        ("whole", "", "Printer\u00a0X100 \u2013 No it does not"),
        ("same", "PRINTER X100", "No, it does not!"),
    ]
    table = pa.Table.from_pylist([{"_id": i, "title": t, "text": x} for i, t, x in rows], schema.CORPUS)
    given_ = inputs({"q0": "x100"}, {"bm25": {"q0": ["y200", "bare", "copy", "whole", "same"]}})
    given_ = given_._replace(passages=Passages(table), corpus_size=len(rows))
    found = fates(select(given_, Wanted(("bm25",), 1, 42, config(near_duplicate=0))))
    assert {passage: fate for (_, passage), fate in found.items()} == {
        "y200": "negative_1",
        "bare": "not-needed",
        "copy": "same-text-as-a-positive",
        "whole": "not-needed",
        "same": "same-text-as-a-positive",
    }
    near = fates(select(given_, Wanted(("bm25",), 1, 42, config(near_duplicate=0.9, rank_min=2))))
    assert near["q0", "bare"] == "near-duplicate-of-a-positive"


def test_near_duplicates_of_any_positive_are_found_among_what_would_be_taken():
    long = "owls hunt mice at night and turn their heads far around to see them"
    rows = [("a", long), ("b", "nothing of the kind"), ("c", f"{long} well"), ("d", "another text of some words")]
    table = pa.Table.from_pylist([{"_id": i, "title": "", "text": t} for i, t in rows], schema.CORPUS)
    given_ = inputs({"q0": "p0"}, {"bm25": {"q0": ["c", "d"]}}, more=[("q0", "a")])
    given_ = given_._replace(passages=Passages(pa.concat_tables([corpus().table, table])), corpus_size=12)
    selection = select(given_, Wanted(("bm25",), 1, 42))
    assert fates(selection) == {("q0", "c"): "near-duplicate-of-a-positive", ("q0", "d"): "negative_1"}


def test_a_passage_serves_as_often_as_it_may():
    positives = {f"q{n}": "p0" for n in range(4)}
    given_ = inputs(positives, {"bm25": {query: ["p1", "p2"] for query in positives}})
    selection = select(given_, Wanted(("bm25",), 1, 42, config(max_uses=2, near_duplicate=0)))
    assert sorted(selection.rows["bm25"]["negative_1"].to_pylist()) == [TEXTS["p1"]] * 2 + [TEXTS["p2"]] * 2
    assert "served-too-often" in fates(selection).values()
    scarce = select(given_, Wanted(("bm25",), 2, 42, config(max_uses=2, near_duplicate=0)))
    assert len(scarce.queries) == 2
    assert [row["detail"] for row in scarce.drops.to_pylist()] == ["bm25: 0 of 2"] * 2


@pytest.mark.parametrize("seed", range(6))
def test_a_query_that_is_left_out_uses_up_nothing(seed):
    """Whatever their turns: the first and the last stay together, or the middle one, which shares with both, alone."""
    rankings = {
        "bm25": {"q0": ["p1"], "q1": ["p1"], "q2": ["p4"]},
        "dense": {"q0": ["p2"], "q1": ["p3"], "q2": ["p3"]},
    }
    given_ = inputs(dict.fromkeys(("q0", "q1", "q2"), "p0"), rankings)
    rules = config(max_uses=1, near_duplicate=0)
    selection = select(given_, Wanted(("bm25", "dense"), 1, seed, rules))
    assert selection.queries.to_pylist() in (["q0", "q2"], ["q1"])


def test_mixes_draw_by_share():
    positives = {f"q{n}": "p0" for n in range(400)}
    rankings = {
        "bm25": {query: ["p1", "p2", "p3"] for query in positives},
        "random": {query: ["p2", "p4", "p5"] for query in positives},
    }
    shares = {"bm25+random": {"bm25": 3.0, "random": 1.0}}
    kinds = ("bm25", "random", "bm25+random")
    one = select(inputs(positives, rankings), Wanted(kinds, 1, 42, config(near_duplicate=0), shares))
    from_bm25 = one.rows["bm25+random"]["negative_1"].to_pylist().count(TEXTS["p1"])
    assert 270 <= from_bm25 <= 330  # 300 expected, standard deviation 8.7
    three = select(inputs(positives, rankings), Wanted(kinds, 3, 42, config(near_duplicate=0), shares))
    for row in three.rows["bm25+random"].to_pylist():
        texts = {row[f"negative_{n}"] for n in (1, 2, 3)}
        assert len(texts) == 3
        assert len(texts & {TEXTS["p4"], TEXTS["p5"]}) <= 1


def test_a_variant_takes_the_same_candidates_by_rules_of_its_own():
    given_ = inputs({"q0": "p0"}, {"bm25": {"q0": ["p1", "p2", "p3"]}})
    rules = config(near_duplicate=0, kinds={"bm25-deep": {"rank_min": 3}})
    wanted = Wanted(("bm25", "bm25-deep", "bm25+bm25-deep"), 1, 42, rules, variants={"bm25-deep": "bm25"})
    selection = select(given_, wanted)
    assert selection.rows["bm25"]["negative_1"].to_pylist() == [TEXTS["p1"]]
    assert selection.rows["bm25-deep"]["negative_1"].to_pylist() == [TEXTS["p3"]]
    assert fates(selection, "bm25-deep")["q0", "p1"] == "outside-the-ranks"


def test_around_the_positive_prefers_scores_near_its_own():
    positives = {f"q{n}": "p0" for n in range(300)}
    rankings = {"bm25": {query: ["p1", "p2", "p3"] for query in positives}}
    near = {"p0": 1.0, "p1": 4.0, "p2": 1.5, "p3": -3.0}
    scored = {(query, passage): score for query in positives for passage, score in near.items()}

    def counts(narrow):
        rules = config(sampling="around-positive", around_scorer="s", around_a=narrow, near_duplicate=0)
        rows = select(inputs(positives, rankings, {"s": scored}), Wanted(("bm25",), 1, 42, rules)).rows["bm25"]
        return [rows["negative_1"].to_pylist().count(TEXTS[passage]) for passage in ("p1", "p2", "p3")]

    assert counts(1.0)[1] >= 297  # weights exp(-9), exp(-.25), exp(-16): nearly all draws fall on p2
    assert min(counts(0.0)) >= 70


def test_the_hardest_is_the_best_of_n_below_the_positive():
    rankings = {"llm": {"q0": ["p1", "p2", "p3", "p4"]}}
    scored = {("q0", f"p{n}"): score for n, score in enumerate([2.0, -1.0, 1.5, 3.0, 0.5])}
    rules = config(sampling="hardest", around_scorer="s", absolute_margin={"s": 0.1}, near_duplicate=0)
    selection = select(inputs({"q0": "p0"}, rankings, {"s": scored}), Wanted(("llm",), 2, 42, rules))
    (row,) = selection.rows["llm"].to_pylist()
    assert [row["negative_1"], row["negative_2"]] == [TEXTS["p2"], TEXTS["p4"]]
    assert fates(selection, "llm")["q0", "p3"] == "too-close-to-the-positive"


@pytest.mark.parametrize(
    ("rules", "wording"),
    [
        ({"rank_min": 5, "rank_max": 2}, r"rank_max 2 is below rank_min 5"),
        ({"kinds": {"bm25": {"rank_max": 0}}}, r"selection\.kinds\.bm25: rank_max: expected `int` >= 1"),
        ({"floor": {"s": 2}, "ceiling": {"s": 1}}, r"floor 2\.0 of s is above its ceiling 1\.0"),
        ({"kinds": {"dense": {}}}, r"selection\.kinds\.dense: not among negatives\.kinds \(bm25\)"),
        ({"kinds": {"bm25": {"rnk_min": 1}}}, r"selection\.kinds\.bm25: unknown key rnk_min; allowed here: rank_min"),
        (
            {"ceiling": {"t": 1}},
            r"'t', and its candidates have none \(scores in this data set: s, silent\); name another",
        ),
        ({"ceiling": {"silent": 1}}, r"'silent', which has scored none of its candidates, such as an LLM that says"),
    ],
)
def test_refusals(rules, wording):
    given_ = inputs({"q0": "p0"}, {"bm25": {"q0": ["p1"]}}, {"s": SCORED, "silent": dict.fromkeys(SCORED)})
    with pytest.raises(UserError, match=wording):
        select(given_, Wanted(("bm25",), 1, 42, config(**rules)))


def test_an_unknown_passage_is_refused():
    with pytest.raises(UserError, match=r"1 passages among candidates .* the first is 'p99'"):
        select(inputs({"q0": "p0"}, {"bm25": {"q0": ["p99"]}}), Wanted(("bm25",), 1, 42))

"""Negatives that the LLM writes: what it is shown, and what is made of its answers."""

import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import queries as queries_module
from builders import schema
from builders.context import Context
from builders.llm.config import LlmConfig
from builders.llm.messages import ChatAnswer, answer_of, body_of
from builders.meta_talk import phrases
from builders.negatives import llm, llm_with_positive, written_checks
from builders.negatives.counterfactual import in_parts
from builders.negatives.written import LlmNegativesConfig
from builders.negatives.written_checks import Style
from builders.prompts import load_prompt
from foils.errors import UserError
from tests.builders.stores import call_key
from tests.scripted_llm import ScriptedLlm


def corpus_of(texts):
    """Passages without titles."""
    rows = [{"_id": f"p{n}", "title": "", "text": text} for n, text in enumerate(texts)]
    return pa.Table.from_pylist(rows, schema.CORPUS)


CORPUS = pa.Table.from_pylist(
    [
        {"_id": "a", "title": "Owls", "text": "Owls hunt mice at night and turn their heads far around."},
        {"_id": "b", "title": "Bees", "text": "Honey bees dance to tell their sisters where flowers bloom."},
    ],
    schema.CORPUS,
)
QUERIES = pa.Table.from_pylist(
    [
        {"_id": "a/q1", "text": "what do owls hunt?", "corpus-id": "a"},
        {"_id": "b/q1", "text": "how do bees talk?", "corpus-id": "b"},
    ],
    queries_module.TABLE,
)
NEGATIVE = "Barn owls nest in church towers and raise their young on what both parents bring home."
NEGATIVES = [
    NEGATIVE,
    "A tawny owl calls from the same old oak all winter long and defends it.",
    "Snowy owls follow the lemmings and lay more eggs in years when these abound.",
    "Bumble bees shiver to warm their flight muscles before they leave the nest.",
    "A swarm of bees hangs in a tree until its scouts agree on a new home.",
]


ONE = QUERIES.slice(0, 1)
OTHERS = NEGATIVES[1:4]


def mined_from(*texts, queries=ONE, corpus=CORPUS, language="en", kind=llm, **config):
    """What becomes of these answers, given in turn (a text, or a whole answer), and what was asked."""
    waiting = list(texts)

    def answer(_):
        text = waiting.pop(0)
        return ChatAnswer(f"key{len(waiting)}", text, "stop", 1, 1, 0.0) if isinstance(text, str) else text

    scripted = ScriptedLlm(answer)
    made = LlmNegativesConfig if kind is llm else llm_with_positive.LlmWithPositiveConfig
    return kind.mine(queries, Context(corpus, language, 42, scripted.converse), made(**config)), scripted.asked


def mine_with(*texts, **config):
    """Ids and texts of what was kept, id, reason and text of what was dropped, and the requests."""
    mined, asked = mined_from(*texts, **config)
    kept = [(row["_id"], row["text"]) for row in mined.generated.to_pylist()]
    return kept, [tuple(row.values())[1:] for row in mined.drops.to_pylist()], asked


def test_the_query_is_all_that_is_shown():
    mined, asked = mined_from(*NEGATIVES, queries=QUERIES, count=2)
    assert [tuple(row.values()) for row in mined.candidates.to_pylist()] == [
        ("a/q1", "a/q1/llm1", 1, None),
        ("a/q1", "a/q1/llm2", 2, None),
        ("b/q1", "b/q1/llm1", 1, None),
        ("b/q1", "b/q1/llm2", 2, None),
    ]
    assert mined.generated["_id"].to_pylist() == mined.candidates["corpus-id"].to_pylist()
    assert [request.messages[-1]["content"] for request in asked[::2]] == [
        "Query: what do owls hunt?",
        "Query: how do bees talk?",
    ]
    assert len({request.seed for request in asked}) == len(asked) == 4  # no priming question for this prompt


def test_the_positive_is_shown_where_the_kind_says_so():
    mined, asked = mined_from(*NEGATIVES, queries=QUERIES, kind=llm_with_positive, passage_chars=24)
    assert len(asked) == 3  # the prompt's priming question comes first
    assert asked[1].messages[-1]["content"] == "Query: what do owls hunt?\nPassage: Owls Owls hunt mice at n"
    assert asked[1].messages[2] == {"role": "assistant", "content": NEGATIVE}
    assert mined.generated["_id"].to_pylist() == ["a/q1/llm-with-positive1", "b/q1/llm-with-positive1"]


def test_priming_comes_first_and_only_once():
    _, (first, *others) = mined_from(*NEGATIVES, queries=QUERIES, prompt="hard-negative-primed-v1", count=2)
    assert first.temperature == 0
    assert len(others) == 4
    for request in others:
        assert [message["role"] for message in request.messages][:3] == ["system", "user", "assistant"]
        assert request.messages[1]["content"] == first.messages[0]["content"]


def test_a_priming_question_that_is_not_answered_is_left_out(caplog):
    thoughts = ChatAnswer("k", "", "length", 1, 1, 0.0, only_reasoning=True)
    mined, asked = mined_from(thoughts, NEGATIVE, prompt="hard-negative-primed-v1")
    assert mined.generated.num_rows == 1
    assert asked[1].messages[1]["content"].startswith("Query:")
    assert "no usable answer to the priming question (only-reasoning)" in caplog.text


WHOLE = {"prompt": "counterfactual-v1"}
OF_FIRST = ONE.set_column(2, "corpus-id", pa.array(["p0"]))  # of a corpus by `corpus_of`
IN_PARTS = f"""Requires: owls; what they hunt
Breaks: what they hunt
Title: **Nests of owls**
Passage: {NEGATIVE}"""


def test_a_whole_passage_comes_with_its_title_and_the_requirement_that_it_breaks():
    mined, asked = mined_from(f"{IN_PARTS}\n\nQuery: how do bees talk?\nRequires: bees", stop=("\n",), **WHOLE)
    (row,) = mined.generated.to_pylist()
    assert (row["text"], row["broken"]) == (f"Nests of owls {NEGATIVE}", "what they hunt")
    assert mined.record == {"words": (10, 20), "unspaced": False}  # the corpus's passages have 10 and 12
    assert asked[0].messages[0]["content"].endswith("what is missing. The passage has 10 to 20 words.")
    assert (asked[0].max_tokens, asked[0].stop) == (700, ())


def test_a_passage_is_as_long_and_in_the_style_that_the_recipe_names():
    _, asked = mined_from(IN_PARTS, length=(80, 400), style="a page of a field guide", **WHOLE)
    wanted = " The passage has 80 to 400 words and reads like a page of a field guide."
    assert asked[0].messages[0]["content"].endswith(wanted)
    assert asked[0].max_tokens == 900


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NEGATIVE, "no-requirements"),
        (IN_PARTS.replace("; what they hunt", ""), "no-requirements"),
        (IN_PARTS.replace("Breaks: what they hunt", "Breaks: nothing"), "breaks-no-requirement"),
        (IN_PARTS.partition("Passage")[0], "no-passage"),
        (IN_PARTS.replace(NEGATIVE, CORPUS["text"][0].as_py()), "positive-copy"),
    ],
)
def test_an_answer_that_is_not_in_parts_is_asked_for_again_and_dropped_with_its_reason(text, reason):
    kept, dropped, asked = mine_with(text, text, attempts=2, **WHOLE)
    assert (kept, len(asked), [each for _, each, _ in dropped]) == ([], 2, [reason])


def test_an_answer_in_parts_that_was_cut_is_called_so():
    cut = ChatAnswer("k", IN_PARTS.partition("Passage")[0], "length", 1, 1, 0.0)
    mined, _ = mined_from(cut, attempts=1, **WHOLE)
    assert mined.drops["reason"].to_pylist() == ["cut"]


def test_passages_have_titles_where_the_corpus_has_them():
    bare = CORPUS.set_column(1, "title", pa.array(["", ""]))
    mined, _ = mined_from(IN_PARTS, corpus=bare, **WHOLE)
    assert mined.generated["text"].to_pylist() == [NEGATIVE]


def test_a_passage_of_the_wanted_length_is_never_too_short():
    long = corpus_of([f"{text} " * 20 for text in NEGATIVES[3:]])
    mined, asked = mined_from(IN_PARTS, queries=OF_FIRST, corpus=long, length=(10, 20), attempts=1, **WHOLE)
    assert mined.generated.num_rows == 1, mined.drops.to_pylist()
    assert "10 to 20 words" in asked[0].messages[0]["content"]


@pytest.mark.parametrize(
    ("requires", "breaks", "broken"),
    [
        ("1. owls\n2. the weight of an owl", "the weight", "the weight of an owl"),
        ("owls, a weight", "a weight", "a weight"),
        ("owls; the weight of the owl", "none of the above", None),
        ("冬眠前的体重; 刺猬", "体重", "冬眠前的体重"),
    ],
)
def test_what_is_broken_is_one_of_the_requirements(requires, breaks, broken):
    text = f"Requires: {requires}\nBreaks: {breaks}\nTitle: “Nests”\nPassage: {NEGATIVE}"
    found = in_parts(ChatAnswer("k", text, "stop", 1, 1, 0.0), load_prompt("counterfactual-v1").parts)
    assert found == "breaks-no-requirement" if broken is None else (found.broken, found.title) == (broken, "Nests")


def test_lengths_count_characters_where_words_have_no_spaces_between_them():
    japanese = corpus_of(["梟は夜に狩りをして鼠を食べる。" * 40, "蜂は巣の中で踊って仲間に花の場所を教える。" * 40])
    mined, asked = mined_from(IN_PARTS, queries=OF_FIRST, corpus=japanese, language="ja", attempts=1, **WHOLE)
    assert "The passage has 590 to 600 characters" in asked[0].messages[0]["content"]
    assert mined.record["unspaced"]


def test_an_answer_in_bold_labels_is_read():
    bold = IN_PARTS.replace("Title:", "**Title:**").replace("Breaks:", "- **Breaks**:").replace("Passage:", "passage:")
    assert mine_with(bold, **WHOLE)[0] == [("a/q1/llm1", f"Nests of owls {NEGATIVE}")]


@pytest.mark.parametrize(("key", "value"), [("length", (80, 160)), ("style", "a page")])
def test_length_and_style_are_for_whole_passages_alone(key, value):
    with pytest.raises(UserError, match=rf"llm.{key}: prompt 'hard-negative-v1' .*; leave .* counterfactual-v1"):
        mine_with(NEGATIVE, **{key: value})


def test_a_length_is_in_order():
    with pytest.raises(ValueError, match=r"length \[9, 3\]; wanted the fewest and the most words, such as \[80, 160\]"):
        LlmNegativesConfig(length=(9, 3))


TWO = "Barn owls nest in church towers.\n\nDr. Lee saw them, e.g. in Kent. Dr. Lee raised their young on mice at home."


@pytest.mark.parametrize(
    "raw",
    [
        TWO,
        f"**Passage:**\n{TWO}",
        f"Sure! Here is a passage about owls:\n\n{TWO}\n\n(Note: This passage does not answer the query.)",
        f"<think>Hm.\nHm.</think>\n\n{TWO}\n\n---\nI hope this helps!",
        f"{TWO}\n\nQuery: how do bees talk?\nHoney bees dance.",
        f"Query: what do owls hunt?\n{TWO}",
        f"{TWO} Barn owls nest in church towers. Dr. Lee saw them",
    ],
)
def test_a_negative_is_kept_whole_and_nothing_else(raw):
    stored = {"text": raw, "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1, "seconds": 1}
    mined, asked = mined_from(answer_of("k", stored))
    assert mined.generated["text"].to_pylist() == [TWO]
    assert asked[0].stop == ()


def test_a_stop_string_is_sent_where_the_recipe_says_so_and_keys_are_what_they_were():
    _, asked = mined_from(NEGATIVE, stop=("\n",))
    body = body_of(asked[0], LlmConfig(model="m"))
    assert call_key(body) == "7b34e127e23cbc02c1ff373c9a32191f5e6df152a29cb7907e74eca8302a1038"


def test_a_cut_negative_ends_with_its_last_whole_sentence():
    cut = ChatAnswer("k", f"{NEGATIVE} They hunt at dusk, says Dr. Lee of the U.S. Then they", "length", 1, 1, 0.0)
    assert mined_from(cut)[0].generated["text"].to_pylist() == [NEGATIVE]


def test_numbered_negatives_may_have_several_lines():
    raw = "Here are two hard negatives:\n\n" + "\n\n".join(
        f"**{n}.** {text.replace(' and ', chr(10) + 'and ')}" for n, text in enumerate(NEGATIVES[:2], 1)
    )
    kept, dropped, _ = mine_with(raw, prompt="hard-negatives-v1", count=2, per_call=2)
    assert ([text for _, text in kept], dropped) == (NEGATIVES[:2], [])


def test_checks_that_the_corpus_breaks_are_reported(caplog):
    texts = [f"{PLAIN} {number}" if number % 3 else "Совы охотятся ночью на мышей" for number in range(30)]
    mixed = pa.concat_tables([CORPUS, corpus_of(texts)])
    assert mined_from(OTHERS[0], corpus=mixed)[0].record == {"checks lifted": ["script"]}
    assert "not checked for what the corpus itself breaks: script" in caplog.text
    assert mined_from(OTHERS[0], corpus=BROAD_AND_OURS)[0].record == {}


def test_an_answer_that_repeats_its_instructions_is_dropped():
    leak = "It shares the topic and many words, although it does not answer the query."
    kept, dropped, _ = mine_with(leak, leak, attempts=2)
    assert (kept, dropped) == ([], [("a/q1/llm1", "prompt-echo", leak)])


SEVERAL = {"prompt": "hard-negatives-v1", "count": 3, "per_call": 2}


def test_several_negatives_come_in_one_answer():
    kept, _, asked = mine_with(f"1. {OTHERS[0]}\n\n2. {OTHERS[1]}", OTHERS[2], **SEVERAL)
    assert kept == [(f"a/q1/llm{number}", text) for number, text in enumerate(OTHERS, start=1)]
    assert [request.messages[-1]["content"] for request in asked] == [
        f"Write {count} hard negatives for this query: what do owls hunt?" for count in (2, 1)
    ]
    assert [request.max_tokens for request in asked] == [256, 128]
    assert {request.stop for request in asked} == {()}


def test_only_what_is_missing_is_asked_for_again():
    kept, _, asked = mine_with(f"{OTHERS[0]}\nToo short.", OTHERS[0], OTHERS[1], OTHERS[2], **SEVERAL)
    assert [text for _, text in kept] == [OTHERS[0], OTHERS[2], OTHERS[1]]
    counts = [request.messages[-1]["content"].split()[1] for request in asked]
    assert counts == ["2", "1", "1", "1"]  # too short, then a repetition; the third by itself, then the repeated one
    assert len({request.seed for request in asked}) == 4


def test_one_text_a_prompt_and_several_a_call_do_not_go_together():
    with pytest.raises(UserError, match=r"negatives\.llm\.per_call 2: prompt 'hard-negative-v1' asks for one text"):
        mined_from(count=2, per_call=2)


def test_the_corpus_language_chooses_the_prompt():
    _, asked = mined_from(OTHERS[0], language="de")
    assert asked[0].messages[0]["content"] == load_prompt("hard-negative-v1.de").system


# Checks on what was written: on one answer, on answers to one query, on answers to many.

PLAIN = "Barn owls nest in church towers and raise their young on what both parents bring home"
BROAD = corpus_of(
    f"{subject} live in the {place} and {habit} when it is dark there."
    for subject, place, habit in itertools.product(
        ("Owls", "Bats", "Moths"), ("wood", "barn", "attic"), ("hunt", "sing", "hide")
    )
)
BROAD_AND_OURS = pa.concat_tables([BROAD, CORPUS])


def style(table=BROAD, language="en", max_tokens=128):
    return written_checks.style_of(table, language, 42, max_tokens)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Sure! Here is a passage about owls that nest in church towers."),
        ("en", "Owls nest in church towers. This passage doesn\u2019t directly answer the question of what they eat."),
        ("en", "As an AI language model, I cannot see owls."),
        ("en", "Passage: Barn owls nest in church towers."),
        ("en", "Owls nest in towers. I hope this helps."),
        ("de", "Gerne! Hier ist ein Text über Eulen im Kirchturm."),
        ("de", "Eulen nisten in Türmen. Dieser Abschnitt beantwortet nicht, was sie fressen."),
        ("fr", "Voici un passage sur les chouettes des clochers."),
        ("es", "Claro, aquí tienes un texto sobre lechuzas."),
        ("it", "Il barbagianni nidifica nelle torri, senza rispondere alla domanda."),
        ("pt", "Aqui está um trecho sobre corujas."),
        ("nl", "Zeker! Hier volgt een tekst over uilen."),
        ("nl", "Sure, here is a text about owls."),  # English in any corpus
    ],
)
def test_a_text_that_speaks_of_itself_is_rejected(language, text):
    used = style(language=language).phrases
    assert written_checks.reject(text, "", Style(phrases=used)) == "meta-talk"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "The query optimizer rewrites the query before an index answers it, and the query is cached."),
        ("en", "The database returns no rows if the query does not match; a passage of the log says why."),
        ("en", "Here is how owls hunt: they listen. Certainly no owl hears a mouse under ice."),
        ("en", "A negative result of this text does not rule out the disease. Sure signs are rare."),
        ("en", "I cannot recommend this hotel; the rooms were small and the staff were rude."),
        ("en", "I'm a nurse and wear these shoes all day. I have owned three pairs of them."),
        ("en", "Note: barn owls are protected by law. Would you like to see one? Come on Friday."),
        ("en", "Dear Ann, let me know if you need the ladder. Yours, Tom."),
        ("de", "Die Suchanfrage wird vom Server gelesen. Natürlich kann sie auch leer sein."),
        ("fr", "La requête est lue par le serveur. Ce passage du Nord mène à la mer."),
        ("es", "La consulta se guarda en la base de datos. Claro que este pasaje es de pago."),
    ],
)
def test_a_text_about_queries_and_passages_is_not(language, text):
    assert written_checks.reject(text, "", Style(phrases=phrases(language))) is None


def test_a_phrase_that_the_corpus_uses_gives_nothing_away():
    text = "Question: where do owls nest? Answer: in towers."
    faq = corpus_of(f"{text} {n}" for n in range(300))
    once = corpus_of([*BROAD["text"].to_pylist() * 11, text])  # one passage in 300 is no use of a phrase
    for table, reason in ((faq, None), (BROAD, "meta-talk"), (once, "meta-talk")):
        assert written_checks.reject(text, "", Style(phrases=style(table).phrases)) == reason
    assert written_checks.reject("Sure, here is one.", "", style(faq)) == "meta-talk"


def test_copies_of_the_positive_are_rejected_and_neighbours_are_not():
    positive = "Owls hunt mice at night and turn their heads far around to hear where these run."
    cases = {
        positive.upper(): "positive-copy",
        positive.replace("mice", "voles"): "positive-copy",
        "Owls hunt mice at night and turn their heads": "positive-copy",  # a piece of it
        f"In short, it is well known by now that {positive} This was seen by many who watched.": "positive-copy",
        "Owls turn their heads far around, since their eyes are fixed in the skull and cannot move.": None,
    }
    for text, reason in cases.items():
        assert written_checks.reject(text, positive, Style()) == reason
        assert written_checks.reject(text, "", Style()) is None


def test_length_is_like_the_corpus_and_never_out_of_the_llms_reach():
    def length(words, **settings):
        return style(corpus_of(f"w{n} " * words for n in range(20)), **settings)[:2]

    assert length(40) == (10, 80)
    assert length(1000) == (16, 2000)  # a few sentences are asked for, not a thousand words
    assert length(5) == (1, 64)
    assert length(5, max_tokens=20) == (1, 10)
    limits = Style(fewest=10, most=80)
    said = {words: written_checks.reject("w " * words, "", limits) for words in (9, 10, 80, 81)}
    assert said == {9: "too-short", 10: None, 80: None, 81: "too-long"}


def test_script_and_language_are_the_corpus_s():
    ours = style()
    assert (ours.script, ours.language) == ("LATIN", "en")
    german = "Die Schleiereule nistet in Kirchtürmen und zieht ihre Jungen mit dem auf, was beide Eltern ihnen "
    german += "in der Nacht in das Nest bringen, und das ist nicht wenig"
    for text, reason in (("Совы охотятся ночью", "other-script"), (german, "other-language"), (PLAIN, None)):
        assert written_checks.reject(text, "", ours) == reason
    # A corpus that is itself in several languages, or in another than the recipe says, holds nobody to one.
    mixed = corpus_of([PLAIN, f"{german}.", "Совы охотятся ночью на мышей"] * 10)
    assert style(mixed)[2:4] == ("", "")


def test_a_copy_of_the_positive_is_asked_for_again():
    positive = CORPUS["text"][0].as_py()
    kept, dropped, asked = mine_with(positive, NEGATIVE)
    assert (kept, dropped) == ([("a/q1/llm1", NEGATIVE)], [])
    assert [request.temperature for request in asked] == pytest.approx([0.7, 0.9])
    assert all(positive not in message["content"] for request in asked for message in request.messages)
    kept, dropped, _ = mine_with(positive, positive, attempts=2)
    assert (kept, dropped) == ([], [("a/q1/llm1", "positive-copy", positive)])


def test_copies_among_the_answers_to_one_query_are_asked_for_again():
    near = NEGATIVE.replace("home", "back")
    # Three tasks of one text each: the second's answer is a copy of the first's, the third goes on undisturbed.
    kept, dropped, asked = mine_with(NEGATIVE, near, OTHERS[0], near, OTHERS[1], count=3)
    assert kept == [("a/q1/llm1", NEGATIVE), ("a/q1/llm2", OTHERS[1]), ("a/q1/llm3", OTHERS[0])]
    assert dropped == []
    assert len({request.seed for request in asked}) == 5
    assert [request.temperature for request in asked] == pytest.approx([0.7, 0.7, 0.7, 0.9, 1.0])
    kept, dropped, _ = mine_with(NEGATIVE, near, OTHERS[0], count=3, attempts=1)
    assert [name for name, _ in kept] == ["a/q1/llm1", "a/q1/llm3"]
    assert dropped == [("a/q1/llm2", "near-copy", near)]


def test_copies_within_one_answer_are_asked_for_again():
    near = NEGATIVE.replace("home", "back")
    kept, dropped, asked = mine_with(f"{NEGATIVE}\n{near}", OTHERS[0], prompt="hard-negatives-v1", count=2, per_call=2)
    assert (kept, dropped) == ([("a/q1/llm1", NEGATIVE), ("a/q1/llm2", OTHERS[0])], [])
    assert len(asked) == 2


def test_a_stock_answer_serves_a_few_queries_and_no_more():
    rows = [{"_id": f"a/q{i}", "text": f"what do owls do {i} times?", "corpus-id": "a"} for i in range(1, 6)]
    queries = pa.Table.from_pylist(rows, queries_module.TABLE)
    kept, dropped, asked = mine_with(*[NEGATIVE] * 5, NEGATIVE.upper(), OTHERS[0], NEGATIVE, queries=queries)
    # The fourth and the fifth query are asked for again: the one twice, the other once.
    assert [text for _, text in kept] == [NEGATIVE] * 3 + [OTHERS[0]]
    assert dropped == [("a/q4/llm1", "stock-answer", NEGATIVE)]
    assert len(asked) == 8
    assert [int(name[3]) for name, _ in kept] == [1, 2, 3, 5]


def test_what_the_endpoint_refuses_is_not_asked_for_again():
    asked = []

    def refuse(_, tasks, *, done, **__):
        for task in tasks:
            asked.append(task.request(0))
            task.refused("no")
            done(task)

    mined = llm.mine(QUERIES, Context(CORPUS, "en", 42, refuse), LlmNegativesConfig())
    assert mined.drops["reason"].to_pylist() == ["endpoint-refused"] * len(asked) == ["endpoint-refused"] * 2


def test_requests_are_what_they_were_before_the_checks():
    """A stored answer is found by its request: seeds, temperatures and order of examples must never change."""
    _, _, asked = mine_with("Short.", "Short.", NEGATIVE, OTHERS[0], count=2)
    assert [
        (request.seed, round(request.temperature, 1), request.messages[1]["content"][:20]) for request in asked
    ] == [
        (927517941, 0.7, "Query: how heavy mus"),
        (681790019, 0.9, "Query: how do I loop"),
        (420124819, 1.0, "Query: how long does"),
        (1047017518, 0.7, "Query: how do I loop"),
    ]


WORDY = st.lists(
    st.sampled_from(["owl", "bat", "elk", "hunts", "sleeps", "flies", "at", "by", "night", "day"]), min_size=1
).map(" ".join)


@given(WORDY, WORDY)
def test_copies_are_copies_of_each_other(one, other):
    ours, theirs = written_checks.shingles(one), written_checks.shingles(other)
    found = written_checks.are_copies(ours, theirs)
    assert found == written_checks.are_copies(theirs, ours)
    assert written_checks.are_copies(ours, ours)
    if not ours & theirs:
        assert not found

"""Every language builds: what it is, which words BM25 sees, how long texts are, and what the LLM is asked for."""

# ruff: noqa: RUF001 - letters that look like others are what is tested

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import build, schema
from builders.language import language_of, warn_of_unread
from builders.passages import Passages
from builders.prompts import load_prompt
from builders.queries.checks import reject
from builders.queries.config import QueriesConfig
from builders.queries.written import word_range
from builders.recipe import BuildRecipe
from builders.retrieval.bm25.search import Bm25Index
from foils.errors import UserError
from foils.languages import code_of, is_in, length
from foils.models import resolve_model
from foils.recipe import load_recipe
from tests.conftest import BASE

OWLS, BEES, BREAD = range(3)


def corpus_of(texts):
    ids = [f"p{n}" for n in range(len(texts))]
    return pa.table([ids, [""] * len(ids), texts], schema.CORPUS)


SPOKEN = {
    "de": (
        "Eulen jagen in der Nacht Mäuse und hören sie selbst unter dem Schnee.",
        "Bienen zeigen ihren Schwestern mit einem Tanz, wo die Blumen blühen.",
        "Sauerteigbrot geht im Kühlschrank bis zu einem Tag lang auf.",
        "wo hört eine Eule die Maus?",
    ),
    "pl": (
        "Sowy polują w nocy na myszy i słyszą je nawet pod śniegiem.",
        "Pszczoły tańcem pokazują siostrom, gdzie kwitną kwiaty.",
        "Chleb na zakwasie rośnie w lodówce przez cały dzień.",
        "na co poluje sowa?",
    ),
    "ja": (
        "フクロウは夜にネズミを狩り、雪の下でもその音を聞くことができます。",
        "ミツバチは花が咲いている場所を踊りで仲間に伝えます。",
        "サワードウのパンは冷蔵庫の中で一日かけて発酵します。",
        "フクロウはいつ狩りをしますか",
    ),
    "zh": (
        "猫头鹰在夜间捕食老鼠，即使在雪下也能听到它们的声音。",
        "蜜蜂通过舞蹈告诉同伴哪里有花开放。",
        "酸面包在冰箱里发酵需要一整天的时间。",
        "什么动物夜里捕老鼠？",
    ),
    "th": (
        "นกฮูกล่าหนูในเวลากลางคืนและได้ยินเสียงหนูแม้อยู่ใต้หิมะ",
        "ผึ้งเต้นรำเพื่อบอกพี่น้องว่าดอกไม้บานที่ไหน",
        "ขนมปังเปรี้ยวใช้เวลาขึ้นฟูในตู้เย็นนานถึงหนึ่งวัน",
        "นกฮูกล่าสัตว์เวลาไหน",
    ),
    "ar": (
        "البومة تصطاد الفئران في الليل وتسمعها حتى تحت الثلج.",
        "النحل يرقص ليخبر أخواته أين تتفتح الأزهار.",
        "خبز العجين المخمر يرتفع في الثلاجة لمدة يوم كامل.",
        "مَتَى تَصْطَادُ البُومَةُ؟",
    ),
    "he": (
        "הינשופים צדים עכברים בלילה ושומעים אותם גם מתחת לשלג.",
        "הדבורים רוקדות כדי לספר לאחיותיהן היכן פורחים הפרחים.",
        "לחם מחמצת תופח במקרר במשך יום שלם.",
        "מָה צָדִים הַיַּנְשׁוּפִים בַּלַּיְלָה",
    ),
}
"""Passages about owls, bees and bread, and a question about owls."""


@pytest.mark.parametrize("code", SPOKEN)
def test_a_language_is_detected_and_searched(code, tmp_path, caplog):
    *texts, query = SPOKEN[code]
    passages = Passages(corpus_of(texts))
    caplog.set_level("INFO")
    assert language_of(passages, None) == code
    assert "as detected" in caplog.text
    (found,) = Bm25Index(passages, code, tmp_path).search([query], 3)
    assert found[0][0] == f"p{OWLS}"
    assert len(found) == 1 or found[0][1] > 1.5 * found[1][1]


@pytest.mark.parametrize("stated", SPOKEN)
def test_a_language_that_is_plainly_not_the_corpus_s_is_reported(stated, caplog):
    for code, texts in SPOKEN.items():
        caplog.clear()
        assert language_of(Passages(corpus_of(texts)), stated) == stated
        wanted = f"corpus.language '{stated}': the passages seem to be in .*; set it to \"{code}\" or leave it out"
        assert bool(re.search(wanted, caplog.text)) == (code != stated)


def test_what_has_no_language_counts_as_english_and_several_are_reported(caplog):
    assert language_of(Passages(corpus_of(["1 2 3", "= 4.5"])), None) == "en"
    assert "nothing in the passages tells their language; English is taken" in caplog.text
    both = Passages(corpus_of([*SPOKEN["de"] * 4, *SPOKEN["ja"]]))
    assert language_of(both, None) == "de"
    assert "language: German, as detected (German 73%, Japanese 27%); corpus.language sets another" in caplog.text
    caplog.clear()
    assert [language_of(both, stated) for stated in ("mul", "nds", "ja")] == ["mul", "nds", "ja"]  # unknown, or there
    assert not caplog.text


@pytest.mark.parametrize("tag", ["english", "xx9", "xx", "", "d", "de-", "zh Hant"])
def test_what_is_no_tag_is_refused_with_the_remedy(tag):
    with pytest.raises(
        UserError, match=r"corpus.language '.*': not a language code; wanted .* \(pt-BR\); leave the key"
    ):
        code_of(tag, "corpus.language")


@pytest.mark.parametrize(
    ("languages", "text"),
    [
        ("es", "La lechuza anida en los campanarios y cría a sus pollos con lo que los dos padres les traen a casa"),
        ("pt", "A coruja faz o ninho nas torres das igrejas e cria os filhotes com o que os dois pais lhes trazem"),
        ("da no", "Uglen bygger rede i kirker og opfostrer sine unger med det, som begge forældre bringer til dem"),
        ("es pt da no en de", "Uhu, uhu!"),
    ],
)
def test_a_language_is_distinguished_from_its_neighbours(languages, text):
    assert [language for language in ("es", "pt", "da", "no", "en", "de") if is_in(text, language)] == languages.split()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("how do owls hunt?", 4),
        ("フクロウは、夜に鳴く？", 9),
        ("PostgreSQL 16の設定、HAVING 句", 7),
        ("นกฮูก", 5),
        ("올빼미가 사냥하는 때는?", 3),
        ("a - b", 3),
        ("", 0),
    ],
)
def test_length_is_in_characters_where_no_spaces_stand(text, count):
    assert length(text) == count


@pytest.mark.parametrize(("characters", "reason"), [(2, "too-short"), (3, None), (128, None), (129, "too-long")])
def test_limits_of_queries_are_in_characters_where_no_spaces_stand(characters, reason):
    passage = {"title": "", "text": SPOKEN["ja"][OWLS]}
    query = "なぜ梟は夜に狩るのか" * 13
    limits = word_range(QueriesConfig(), load_prompt("question-v1"), in_characters=True)
    assert reject(query[:characters], "stop", passage, limits) == reason
    assert word_range(QueriesConfig(max_words=20), load_prompt("question-v1"), in_characters=True)[1] == 20


@pytest.mark.parametrize("code", ["ja", "th", "he", "de"])
def test_a_build_in_the_language(code, tmp_path, chat_server, caplog):
    caplog.set_level("INFO")
    *texts, query = SPOKEN[code]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps({"_id": f"p{n}", "text": text}) for n, text in enumerate(texts)))
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'name = "x"\n[corpus]\nsource = "{corpus}"\nlicense = "mit"\n[queries]\nround_trip_k = 2\nattempts = 1\n'
        f'[negatives]\nkinds = ["llm", "random"]\n[negatives.llm]\nmin_words = 4\n'
        f'[llm]\nbase_url = "{chat_server.url}"\nmodel = "scripted"\n'
    )
    instructions = set()

    def answer(body, _):
        instructions.add(system := body["messages"][0]["content"])
        return texts[BREAD] if "negativ" in system.lower() else query

    chat_server.script = answer
    build.main(load_recipe(path, [], BuildRecipe), tmp_path / "out", tmp_path / "calls.sqlite")
    (row,) = pq.read_table(tmp_path / "out" / "llm").to_pylist()
    assert row == {"query": query, "positive": texts[OWLS], "negative_1": texts[BREAD]}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["language"] == code
    assert f"language:\n- {code}\n" in (tmp_path / "out" / "README.md").read_text()
    named = {"ja": "Japanese", "th": "Thai", "he": "Hebrew"}.get(code)
    assert all(text.endswith(f"Write in {named}.") for text in instructions) == (named is not None)
    assert caplog.text.count("no edition in") == (named is not None)
    assert any("12 to 56 characters" in text for text in instructions) == (code in {"ja", "th"})


@pytest.mark.parametrize(("code", "share"), [("th", "100 %"), ("zh", "73 %"), ("de", None), ("ar", None)])
def test_a_model_that_cannot_read_the_language_is_reported(code, share, caplog):
    warn_of_unread("dense", resolve_model(BASE), Passages(corpus_of(SPOKEN[code])), "Xish")
    wanted = f"dense .*MiniLM.*: {share} of the passages' tokens are unknown to it; take a model that reads Xish"
    assert re.search(wanted, caplog.text) if share else not caplog.text

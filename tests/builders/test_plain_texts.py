"""Texts that speak of labels, thoughts, lists and refusals, and are none of these: they are kept as they are."""

import pytest

from builders.answers import texts_of
from builders.llm.messages import answer_of
from builders.meta_talk import refusals
from builders.negatives.sentences import tidy
from builders.prompts import load_prompt
from builders.wrapping import is_lead_in, unwrapped

SOURCE = "Barn owls nest in church towers.\n\nThey raise their young there."
QUERIES = [
    # refusals
    "i don't have access to my gmail account", "although i exercise every day i can't lose weight",
    "i understand the theory but i can't solve integrals", "i notice the check engine light is on",
    "i was instructed to file form 8843", "assert against the default values pytest", "my programming doesn't work",
    "instead of the text box use a label", "das kann ich leider nicht essen", "sorry, daar ben ik weer songtekst",
    "質問にお答えできません エラー", "det kan jeg ikke huske", "i was unable to create a new account",
    "cannot answer incoming calls", "maaf dalam bahasa jepang", "kahjuks ei saa osaleda",
    "すみませんとごめんなさいの違い", "拒绝提供发票怎么办", "无法完成请求 错误代码 怎么办", "无法满足要求的申请人",
    "proszę podać numer pesel po angielsku",
    "nie mogę napisać komentarza", "не могу создать папку на рабочем столе", "не можу створити обліковий запис",
    "jag kan inte skriva ut från min dator", "jeg kan ikke skrive æ", "en voi kirjoittaa salasanaa",
    "لا أستطيع القيام بعملي بسبب الألم",
    # thoughts
    "【推理】小说推荐 2023", "【思考】这段话说明了什么", "{{reason}} template variable in jinja",
    "&lt;think&gt; html entity",
    "bert [unused16] token", "[thinking] of you", "{{ plan }} not rendered in helm", "[[reasoning]] wiki link",
    "<tool_call> tag not closed in qwen output", "[_end] of list python", "analysisServices connection string",
    "analysisResult = run(x)", "commentaryBox office results", "assistantanalysisManager",
    # openings before a colon
    "SQL query optimization: indexes", "questionnaire design: best practices", "Question time: who hosts it",
    "Suche nach: verlorenem Hund Köln", "検索エンジン\uff1a仕組みとは", "问题儿童\uff1a教育方法", "推理\uff1a小说推荐",
    # labels alone
    "google search", "reasoning steps", "thinking",
    # remarks
    "binary search (search)", "insurance ombudsman (claims)", "definition of claim (statement)", "Explain (query)",
    "meaning of 🙃", "what does ♀ mean ♀", "What is it? Let me know how to fix", "Is it down? Feel free lyrics",
]  # fmt: skip
PASSAGES = [
    # refusals
    "He spoke against the new parking policy.", "Forecasts are checked against the observed values.",
    "I was trained to fly helicopters in Texas.", "My goal is to help beginners bake bread at home.",
    "This is something I learned from my grandmother.", "The text is not a form of poetry, and the question is open.",
    "In BERT, [unused16] and [unused17] are free tokens.",
    "Thinking\n\nThinking is a mental process.\n\nIt has many forms.", "He asked, what now? <think> is a tag of R1.",
    "I try to give my dog two walks a day.", "Maybe it is not possible for me to like everyone.",
    "That would be misleading advertising under the Act.", "返品および交換はお受けいたしかねます。",
    "Es ist strafbar, irreführende Inhalte zu erstellen.", "Proszę podać numer PESEL.",
    "Пожалуйста, укажите адрес доставки.",
    # a lead-in
    "How to cite a document:\nUse the name of its author.", "Formatting text in Word:\nSelect it first.",
    "Required documents:\nBring a passport.", "The contextual approach of Bexar County:\nIt looks at the family.",
    "Textilien waschen:\nWolle kalt, Leinen warm.", "Note on the texture of bread:\nIt depends on the water.",
    "文字列の比較\uff1a\n演算子を使う。",
    # a remark
    "Formal methods have grown.\nReasoning about concurrent programs is harder: threads interleave.",
    "The exam has two parts.\nExplanation: marks are given for it.\nThe second part is oral.",
    "Der Vertrag endet.\nBegründung der Kündigung: Sie ist nicht nötig.",
    "Bees die.\n\nWhy this matters: they feed us.\n\nMore hives help.",
]  # fmt: skip
OF_LANGUAGES = {
    "en": ["i cannot find this song", "i can't make it to the appointment", "i'm sorry but i love you lyrics",
        "The passage is about 12 km long and leads to the sea.", "We are asked to wear shoes.",
        "Please provide your name and the text of your complaint."],
    "de": ["kann ich das kindergeld rückwirkend beantragen", "ich kann keine pdf datei erstellen", "tut mir leid lied",
        "Es ist mir leider nicht möglich, am Montag zu kommen."],
    "fr": ["je ne peux pas créer de compte gmail", "je suis désolé en anglais", "Veuillez indiquer votre adresse."],
    "es": ["no puedo crear una cuenta de google", "lo siento mucho en inglés", "Por favor, indique su nombre."],
    "it": ["non posso scrivere su whatsapp", "mi dispiace in inglese", "purtroppo non posso venire in inglese"],
    "pt": ["não consigo criar uma conta no instagram", "desculpa, te amo letra", "pode fornecer nota fiscal atrasada"],
    "nl": ["ik kan geen account maken", "sorry, ik hou van je songtekst", "ik kan niet schrijven met links"],
    "ja": ["申し訳ございません 敬語", "pdf 作成できません エラー", "申し訳ございませんが、返品はお受けできません。"],
    "zh": ["对不起我爱你 电影", "我无法完成作业怎么办", "遗憾的是\uff0c比赛以平局告终。", "我不能提供收入证明怎么办"],
    "ko": ["죄송합니다 영어로", "서비스를 제공할 수 없습니다 오류"],
    "pl": ["przepraszam ale nie mogę po angielsku"],
    "ur": ["افسوس کہ بارش نہیں ہوئی", "معاف کرنے سے انسان چھوٹا نہیں ہوتا"], "et": ["Kahjuks ma ei saa magada."],
}  # fmt: skip
LEAD_INS = [
    ("Hier ist eine mögliche Suchanfrage: ", "Was fressen Eulen?", "Hier leben Eulen und Mäuse."),
    ("Aquí tienes una consulta: ", "¿Qué comen los búhos?", "El bosque contiene búhos. Aquí viven."),
    ("Ecco una query: ", "Cosa mangiano i gufi?", "Un ramo secco per i gufi."),
    ("Voici une question : ", "Que mangent les hiboux ?", "Voici les hiboux."),
    ("Hier is een zoekvraag: ", "Wat eten uilen?", "Hier leven uilen."),
    ("Aqui está uma pergunta: ", "O que comem as corujas?", "Aqui está a coruja."),
]


def kept(text, count=1, **config):
    """The texts of an answer as the call store has it."""
    call = {"finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1, "seconds": 0.1}
    return texts_of(answer_of("k", {"text": text, **call}), count, **config)[0]


@pytest.mark.parametrize("text", QUERIES)
def test_a_query_that_speaks_of_such_things_is_kept(text):
    prompt = load_prompt("question-v1")
    assert kept(text, prompt=prompt, source=SOURCE) == kept(text, prompt=prompt) == [text]
    assert not is_lead_in(text)


@pytest.mark.parametrize("text", PASSAGES)
def test_a_passage_that_speaks_of_such_things_is_kept(text):
    assert kept(text, passages=True, source="where do owls nest?") == [text]


@pytest.mark.parametrize(
    ("language", "text"),
    [(code, text) for code, texts in (OF_LANGUAGES | {"ru": QUERIES + PASSAGES}).items() for text in texts],
)
def test_neither_is_a_refusal(language, text):
    for of_corpus in (language, "en", "ja"):
        assert not refusals(of_corpus).used_in(text)


@pytest.mark.parametrize(("lead_in", "query", "passage"), LEAD_INS)
def test_a_lead_in_goes_although_the_passage_has_a_word_of_it(lead_in, query, passage):
    for source in (passage, ""):
        for wrapped in (f"{lead_in}{query}", f'{lead_in}"{query}"', f'{lead_in.rstrip(": ")} "{query}"'):
            assert unwrapped(wrapped, source) == query


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        (
            "1. **Owls**\n\nOwls hunt.\n\n2. **Bats of Europe**\n\nBats fly at dusk.",
            ["**Owls** Owls hunt.", "**Bats of Europe** Bats fly at dusk."],
        ),
        (
            "1. Owls hunt.\n\nThey hear well.\n\n2. Bats fly at dusk.\n\nThey find insects by echo.",
            ["Owls hunt. They hear well.", "Bats fly at dusk. They find insects by echo."],
        ),
        ("1. \nq\n2. \nq2", ["q", "q2"]),
        ("3 - 5 year old toys\n2 - 4 player games", ["3 - 5 year old toys", "2 - 4 player games"]),
        ("1 - owl food\n2 - bat food", ["owl food", "bat food"]),
        ("google search\nreasoning steps", ["google search", "reasoning steps"]),
    ],
)
def test_a_list_keeps_the_whole_of_each_text(answer, texts):
    assert kept(answer, 2, passages=True) == texts


def test_a_cut_text_without_ends_of_sentences_loses_its_last_clause():
    assert tidy("นกฮูกล่าเหยื่อตอนกลางคืน หนูนอนตอนกลางวัน นกฮู", is_cut=True) == "นกฮูกล่าเหยื่อตอนกลางคืน หนูนอนตอนกลางวัน"

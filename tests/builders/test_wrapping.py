"""What chat models put round a text is taken off, and what the text is about stays."""

# ruff: noqa: RUF001 - letters of other scripts look like Latin ones

import pytest

from builders.answers import texts_of
from builders.llm.messages import ChatAnswer, answer_of
from builders.llm.thoughts import without_thoughts
from builders.meta_talk import phrases, refusals
from builders.prompts import load_prompt
from builders.wrapping import is_lead_in, unwrapped

QUERY = "what do barn owls eat at night?"
PASSAGE = "Barn owls nest in church towers.\n\nThey raise their young there."


def stored(text, finish_reason="stop"):
    """An answer as the call store has it."""
    call = {"finish_reason": finish_reason, "prompt_tokens": 1, "completion_tokens": 1, "seconds": 0.1}
    return answer_of("k", {"text": text, **call})


@pytest.mark.parametrize(
    "wrapped",
    [
        "**Query:** {}",
        "<b>Query:</b> {}",
        "<s>{}</s>",
        "<start_of_turn>model\n{}<end_of_turn>",
        "<\uff5cAssistant\uff5c>{}",
        "### Query\n{}",
        "Search Query:\n{}",
        "Query 1 (short): {}",
        "Question - {}",
        "Q: {}",
        "Query\uff1a{}",
        "Suchanfrage: {}",
        "Requête de recherche : {}",
        "質問\uff1a{}",
        "Final answer: **{}**",
        "**{}**",
        "*{}*",
        "`{}`",
        "### {}",
        "> {}",
        "1. {}",
        "**1.** {}",
        '"{}"',
        '"{}".',
        "'{}'",
        "``{}``",
        "\\text{{{}}}",
        "query: |\n  {}",
        '{{query: "{}"}}',
        "Passage: owls hunt.\nQuery: {}",
        'Try searching for "{}"',
        "\u25b6 {}",
        "\u201e{}\u201c",
        '1. **Query:** "{}"',
        "<answer>{}</answer>",
        "<answer>{}",
        "<p>{}</p>",
        "\\boxed{{{}}}",
        "```\n{}\n```",
        "```text\n{}\n```\nThis query is specific.",
        "<|im_start|>assistant\n{}",
        "\ufeff{}",
        '{{"query": "{}"}}',
        "Here's a question about owls:\n\n{}",
        "Here\u2019s a question: {}",
        "Sure! Here is a search query for the passage:\n\n{}",
        "Sure, I can help with that. Here's a query: {}",
        "Based on the passage, a query could be: {}",
        "The query for this passage is: {}",
        "Hier ist eine Suchanfrage zum Text:\n{}",
        "Aquí tienes una consulta: {}",
        "{} (Note: it is specific.)",
        "{}\n\nI hope this helps!",
        "The passage is about owls and mice.\n\n**Search query:** {}",
        "A user might search for: {}",
        "To find this passage, somebody would type: {}",
        "Here you go!\n\n{}",
        "## Search Query\n{}",
        "\U0001f50e Query: {}",
        "{}<|im_end|>\n<|im_start|>user",
        "{} [END]",
        "{}###",
        "{}<br>",
        "[Query]: {}",
        "[QUERY]{}[/QUERY]",
        "<generated_query>{}</generated_query>",
        '{{"question": "{}", "answer": "mice"}}',
        '{{"queries": [{{"query": "{}"}}]}}',
        "{{'query': '{}'}}",
        "{{{{{}}}}}",
        '"""{}"""',
        '"query": "{}",',
        "search_query = {}",
        "Query => {}",
        "User: {}",
        "Search query for the passage: {}",
        "For example: {}",
        'A user might type "{}"',
        'A good query would be "{}".',
        "Step 1: read. Step 2: write. Query: {}",
        "{} Answer: mice and voles.",
        "{} \u2014 This query is specific.",
        "{} / how do they hear?",
        "{} And how do they hear in the dark?",
        "{} (natural language query)",
        "{} \u2705",
        "Un utilisateur pourrait demander : {}",
        "Man k\u00f6nnte fragen: {}",
        "{} (Diese Frage ist kurz.)",
        "{} Ich hoffe, das hilft!",
        '{{"found": "{}"}}',
        '{{"queries": ["{}", "how do they hear?"]}}',
        '["{}", "how do they hear?"]',
        '"{{\\"text\\": \\"{}\\"}}"',
        'Here is the JSON:\n```json\n{{"text": "{}"}}\n```',
    ],
)
def test_the_query_is_what_is_left(wrapped):
    answer = ChatAnswer("k", wrapped.format(QUERY), "stop", 1, 1, 0.1)
    assert texts_of(answer, 1, prompt=load_prompt("question-v1"), source=PASSAGE) == ([QUERY], None)


@pytest.mark.parametrize(
    "opening",
    ["Oto zapytanie: ", "Вот запрос: ", "以下是查询\uff1a", "はい、検索クエリ\uff1a", "İşte bir sorgu: ", "السؤال: "],
)
@pytest.mark.parametrize(
    ("query", "passage"), [("owl food", PASSAGE), ("猫头鹰吃什么", "猫头鹰捕食老鼠。"), ("ماذا تأكل البومة؟", "البومة")]
)
def test_an_opening_goes_in_whatever_language(opening, query, passage):
    assert unwrapped(opening + query, passage) == query
    assert is_lead_in(opening)
    for own in ("SQL query: group rows", "睡眠问题\uff1a如何改善"):
        assert unwrapped(own, "SQL, 良好的睡眠习惯") == own


@pytest.mark.parametrize(
    "opening", ["Information need", "Exemple ", "My attempt", "In English", "The main topic is birds, so"]
)
def test_an_opening_of_which_the_passage_has_no_word_is_none_of_a_question(opening):
    passage = "Barn owls nest in C# towers. Python is a snake."
    answer = ChatAnswer("k", f"{opening}: {QUERY}", "stop", 1, 1, 0.1)
    assert texts_of(answer, 1, source=passage) == ([QUERY], None)
    for name in ("C#", "Pythons", "Towers and nests"):
        assert unwrapped(f"{name}: {QUERY}", passage) == f"{name}: {QUERY}"


def test_thoughts_that_a_stop_string_cut_are_asked_for_again():
    assert is_lead_in("Thought: it is about owls.")
    assert is_lead_in("Step 1: read the passage.")
    assert is_lead_in("Here is my thought process: it is about owls.")
    assert unwrapped("Okay, the passage is about owls.") == "Okay, the passage is about owls."
    assert is_lead_in("```json")
    assert is_lead_in("Thought for 5s")
    assert is_lead_in(unwrapped("Reasoning: what do owls hunt? Mice.", PASSAGE))


@pytest.mark.parametrize(
    "text",
    [
        "*args and **kwargs in python",
        "__init__ vs __new__",
        "__init__",
        "what is f(**a, **b)",
        "what does p->next mean in C",
        "what is <b> in html",
        "<title> tag in html head",
        "C# vs F#",
        "#hashtag meaning",
        'what is "foo"',
        '"owl" vs "bat"',
        'what does "do or do not" mean?',
        "how tall is 5'10\"",
        "'tis the season",
        "Python: how to sort",
        "what people might say: a phrase book",
        "Hamlet's question: to be or not to be",
        "The Text Mining Approach: A Survey",
        "here is how owls hunt",
        "404 error in nginx proxy",
        "okay google commands list",
        "2. Bundesliga Tabelle",
        "[1, 2] and [3] in python",
        "<div> vs <span>",
        'what does "self" mean?',
        "who is afraid? a study of owls",
        "here is what you need to know about taxes",
    ],
)
def test_what_a_query_is_about_stays(text):
    assert unwrapped(text) == text
    assert not is_lead_in(text)


def test_a_mark_that_the_passage_has_too_belongs_to_the_query():
    assert unwrapped("2. Weltkrieg Beginn", source="Der 2. Weltkrieg begann 1939.") == "2. Weltkrieg Beginn"
    assert unwrapped("what does **x** do", source="Markdown makes **x** bold.") == "what does **x** do"
    assert unwrapped("what does **x** do", source="Nothing of the kind.") == "what does x do"
    for text in ("1. FC K\u00f6ln im Pokal", "# starts a comment", "<answer> tag in xml", "> sends output to a file"):
        assert unwrapped(text, source=f"It is said that {text}.") == text


@pytest.mark.parametrize(
    "text",
    ["Llama marks turns with [INST] and [/INST] in a prompt.", "ChatML has `<|im_start|>`, and others <s> for it."],
)
def test_marks_of_a_template_that_a_text_is_about_stay(text):
    answer = ChatAnswer("k", text, "stop", 1, 1, 0.1)
    assert texts_of(answer, 1, passages=True) == ([text], None)


@pytest.mark.parametrize(
    "text",
    [
        "# Set the path\nexport X=1",
        "```python\nx = 1\n```\nThis code sets x.",
        "<p>Owls hunt.</p>",
        "<div>OK</div> is a button",
        "*args collects them. **kwargs does, too.",
        "1. Do this.\n2. Do that.",
        "These formats of text are read:\n- one\n- two",
        "Use **bold** for it, and `code` for code.",
        "Question: where do owls nest? Answer: in towers.",
        "I cannot see it. He said so.",
        '{"key": "a value", "other": 1}',
        "# Owls\n\nThey hunt.\n\n# Bats\n\nThey do, too.",
        "2. Bundesliga clubs play 34 matches.",
        'text = "a"\nprint(text)',
        "| Owl | Eggs |\n|---|---|\n| Barn owl | 5 |",
    ],
)
def test_a_passage_keeps_its_own_markup(text):
    assert unwrapped(text, passage=True) == text


@pytest.mark.parametrize(
    "wrapped",
    [
        "**Passage:** {}",
        "Passage:\n{}",
        "Hard negative 1: {}",
        '"{}"',
        "Text: {}",
        "<passage>{}</passage>",
        "I thought of owls.\n\n**Hard negative:**\n{}",
        "[Passage] {}",
        "Oto fragment tekstu:\n\n{}",
        "以下是一段文字\uff1a\n{}",
        "{}\n\n**Explanation:**\nIt shares words with the query.",
        "<hard_negative_passage>{}</hard_negative_passage>",
        "<output>{}</output>",
        "Understood. {}",
        "{} (12 words)",
        "Passage 1:\n{}\n\nPassage 2:\nBats sleep by day.",
        QUERY + "\n\n{}",
    ],
)
def test_labels_of_a_passage_go(wrapped):
    assert unwrapped(wrapped.format(PASSAGE), QUERY, passage=True) == PASSAGE


@pytest.mark.parametrize(
    "answer",
    [
        "1. {}\n2. {}\n\nThese passages share words with the query.",
        "[1] {}\n[2] {}",
        "\u2460 {}\n\u2461 {}",
        "### Passage 1\n{}\n\n### Passage 2\n{}",
        "{}\n---\n{}",
        'Here is the JSON:\n["{}", "{}"]',
        '```json\n{{"passages": [{{"passage": "{}"}}, {{"passage": "{}"}}]}}\n```',
    ],
)
def test_several_passages_in_whatever_list(answer):
    texts = ["Owls nest in towers.", "Bats sleep by day."]
    assert texts_of(ChatAnswer("k", answer.format(*texts), "stop", 1, 1, 0.1), 2, passages=True) == (texts, None)


def test_a_passage_under_any_fitting_key_of_json():
    answer = ChatAnswer("k", '{"query": "where?", "hard_negative": "Owls nest in towers."}', "stop", 1, 1, 0.1)
    assert texts_of(answer, 1, passages=True) == (["Owls nest in towers."], None)
    config = ChatAnswer("k", '{"name": "owls"}', "stop", 1, 1, 0.1)
    assert texts_of(config, 1, passages=True) == (['{"name": "owls"}'], None)


def test_json_without_a_text_that_was_asked_for_is_no_query():
    answer = ChatAnswer("k", '{"topic": "owls at night", "tone": "plain and short"}', "stop", 1, 1, 0.1)
    assert texts_of(answer, 1) == ([], "empty")


@pytest.mark.parametrize(
    "marked",
    [
        "<think>Hm.</think>{}",
        "<thinking>\nHm.\n\nYes.\n</thinking>\n\n{}",
        "<seed:think>Hm.</seed:think>{}",
        "[THINK]Hm.[/THINK]{}",
        "\u25c1think\u25b7Hm.\u25c1/think\u25b7{}",
        "<|begin_of_thought|>Hm.<|end_of_thought|>\n<|begin_of_solution|>{}<|end_of_solution|>",
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>{}<|END_RESPONSE|>",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
        "analysisWe need a query.assistantfinal{}",
        "<antThinking>Hm.</antThinking>{}",
        "<|thinking_start|>Hm.<|thinking_end|>{}",
        "【思考】Hm.【/思考】{}",
        '<details type="reasoning" done="true">\n> Hm.\n</details>\n{}',
        "<think>Hm <think>hm</think> hm.</think>{}",
        '<think>It says "owl"</think>{}',
        "<think>Is </reason> a tag?</think>{}",
        "**Reasoning:** Hm.\n\n**Query:** {}",
        "<think>One.</think>\n<think>Two.</think>\n{}",
        "<self_reflection>Hm.</self_reflection>{}",
        "<思维>Hm.</思维>{}",
        "&lt;think&gt;Hm.&lt;/think&gt;{}",
        "[unused16]Hm.[unused17]{}",
        "Thinking...\nHm.\n...done thinking.\n\n{}",
        "## Reasoning\nHm.\n\n## Query\n{}",
        "{}<think>Is that one good?",
        "analysis\nWe need a query.\nassistantfinal{}",
        "{}\n<think>\nIs that one good",
    ],
)
def test_thoughts_go_whatever_marks_them(marked):
    answer = stored(marked.format(QUERY))
    assert texts_of(answer, 1) == ([QUERY], None)


def test_what_a_filter_kept_back_is_reported_as_that():
    assert texts_of(stored("", finish_reason="content_filter"), 1) == ([], "content-filter")


@pytest.mark.parametrize(
    "mark",
    ["<think>", "[THINK]", "[thinking]", "<ifm|think>", "<|channel|>analysis<|message|>", "<analysis>", "analysis"],
)
def test_thoughts_that_do_not_end_are_no_answer(mark):
    answer = stored(f"{mark}We need a query about owls")
    assert texts_of(answer, 1) == ([], "only-reasoning")


@pytest.mark.parametrize(
    "text",
    [
        "the `</think>` tag",
        "the '<think>' tag of R1",
        "A <think> tag closes with </think>.",
        "<status><reason>late</reason></status>",
        "[Analysis] Owls hunt.",
        "a[reason] = b",
    ],
)
def test_a_text_about_such_marks_stays(text):
    assert without_thoughts(text) == text


REFUSALS = {
    "en": [
        "I cannot fulfill this request because it asks for misleading content.",
        "I apologize, but I cannot create a misleading passage for you.",
        "I won\u2019t write a passage that is deliberately misleading.",
        "Could you please provide more context so that I can write it?",
        "As a responsible AI, I follow rules.",
        "I'd rather not write deceptive text.",
        "It would be inappropriate for me to write it.",
        "This request violates my guidelines.",
        "I cannot, in good conscience, write this.",
        "Okay, so the user wants a query about owls.",
        "Sorry - that isn't something I can help with.",
        "My guidelines prevent me from writing it.",
        "There doesn't seem to be a passage here.",
        "Request denied due to content policy.", "I was unable to generate a query.", "Cannot answer.",
        "I don't provide false information.",
        "While I understand the task, I cannot create misleading text.",
        "My purpose is to provide accurate answers.", "My programming doesn't allow me to do this.",
        "The provided text is not suitable for generating a search query.", "That's something I'm not able to do.",
    ],
    "de": ["Es tut mir leid, aber das geht nicht.",
        "Ich kann diese Anfrage leider nicht erfüllen.",
        "Ich werde keinen irreführenden Text verfassen.", "Dabei kann ich leider nicht helfen."],
    "fr": ["Je suis désolé, mais non.", "Je ne peux pas répondre à cette demande."],
    "es": ["Lo siento, pero no puedo.", "No puedo cumplir con esta solicitud."],
    "it": ["Mi dispiace, ma non posso.", "Non posso soddisfare questa richiesta.", "Spiacente, ma no."],
    "pt": ["Desculpe, mas não posso.", "Não posso atender a este pedido."],
    "nl": ["Het spijt me, maar nee.", "Ik kan niet aan dit verzoek voldoen.", "Sorry, daar kan ik niet mee helpen."],
    "ru": ["Извините, но я не могу помочь.", "Мне жаль, но я не могу этого сделать."],
    "sv": ["Tyvärr kan jag inte skriva den texten.", "Jag kan tyvärr inte hjälpa till med det."],
    "tr": ["Üzgünüm, bunu yapamıyorum.", "Bu içeriği oluşturamam."],
    "ar": ["أعتذر، لكن لا يمكنني تلبية هذا الطلب."],
    "ja": ["申し訳ありませんが、お手伝いできません。", "すみませんが、その内容にはお答えできません。"],
    "zh": ["\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u534f\u52a9\u5b8c\u6210\u6b64\u8bf7\u6c42\u3002"],
    "ko": ["죄송하지만 도와드릴 수 없습니다.", "미안하지만 도와줄 수 없어요."],
    "pl": ["Niestety nie mogę napisać takiego tekstu.", "Przykro mi, ale nie mogę tego zrobić."],
    "cs": ["Omlouvám se, ale s tím nemohu pomoci."],
    "uk": ["На жаль, я не можу написати цей текст."],
    "fi": ["Valitettavasti en voi auttaa tässä."],
    "no": ["Jeg kan dessverre ikke skrive dette."],
    "hu": ["Sajnálom, de ebben nem tudok segíteni."],
    "el": ["Δυστυχώς δεν μπορώ να βοηθήσω."],
    "he": ["לצערי לא אוכל לסייע בכך."],
    "fa": ["متأسفم، نمی\u200cتوانم کمک کنم."],
    "hi": ["क्षमा करें, मैं इसमें मदद नहीं कर सकता।"],
    "th": ["ขออภัย ฉันไม่สามารถช่วยเรื่องนี้ได้"],
    "vi": ["Rất tiếc, tôi không thể viết đoạn văn này."],
    "id": ["Maaf, saya tidak dapat membantu dengan itu.", "Saya tidak dapat memenuhi permintaan ini."],
    "sr": ["Жао ми је, али не могу да помогнем."], "lt": ["Atsiprašau, bet negaliu padėti."],
    "et": ["Vabandust, aga ma ei saa aidata."], "is": ["Því miður get ég ekki aðstoðað."],
    "ta": ["மன்னிக்கவும், என்னால் உதவ முடியாது."], "ur": ["معذرت، میں مدد نہیں کر سکتا۔"],
}  # fmt: skip


@pytest.mark.parametrize(("language", "text"), [(code, text) for code, texts in REFUSALS.items() for text in texts])
def test_a_refusal_is_known_in_its_language(language, text):
    for of_corpus in (language, "en", "de"):  # an LLM falls back on any
        assert refusals(of_corpus).used_in(text)
        assert phrases(of_corpus).used_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "i cannot log in to my account",
        "can you provide a refund after 30 days?",
        "why can't i create a new account",
        "sorry for your loss message examples",
        "He said that he cannot comply with the order.",
        "kann ich mein passwort nicht ändern",
        "je ne trouve pas mon mot de passe",
        "the request is sent by the client",
        "we need to talk about kevin review",
        "nie mogę zalogować się do banku",
        "لا أستطيع النوم ليلا",
        "xin lỗi tiếng anh là gì",
        "无法完成更新怎么办",
    ],
)
def test_a_query_in_the_first_person_is_no_refusal(text):
    assert not [code for code in REFUSALS if refusals(code).used_in(text)]

"""What chat models put round the text that was asked for (markup, labels, quotes, lead-ins), and how it is taken off.

Only what stands round a text goes; what it is about stays: `*args`, `__init__`, quotes within a sentence.
"""

import re

_LINES = re.IGNORECASE | re.MULTILINE
_ALSO = (
    r"(?:the|an?|my|one|your|new|hard|short|final|best|good|sample|example|possible|potential|suggested|proposed|generated"
    r"|natural|realistic|relevant|typical|user|user's|google|web|search|output|gute|mögliche|votre|une?|possibile|posible)"
)
_OF_QUERIES = (
    r"quer(?:y|ies)|questions?|q|keywords?|search terms?|searches|claims?|statement|titles?|headline|verdict|"
    r"judge?ment|relevance|suchanfragen?|anfrage|fragen?|suchbegriffe?|stichw[oö]rte?r?|titel|behauptung|requêtes?|"
    r"recherche|mots[- ]clés|titre|affirmation|consultas?|preguntas?|búsqueda|palabras clave|título|afirmación|"
    r"domand[ae]|ricerca|parole chiave|titolo|affermazione|perguntas?|busca|pesquisa|palavras[- ]chave|afirmação|"
    r"zoekopdracht(?:en)?|zoekvra(?:ag|gen)|zoekterm(?:en)?|vra(?:ag|gen)|trefwoorden|bewering|запрос|вопрос|質問|クエリ|検索クエリ|"
    r"查询|查詢|问题|問題|搜索查询|질문|검색어|쿼리|fråga|sökfråga|spørgsmål|søgning|spørring|sorgu|soru|pytanie|zapytanie"
)
_OF_PASSAGES = (
    r"(?:hard )?negatives?(?: passages?| examples?)?|passages?|paragraphs?|distractor|textpassage|passagen?|abschnitt|"
    r"textes?|texto?|pasaje|fragmento?|párrafo|bran[oi]|testo|paragrafo|trecho|passagem|parágrafo|tekst|alinea"
)
_OF_BOTH = (
    r"(?:final )?(?:answer|response|output|result|reply)|antwort|ergebnis|réponse|respuesta|risposta|resposta|antwoord|"
    r"ответ|回答|答案|답변"
)
_NOUN = rf"(?:{_OF_QUERIES}|{_OF_PASSAGES}|{_OF_BOTH}|text)"


def _label(nouns: str) -> re.Pattern[str]:
    """A label at the start of a text, in whatever markup: `**Query 1:** `, `### Question` on a line, `Query - `."""
    words = rf"(?:{_ALSO}[ -]){{0,3}}(?:{nouns})(?: ?#?\d{{1,2}})?(?: \([^()\n]{{1,40}}\))?"
    return re.compile(
        rf"\A(?:[\s*_#>]|<\w+>)*{words}[*_]*"
        r"(?:\s*[:\uff1a](?:[*_]+|</\w+>)*\s*|[ \t]+[-\u2013\u2014][*_]*[ \t]+|[*_]*[ \t]*\n\s*)(?=\S)",
        re.IGNORECASE,
    )


_LABELS = {
    False: _label(f"{_OF_QUERIES}|{_OF_PASSAGES}|{_OF_BOTH}"),
    True: _label(f"{_OF_PASSAGES}|{_OF_BOTH}|text|title|titel|titre|título|titolo|topic"),
}
_LATER = {
    False: re.compile(rf"^[\s*_#>]*(?:{_ALSO}[ -]){{0,3}}(?:{_OF_QUERIES})[*_]*\s*[:\uff1a][*_]*\s*(?=\S)", _LINES),
    True: re.compile(r"^[\s*_#>]*(?:hard negative(?: passage)?|(?:negative )?passage)[*_]*\s*:[*_]*\s*(?=\S)", _LINES),
}
"""A label behind other text, such as thoughts: what was asked for comes after it."""
_OPENER = (
    r"(?:sure|certainly|of course|absolutely|okay|ok|great|alright|got it|understood|no problem|gladly|natürlich|"
    r"gerne?|klar|sicher|selbstverständlich|bien sûr|certainement|d'accord|voilà|claro(?: que sí)?|por supuesto|"
    r"desde luego|certo|certamente|naturalmente|va bene|com certeza|zeker|natuurlijk|uiteraard|graag)(?: thing)?"
)
_HERE = (
    r"(?:here(?:'s| is| are)|below (?:is|are)|this is|the following|based on|i(?:'d| would) (?:suggest|propose)|"
    r"(?:hier|im folgenden) (?:ist|sind|folgt|is|zijn|volgt)|voici|aquí (?:está|tienes?|tiene)|a continuación|ecco|"
    r"di seguito|aqui (?:está|vai)|segue|a seguir)"
)
_IS = r"(?:is|could be|would be|might be|may be|ist|wäre|lautet|est|serait|es|sería|è|sarebbe|é|seria|luidt)"
_ARTICLE = r"(?:one|an?|the|my|eine?|die|une|la|una|uma|een|de)"
_ASKED_SO = (
    r"[^:\uff1a\n?]{0,100}\b(?:would|might|could|may|can) (?:\w+ ){0,2}"
    r"(?:ask|type|search(?: for)?|enter|use|write|look for)"
)
_FIRST = rf"(?:{_OPENER}\b[^:\uff1a\n?]{{0,80}}?[!.,]*\s*)?"
_TO_NOUN = rf"\b[^:\uff1a\n?]{{0,60}}?\b{_NOUN}\b[^:\uff1a\n?]{{0,120}}?"
_LEAD_IN = re.compile(
    rf"\A{_FIRST}(?:{_HERE}{_TO_NOUN}|{_ARTICLE}{_TO_NOUN}\b{_IS}|{_ASKED_SO}|here (?:you go|it is))"
    r"\s*[:\uff1a][*_]*\s*(?=\S)",
    re.IGNORECASE,
)
_LEAD_IN_ALONE = re.compile(
    rf"{_FIRST}{_HERE}{_TO_NOUN}[.:\uff1a]?|.*[:\uff1a]|{_OPENER}[!.].*|{_OPENER}", re.IGNORECASE
)
_EXCLAIMED = re.compile(rf"\A{_OPENER}!\s+(?=\S)", re.IGNORECASE)
_TAGS = (
    r"(?:answer|final_?answer|response|query|search_?query|question|passage|hard_?negative|negative|solution|"
    r"begin_of_solution|start_response)"
)
_TAG = re.compile(rf"\A(?:<\|?{_TAGS}\|?>|\[answer\])\s*(?=\S)", re.IGNORECASE)
_END_TAG = re.compile(rf"(?<=\S)\s*(?:</{_TAGS}>|<\|end_(?:of_solution|response)\|>|\[/answer\])\s*\Z", re.IGNORECASE)
_ELEMENT = re.compile(
    r"\A<(p|b|i|q|em|strong|h[1-6]|blockquote|text|title|output|result|final|claim)>(.*)</\1>\Z", re.DOTALL
)
_TEMPLATE_MARK = re.compile(
    r"\A(?:<\|(?:im_start|start|start_header_id|assistant|end_header_id|message)\|>\s*(?:assistant\s*)?)+"
)
_FENCED = re.compile(r"\A(`{3,}|~{3,})[\w+-]*[ \t]*\n?((?:(?!\1).)*)(?:\1\s*)?\Z", re.DOTALL)
_FIRST_FENCED = re.compile(r"\A(`{3,}|~{3,})[\w+-]*[ \t]*\n((?:(?!\1).)+)\1", re.DOTALL)
LIST_MARK = re.compile(
    r"\A\s*(?:[\u2190-\u21ff\u2600-\u27bf\U0001f300-\U0001faff]\ufe0f?\s+|[-*\u2022\u2013\u25aa\u25cf\u2023]\s+|"
    r"\*{0,2}\(?\d{1,2}[.)](?:\*\*\s*|\s+)|\(?[a-cA-C]\)\s+)(?=\S)"
)
_HEADING = {
    False: re.compile(r"\A(?:#{1,6}|>)\s+(?=\S)"),
    True: re.compile(r"\A#{1,6}\s+(?=[^\n]+(?:\n\s*\n|\Z))"),  # elsewhere it is a comment in code
}
_PAIRED = re.compile(r"\A(\*{1,3}|__?|~~|`)(?=\S)(.+?)(?<=\S)\1([.?!\u3002]?)\Z", re.DOTALL)
_BOLD = re.compile(r"(?<![\w*])\*\*(?=[^\s*])([^*\n]+?)(?<=\S)\*\*(?![\w*])")
_BOXED = re.compile(r"\A\$?\\boxed\{(?:\\text\{)?(.+?)\}{1,2}\$?\Z", re.DOTALL)
_NOTE = re.compile(
    r"(?<=\S)\s*[*_]*[(\[][*_]*(?:\s*(?:note|explanation|hinweis|anmerkung|erklärung|remarque|nota|opmerking)\b[^()\[\]]*|"
    r"\s*\d+ (?:words|wörter|mots|palabras|parole|palavras|woorden)|\s*(?:this|the) (?:query|question)\b[^()\[\]]*)"
    r"[)\]][*_]*\Z",
    re.IGNORECASE,
)
_QUOTES = {
    '"': '"\u201d', "'": "'", "`": "`", "\u201c": "\u201d\u201c", "\u201d": "\u201d", "\u201e": '\u201c\u201d"',
    "\u00ab": "\u00bb", "\u00bb": "\u00ab\u00bb", "\u2018": "\u2019", "\u201a": "\u2018\u2019", "\u2039": "\u203a",
    "\u203a": "\u2039", "\u300c": "\u300d", "\u300e": "\u300f", "\u300a": "\u300b",
}  # fmt: skip
_AROUND = " \t\r\n\u00a0\u200b\ufeff"


def unwrapped(text: str, beside: str = "", *, passage: bool = False) -> str:
    """A text without what stands round it.

    Args:
        text: of an answer.
        beside: what the answer was written for: marks that stand there too belong to the substance.
        passage: whether a passage was asked for. It may have several lines and speak of questions.

    >>> [unwrapped(text) for text in ("**Query:** what is it?", '1. "What is it?"', "*args and **kwargs", "a “b” c")]
    ['what is it?', 'What is it?', '*args and **kwargs', 'a “b” c']
    >>> unwrapped("Sure! Here is a query for it:" + chr(10) * 2 + "what is it?")
    'what is it?'
    """
    while (shorter := _once(text.strip(_AROUND), beside, passage=passage)) != text:
        text = shorter
    return text


def is_lead_in(line: str) -> bool:
    """Whether a line only leads to what comes behind it.

    >>> is_lead_in("Here's a question about owls:"), is_lead_in("Here is how owls hunt")
    (True, False)
    """
    return _LEAD_IN_ALONE.fullmatch(line.strip(_AROUND + "*_#").replace("\u2019", "'")) is not None


def _once(text: str, beside: str, *, passage: bool) -> str:
    """A text without its outermost layer."""
    fenced = _FENCED.match(text) or (None if passage else _FIRST_FENCED.match(text))
    if fenced and fenced[2].strip():
        return fenced[2]
    for mark in (_TEMPLATE_MARK, _TAG, _END_TAG, _HEADING[passage], _EXCLAIMED):
        text = mark.sub("", text, count=1)
    text = _LABELS[passage].sub("", text, count=1)
    later = None if text.partition("\n")[0].rstrip().endswith("?") else _LATER[passage].search(text, 1)
    if later:
        return text[later.end() :]
    if not passage:
        element = _ELEMENT.match(text)
        text = element[2] if element and f"<{element[1]}>" not in beside else text
        text = _NOTE.sub("", _without_lead_in(text), count=1)
        text = text if "**" in beside else _BOLD.sub(r"\1", text)
    listed = LIST_MARK.match(text)
    if listed and not any(map(LIST_MARK.match, text.splitlines()[1:])):
        rest = text[listed.end() :]
        text = text if f"{listed[0].strip()} {rest.split()[0]}" in beside else rest
    paired = _PAIRED.match(text)
    # `__init__` and `*args` are names: what is emphasised has a space in it, or is doubly marked.
    if paired and paired[1] not in paired[2] and (" " in paired[2] or paired[1] in {"**", "***", "~~"}):
        text = paired[2] + paired[3]
    if boxed := _BOXED.match(text):
        text = boxed[1]
    return _without_quotes(text).strip(_AROUND)


def _without_lead_in(text: str) -> str:
    """A query without the sentence that introduces it, on its own line or before a colon."""
    first, _, rest = text.partition("\n")
    if rest.strip() and is_lead_in(first):
        return rest
    found = _LEAD_IN.match(text.replace("\u2019", "'"))
    return text[found.end() :] if found and found.end() < len(text) else text


def _without_quotes(text: str) -> str:
    """A text without the pair of quotes round the whole of it, or a single one that has lost the other."""
    end = text[-1:] if text[-1:] in ".?!" and text[-2:-1] in "\"'\u201d\u201c\u00bb\u2019" and len(text) > 1 else ""
    body = text[: len(text) - len(end)]
    if len(body) < 2 or body[0] not in _QUOTES:  # noqa: PLR2004
        alone = text[-1:] in {'"', "\u201d", "\u00bb", "\u300d"} and not any(mark in text[:-1] for mark in _QUOTES)
        return text[:-1] if alone and not text[-2:-1].isdigit() else text
    inner, closing = body[1:-1], _QUOTES[body[0]]
    if body[-1] in closing:
        clear = re.sub(r"(?<=\w)['\u2019](?=\w)", "", inner)  # apostrophes
        return text if body[0] in clear or body[-1] in clear else inner + ("" if inner[-1:] in ".?!" else end)
    return body[1:] + end if body[0] != "'" and not any(mark in body[1:] for mark in closing + body[0]) else text

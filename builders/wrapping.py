"""Removes what chat models put round the text that was asked for: markup, labels, quotes, lead-ins.

What the text is about stays: `*args`, `__init__`, quotes within a sentence.
"""

import re

from builders.label_words import ALSO, ASKING, FILLER, LEADS, NOUN, OF_BOTH, OF_PASSAGES, OF_QUERIES, OPENER, ROLES
from foils.languages import is_unspaced
from foils.texts import normalised

_LINES = re.IGNORECASE | re.MULTILINE


def _label(nouns: str, ends: str) -> re.Pattern[str]:
    """A label at the start of a text, in whatever markup: `**Query 1:** `, `### Question` on a line, `[Query] `."""
    words = (
        rf"(?:{ALSO}[ _-]){{0,4}}(?:{nouns})(?: ?#?\d{{1,2}})?(?: for (?:the|this) passage)?(?: \([^()\n]{{1,40}}\))?"
    )
    end = rf"\s*(?:{ends})(?:[*_]+|</\w+>)*|[ \t]+[-\u2013\u2014][*_]*[ \t]|[*_]*[ \t]*\n"
    return re.compile(
        rf"\A(?:[\s*_#>\"']|<\w+>)*(?:[\[(]{words}[\])]\s*:?|{words}[*_\"']*(?:{end}))(?:\s|<br ?/?>|[|>]-?\n)*(?=\S)",
        re.IGNORECASE,
    )


_LABELS = {
    False: _label(f"{OF_QUERIES}|{OF_PASSAGES}|{OF_BOTH}|{ROLES}", r"[:\uff1a=\u2192]|[=-]>"),
    True: _label(f"{OF_PASSAGES}|{OF_BOTH}|text|title|titel|titre|título|titolo|topic", r"[:\uff1a]"),
}
_LATER = {
    False: re.compile(
        rf"(?:^|(?<=[.!] ))[\s*_#>]*(?:{ALSO}[ -]){{0,3}}(?:{OF_QUERIES})[*_]*\s*[:\uff1a][*_]*\s*(?=\S)", _LINES
    ),
    True: re.compile(r"^[\s*_#>]*(?:hard negative(?: passage)?|(?:negative )?passage)[*_]*\s*:[*_]*\s*(?=\S)", _LINES),
}
"""A label behind other text, such as thoughts: what was asked for comes after it."""
_HERE = r"(?:here(?:'s| is| are)|below (?:is|are)|this is|the following|based on|i(?:'d| would) (?:suggest|propose))"
_IS = r"(?:is|could be|would be|might be|may be)"
_ARTICLE = r"(?:one|an?|the|my)"
_ASKED_SO = (
    r"[^:\uff1a\n?]{0,100}\b(?:would|might|could|may|can) (?:\w+ ){0,2}"
    r"(?:ask|type|search|enter|use|write|look)(?: for)?"
)
_FIRST = rf"(?:{OPENER}\b[^:\uff1a\n?]{{0,80}}?[!.,]*\s*)?"
_TO_NOUN = rf"\b[^:\uff1a\n?]{{0,60}}?\b{NOUN}\b[^:\uff1a\n?]{{0,120}}?"
_LEAD_IN = re.compile(
    rf"\A{_FIRST}(?:(?:{_HERE}|{LEADS}){_TO_NOUN}|{_ARTICLE}{_TO_NOUN}\b{_IS}|{_ASKED_SO}|"
    r"here(?: you go| it is| goes|'s one)?|try (?:this|searching for)|let's (?:go with|try|use)|"
    r"i(?:'d| would) (?:suggest|type|search))\s*"
    r"(?:[:\uff1a][*_]*\s*(?=\S)|(?=[\"\u201c\u201e\u00ab][^\n]+[\"\u201d\u201c\u00bb]\W*\Z))",
    re.IGNORECASE,
)
_THOUGHT = (
    r"(?:(?:here (?:is|are) )?(?:my )?(?:thoughts?|thinking|reasoning|analysis|rationale)(?: process| steps)?|step \d|"
    r"(?:passage )?(?:topic|summary))\s*(?:[:\uff1a].*|\.{3}|for (?:a few|\d+) ?s(?:ec\w*)?\.?)"
)
_LEAD_IN_ALONE = re.compile(
    rf"{_FIRST}{_HERE}{_TO_NOUN}[.:\uff1a]?|.*[:\uff1a]|{_THOUGHT}|{OPENER}[!.].*|{OPENER}|`{{3,}}\w*|"
    rf"here you go[!.]?|<\w+>|(?:{ALSO}[ -])*{NOUN} ?#?\d{{1,2}}",
    re.IGNORECASE,
)
_TITLE = re.compile(rf"(?:{ALSO}[ -])*{NOUN}|(?:my )?(?:thoughts?|thinking|reasoning|analysis)", re.IGNORECASE)
_ASKS = re.compile(
    rf"(?:\A|\s)(?:such|sök|ال)?(?:{ASKING.pattern})[^\W\u2e80-\uffff]{{0,3}}\W*\Z|"
    rf"\A(?:{FILLER.pattern}|{ASKING.pattern}|\W)+\Z",
    re.IGNORECASE,
)
"""Ends in the word for a query; within a topic, such as a questionnaire, it leads to nothing."""
_OPENING = re.compile(r"\A([^:\uff1a\n?]{1,80}(?::(?=\s)|\uff1a))\s*(?=\S)")
_QUESTION = re.compile(r"\s\S[^\n]*[?\uff1f\u061f]")
_EXCLAIMED = {
    # Behind "Okay, so" and the like come thoughts.
    False: re.compile(
        rf"\A(?!(?:ok|okay|alright)\W+(?:so|let|the|i|we|this|now|first)\b)"
        rf"(?:{OPENER}[!.,:]|for example[,:]|e\.g\.|q\.)\s+(?=\S)",
        re.IGNORECASE,
    ),
    True: re.compile(rf"\A{OPENER}[!.:]\s+(?=\S)", re.IGNORECASE),
}
_TAGS = r"(?:\w+_)?(?:final_?answer|answer|response|query|question|passage|negative|solution)(?:_\w+)?"
_TAG = re.compile(rf"\A(?:<\|?{_TAGS}\|?>)\s*(?=\S)", re.IGNORECASE)
_END_TAG = re.compile(
    rf"(?<=\S)\s*(?:</{_TAGS}>|<\|end_(?:of_solution|response)\|>|\[/(?:answer|query|question|passage)\])\s*\Z",
    re.IGNORECASE,
)
_ELEMENT = {
    False: re.compile(r"\A<(\w+)(?: [^<>]*)?>(.*)</\1>\Z", re.DOTALL),
    True: re.compile(rf"\A<({_TAGS}|text|output|result|document|final)>(.*)</\1>\Z", re.DOTALL | re.IGNORECASE),
}
_FENCED = re.compile(r"\A(`{3,}|~{3,})[\w+-]*[ \t]*\n?((?:(?!\1).)*)(?:\1\s*)?\Z", re.DOTALL)
_FIRST_FENCED = re.compile(r"\A(`{3,}|~{3,})[\w+-]*[ \t]*\n((?:(?!\1).)+)\1", re.DOTALL)
LIST_MARK = re.compile(
    r"\A\s*(?:>\s+|[\u2190-\u21ff\u2600-\u27bf\U0001f300-\U0001faff]\ufe0f?\s+|[-*\u2022\u2013\u25a0-\u25ff\u2023]\s+|"
    r"\*{0,2}\(?\d{1,2}[.)](?:\*\*\s*|\s+)|\(?[a-cA-C]\)\s+(?!.*\b[a-cA-C]\)))(?=\S)"
)
_HEADING = {
    False: re.compile(r"\A#{1,6}\s+(?=\S)"),
    True: re.compile(r"\A#{1,6}\s+(?=[^\n]+(?:\n\s*\n|\Z))(?!.*\n#)", re.DOTALL),  # else a comment, or one of several
}
_PAIRED = re.compile(
    r"\A(\*{1,3}|__?|~{1,2}|`{1,2}|={1,2}|''|\"{3})(?=\S|\n)(.+?)(?<=[\S\n])\1([.?!\u3002]?)\Z", re.DOTALL
)
_NAME = re.compile(r"[!-~]+")
_BRACKETS = re.compile(r"\A(?:\[([^\[\]]+)\]|\(([^()]+)\)|\{{1,2}([^{}]+)\}{1,2}|<{1,2}([^<>]+)>{1,2}|\|([^|]+)\|)\Z")
_RULE_BEFORE = re.compile(r"\A(?:[-*_=]{3,}[ \t]*\n|<br ?/?>)\s*(?=\S)")
_RULE_BEHIND = re.compile(r"(?<=\S)\s*(?:#{3,}|`{3,}|<br ?/?>|\n[-*_=]{3,})\s*\Z")
_EMOJI = re.compile(
    r"(?:(?<=[?.!\uff1f\u3002])\s*[\u2600-\u27bf\U0001f300-\U0001faff\ufe0f]+|"
    r"(?<! of)(?<! is)(?<!mean)(?<!emoji)(?<!symbol)\s+[\u2705\u2714\U0001f50d\U0001f50e]\ufe0f?)\Z"
)
_WORD_COUNT = re.compile(
    r"(?<=\S)\s*[*_]*[(\[]\d+ (?:words|wörter|mots|palabras|parole|woorden)[)\]][*_]*\Z", re.IGNORECASE
)
_AFTER_QUESTION = re.compile(
    r"(?<=[?\uff1f\u061f])[\"\u201d*_]*,?\s+(?:[-\u2013\u2014(]\s*|(?:/|or|and|also|q?\d[.:)])\s*)*"
    r"(?:(?:answer|a|antwort|réponse|respuesta|risposta|resposta|antwoord|explanation|note|rationale)[*_]*\s*[:\uff1a]|"
    r"(?:this|it|the query|the question|asks?|let me know if|feel free to|i hope|ich hoffe|j'espère|espero)\b"
    r"(?=[^?]*\Z)|"
    r"[^?\n]{8,}[?\uff1f]\W*\Z).*\Z",
    re.IGNORECASE | re.DOTALL,
)
"""What follows a question: its answer, a remark, or another question."""
_PASSAGE_FOLLOWS = re.compile(
    rf"(?:(?:{OPENER}[!.,].{{0,80}}|(?:here(?:['\u2019]s| is)|below is|{LEADS})\b.{{0,60}})"
    rf"\b(?:{OF_PASSAGES}|text)\b.{{0,100}}|(?:以下|下面|[这這]是|はい).{{0,30}}(?:段落|文字|文章|文本))[:\uff1a][\s*_]*",
    re.IGNORECASE,
)
_BEHIND_PASSAGE = re.compile(
    r"(?<=\S)\s*(?:^[\s*_#]*(?:hard )?(?:negative|passage|paragraph)(?: passage)? ?#?2[*_]*[ \t]*(?:[:\n]|\Z).*|"
    r"\n[ \t]*\n[\s*_#]*(?:explanation|rationale|reasoning|why this works|erklärung|begründung|explication|explicación|"
    r"spiegazione|explicação|toelichting|объяснение)[*_]*\s?:(?:(?!\n[ \t]*\n).)*)\Z",
    _LINES | re.DOTALL,
)
_BOLD_TITLE = re.compile(r"\A\*\*([^*\n]+)\*\*(?=\s*\n)")
_BOLD = re.compile(r"(?<![\w*])\*\*(?=[^\s*])([^*\n]+?)(?<=\S)\*\*(?![\w*])")
_LATEX = re.compile(r"\A\$?\\(?:boxed|text\w*|emph)\{(?:\\text\{)?(.+?)\}{1,2}\$?\Z", re.DOTALL)
_NOTE = re.compile(
    r"(?<=\S)\s*[*_]*[(\[][*_]*(?:\s*(?:note|explanation|hinweis|anmerkung|erklärung|remarque|nota|opmerking)\b[^()\[\]]*|"
    r"\s*(?:this|the|diese|cette|esta) (?:query|question|frage|anfrage|requête|pregunta|consulta)\b[^()\[\]]*|"
    rf"\s*(?:in )?english\s*|(?:{ALSO}[ -])+(?:{OF_QUERIES}))"
    r"[)\]][*_]*\Z",
    re.IGNORECASE,
)
_QUOTES = {
    '"': '"\u201d', "'": "'", "`": "`", "\u201c": "\u201d\u201c", "\u201d": "\u201d", "\u201e": '\u201c\u201d"',
    "\u00ab": "\u00bb", "\u00bb": "\u00ab\u00bb", "\u2018": "\u2019", "\u201a": "\u2018\u2019", "\u2039": "\u203a",
    "\u203a": "\u2039", "\u300c": "\u300d", "\u300e": "\u300f", "\u300a": "\u300b",
}  # fmt: skip
_BARE = re.compile(r"[^\W_]+(?:(?:,? |[-'\u2019])[^\W_]+)*[?.]?")
"""Words alone; most answers are this, and to look for all else takes a tenth of a millisecond."""
_AROUND = " \t\r\n\u00a0\u200b\u200e\u200f\ufeff"


def unwrapped(text: str, source: str = "", *, passage: bool = False) -> str:
    """A text without what stands round it.

    Args:
        text: of an answer.
        source: what the answer was written for: marks that stand there too belong to the text.
        passage: whether a passage was asked for. It may have several lines and speak of questions.

    >>> [unwrapped(text) for text in ("**Query:** what is it?", '1. "What is it?"', "*args and **kwargs", "a “b” c")]
    ['what is it?', 'What is it?', '*args and **kwargs', 'a “b” c']
    >>> unwrapped("Sure! Here is a query for it:" + chr(10) * 2 + "what is it?")
    'what is it?'
    """
    if _BARE.fullmatch(text) and not _EXCLAIMED[False].match(text):
        return text
    while (shorter := _once(text.strip(_AROUND), source, passage=passage)) != text:
        text = shorter
    return text


def is_lead_in(line: str) -> bool:
    """Whether a line only leads to what comes behind it.

    >>> is_lead_in("Here's a question about owls:"), is_lead_in("Here is how owls hunt")
    (True, False)
    """
    bare = line.strip(_AROUND + "*_#").replace("\u2019", "'")
    is_title = line.lstrip().startswith(("#", "**")) and _TITLE.fullmatch(bare) is not None
    return is_title or _LEAD_IN_ALONE.fullmatch(bare) is not None


def _once(text: str, source: str, *, passage: bool) -> str:
    """A text without its outermost layer."""
    fenced = _FENCED.match(text) or (None if passage else _FIRST_FENCED.match(text))
    if fenced and fenced[2].strip():
        return fenced[2]
    for mark in (_TAG, _END_TAG, _HEADING[passage], _WORD_COUNT):
        text = without_mark(mark, text, source)
    text = _LABELS[passage].sub("", text, count=1)
    first, later = text.partition("\n")[0], _LATER[passage].search(text, 1)
    if later and not (first.rstrip().endswith("?") and later.start() > len(first)):
        return text[later.end() :]
    element = _ELEMENT[passage].match(text)
    if element and f"<{element[1]}" not in source:
        return element[2]
    text = _of_passage(text, source) if passage else _of_query(text, source)
    listed = LIST_MARK.match(text)
    if (
        listed
        and set(re.findall(r"(\d+)\.", listed[0])) <= {"1"}
        and not any(map(LIST_MARK.match, text.splitlines()[1:]))
    ):
        text = without_mark(LIST_MARK, text, source)
    paired = _PAIRED.match(text)
    # `__init__` and `*args` are names: what is emphasised has a space in it, or is doubly marked.
    if paired and paired[1] not in paired[2] and (not _NAME.fullmatch(paired[2]) or paired[1] in {"**", "***", "~~"}):
        text = paired[2] + paired[3]
    if latex := _LATEX.match(text):
        text = latex[1]
    return _without_quotes(text).strip(_AROUND)


def _of_query(text: str, source: str) -> str:
    """A query without what chat models put round one line."""
    bracketed = _BRACKETS.match(text)
    if bracketed and not _NAME.fullmatch(text[1:-1]) and text not in source:
        text = "".join(filter(None, bracketed.groups()))
    text = _without_lead_in(text, source)
    for mark in (_EXCLAIMED[False], _RULE_BEFORE, _RULE_BEHIND, _NOTE, _AFTER_QUESTION, _EMOJI):
        text = without_mark(mark, text, source)
    return text if "**" in source else _BOLD.sub(r"\1", text)


def _of_passage(text: str, source: str) -> str:
    """A passage without the query that it repeats first or a lead-in, and without what is said of it behind it."""
    first, _, rest = text.partition("\n")
    begins = rest.lstrip("\n")[:1]
    leads_in = _PASSAGE_FOLLOWS.fullmatch(first) and (begins.isalpha() or begins in _QUOTES)  # else a list, or code
    if rest.strip() and (leads_in or (source and normalised(first) == normalised(source))):
        return rest
    text = _BOLD_TITLE.sub(r"\1", without_mark(_EXCLAIMED[True], text, source))
    return _BEHIND_PASSAGE.sub("", text)


def without_mark(mark: re.Pattern[str], text: str, source: str) -> str:
    """A text without a mark at one of its ends, unless that stands in what the answer was written for.

    Args:
        mark: matches at one end.
        text: of an answer.
        source: see `unwrapped`. A mark at the start has to stand before the same word there.

    >>> without_mark(LIST_MARK, "1. FC Köln", ""), without_mark(LIST_MARK, "1. FC Köln", "Der 1. FC Köln siegte.")
    ('FC Köln', '1. FC Köln')
    """
    found = mark.search(text)
    if found is None:
        return text
    rest = text[: found.start()] + text[found.end() :]
    head = found[0].strip()
    if not found.start() and head[:1] not in "<[":
        head += f" {rest.split()[0]}"
    return text if head in source else rest


def _without_lead_in(text: str, source: str) -> str:
    """A query without the sentence that introduces it, on its own line or before a colon."""
    first, _, rest = text.partition("\n")
    if rest.strip() and is_lead_in(first):
        return rest
    found = _LEAD_IN.match(text.replace("\u2019", "'"))
    if not found and source and not is_lead_in(first) and (opening := _OPENING.match(text)):
        introduces = _ASKS.search(opening[1]) or _QUESTION.search(text, opening.end())
        found = opening if introduces and not _shares_a_word(opening[1], source) else None
    return text[found.end() :] if found else text


def _shares_a_word(opening: str, source: str) -> bool:
    """Whether what stands before a colon belongs to a query: a word of it, or a short name, is in the passage."""
    said, names = FILLER.sub(" ", ASKING.sub(" ", opening[:-1])), set(re.split(r"[\s.,;:()]+", source))
    parts = [word[at : at + 2] for word in said.split() if is_unspaced(word) for at in range(len(word) - 1)]
    words = [word for word in said.split() if not is_unspaced(word)]
    starts = " ".join(["", *names]).casefold()
    return any(part in source for part in parts) or any(
        f" {word[:5].casefold()}" in starts if len(word) > 3 else word in names and not word.islower()  # noqa: PLR2004
        for word in words
    )


def _without_quotes(text: str) -> str:
    """A text without the pair of quotes round the whole of it, or a single one that has lost the other."""
    text = text[:-1] if text[-2:] == '",' else text  # of JSON
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

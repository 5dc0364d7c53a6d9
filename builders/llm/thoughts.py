"""Thoughts that a server leaves in a reasoning model's text, and the answer behind them.

Models mark their thoughts in many ways: `<think>`, `<seed:think>`, `[THINK]`, `<|channel|>analysis`. Some chat
templates write the opening mark themselves, so that the text has the closing one alone. A cut answer has no closing
mark.
"""

import re

_STRONG = r"think(?:ing)?|thoughts?|reasoning"
_WEAK = (
    r"reason|(?:\w+_)?(?:reflect\w*|analys[ie]s)|scratch_?pad|\w*monologue|inner_\w+|deliberation|rationale|"
    r"chain_of_thoughts?|cot\w*|contemplat\w+|ponder\w*|internal\w*|plan(?:ning)?|brainstorm\w*|gedanken?|überlegung\w*|"
    r"(?:nach)?denken|pensées?|penser|réflexion|raisonnement|pensamientos?|razonamiento|ragionamento|pensieri|"
    r"racioc[ií]nio|redenering|gedachten|myśl\w+|рассужд\w+|размышл\w+|мысли|思[考维]\w*|推理\w*|tool_call|"
    r"details(?=\s[^>]*reason|>\s*<summary>\s*(?:thought|think|reason))|(?<=/)details"
)
_MARK = re.compile(
    r"(?:(?P<tag><\|?|&lt;)|\[{1,2}|\{{2}|【|\u25c1|<\uff5c)\s*"
    rf"(?P<close>/\s*|end_(?:of_)?|(?:{_STRONG}|inner)(?=_(?:end|suffix)\b))?"
    r"(?:begin_(?:of_)?|start_(?:of_)?|\w+[:|])?"
    rf"(?:(?P<strong>(?:\w+_|ant)?(?:{_STRONG})(?:_\w+)?|(?(close)_end|(?!)))|(?P<weak>{_WEAK}|(?(close)_suffix|(?!))))"
    r"(?(tag)(?:\s[^<>&\[\]]{0,80})?)\s*(?:\|?>|&gt;|\]{1,2}|\}{2}|】|\u25b7|\uff5c>)",
    re.IGNORECASE,
)
"""An opening or closing mark."""
_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_STRIPPED_CHANNELS = re.compile(
    r"(?s)\A\s*(?:assistant)?(?:analysis|commentary)(?:(?=\s*[A-Z]).*?assistant\s*final(?=\S)|"
    r"(?=(?:We|The|User|Need|I|Let|So|Okay|Just|Hm+|First|This|Given|They|Passage)[, '\u2019]).*\Z)"
)
_SPOKEN_OF = re.compile(r"\s(?:tags?|elements?|tokens?|blocks?|marks?)\b")  # behind a mark that a text is about
_MAY_HAVE = re.compile(
    r"(?i)[<\[\u25c1\u3010]|&lt;|\{\{|\A[\s*#_]*(?:here is|my|think|thought|reason|chain|analysis|commentary|assistant)"
)
"""What all thoughts have: a bracket, or a word that may name them at the start."""
_UNNAMED = re.compile(  # of Gemma and Pangu, and as Ollama prints it
    r"(?s)<\|channel>\s*thought.*?(?:<channel\|>|\Z)|<(?:unused|ctrl)94>.*?(?:<(?:unused|ctrl)95>|\Z)|"
    r"\A\s*(?:\[unused16\].*?\[unused17\]|Thinking\.{3}\n.*?\n\.{3}done thinking\.)"
)
_SPOKEN = re.compile(
    r"\A[\s*#_]*(?:(?:here is )?my )?(?:th(?:inking|oughts?)(?: process)?|reasoning|chain of thought)[*_]*"
    r"(?:\s*[:\uff1a]|[ \t]*\n).*^[\s*#_]*(?:(?:here is )?(?:my|the) )?(?:final )?"
    r"(?:answer|response|output|(?:search )?query|question)[*_]*(?:\s*[:\uff1a][*_]*|[ \t]*\n)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
"""Thoughts under a label of their own, up to the label of the answer."""


def has_thoughts(text: str) -> bool:
    """Whether a text holds marks of thoughts."""
    return without_thoughts(text) != text


def without_thoughts(text: str) -> str:
    """The answer behind the thoughts; empty where there is none.

    >>> without_thoughts("<think>Hm.</think> yes"), without_thoughts("[THINK]Hm.[/THINK]yes")
    ('yes', 'yes')
    >>> without_thoughts("[Thoughts on owls] They hunt.")
    '[Thoughts on owls] They hunt.'
    >>> without_thoughts("Hm, what?</think>yes"), without_thoughts("<thought>Hm"), without_thoughts("the `<think>` tag")
    ('yes', '', 'the `<think>` tag')
    """
    if not _MAY_HAVE.search(text):  # as most answers
        return text
    text = _UNNAMED.sub("", text)
    if "<|channel|>" in text:
        *_, final = [None, *_FINAL.finditer(text)]
        text = text[final.end() :] if final else text.partition("<|channel|>")[0]
    text = _SPOKEN.sub("", _STRIPPED_CHANNELS.sub("", text, count=1), count=1)
    while (shorter := _once(text)) != text:
        text = shorter
    return text


def _once(text: str) -> str:
    """A text without its first stretch of thoughts."""
    marks = [mark for mark in _MARK.finditer(text) if not _is_quoted(text, mark)]
    if not marks or _SPOKEN_OF.match(text, marks[0].end()):
        return text
    first = marks[0]
    if not first["close"] and not text[: first.start()].strip():
        end = _end(marks)
        if end is None:  # brackets may be a heading such as [Analysis], a link or a variable of a template
            is_heading = not first["strong"] or not (first[0].isupper() or text[first.end() :][:1].isupper())
            return text if is_heading and first[0][0] not in "<\u25c1" else ""
        return text[end:].lstrip()
    opened = 0
    for mark in marks:
        if mark["close"] and mark["strong"] and not opened:
            return text[mark.end() :].lstrip()
        opened += -1 if mark["close"] else 1
    # In the middle of an answer, only on its own line or right behind a sentence; else a text may be about such marks.
    for number, mark in enumerate(marks):
        if mark["strong"] and not mark["close"] and text[: mark.start()].endswith(("\n", "?", ".", "</answer>")):
            end = _end(marks[number:])
            if end is not None or mark[0].startswith("<"):
                return text[: mark.start()] + ("" if end is None else text[end:])
    return text


def _is_quoted(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark stands in quotes or backticks, as in a text about such marks."""
    before, after = text[: mark.start()][-1:], text[mark.end() :][:1]
    return before == after and before in {"`", '"', "'"}


def _end(marks: list[re.Match[str]]) -> int | None:
    """Where the thoughts end that the first mark opens: at its closing mark, else at the last one there is."""
    depth = 0
    for mark in marks:
        depth += -1 if mark["close"] else 1
        if depth == 0:
            return mark.end()
    return next((mark.end() for mark in reversed(marks) if mark["close"]), None)

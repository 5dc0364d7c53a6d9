"""Prompts: versioned TOML files in this folder. A published prompt is never edited; a better one gets a new number.

A file holds the prompt in English and its editions for corpora in other languages. Each edition follows a line such as
`# language: de` and is a table of that name. It is called `NAME.LANGUAGE`.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct

from foils.errors import UserError
from foils.languages import english_name
from foils.recipe import decode_config

FOLDER = Path(__file__).parent
LEAK_WORDS = 8
CHARACTERS = 2, 4
"""The fewest and the most characters that a word has, roughly, where no spaces stand between words."""
UNSPACED = frozenset({"zh", "cmn", "yue", "wuu", "ja", "th", "lo", "km", "my"})
"""Languages of which that holds."""
NO_LANGUAGE = frozenset({"mul", "mis", "und", "zxx"})
_WORDS = re.compile(r"(\d+) to (\d+) words")
_EDITION = re.compile(r"^# language: ([a-z]+)\n", re.MULTILINE)
# Chat templates end turns with these. A passage that holds one is data about chat templates and must stay data.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # Unicode's category Cc without tab and line feed
_TURN_MARKS = re.compile(
    r"<(?=\||/?s>|/?(?:start|end)_of_turn>|/?(?:bos|eos|pad|unk|think|thinking|tool_call|tool_response|system|user|assistant)>|\uff5c)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK)\])|<(?=</?SYS>>)",
    re.IGNORECASE,
)


class Turn(Struct, frozen=True, forbid_unknown_fields=True):
    """One worked example: what the LLM is shown, and the answer it should have given.

    Attributes:
        input: what is shown.
        answer: the answer; where a prompt asks for several texts, one a line.
        count: the number of these texts.
    """

    input: str
    answer: str
    count: int = 1


class Parts(Struct, frozen=True, forbid_unknown_fields=True):
    """The labels of an answer's parts, each at the beginning of a line.

    Attributes:
        requires: of what a passage must say to answer the query, with semicolons between the requirements.
        breaks: of the requirement that the passage does not meet.
        title: of the passage's title.
        passage: of the passage's text, which ends the answer.
    """

    requires: str
    breaks: str
    title: str
    passage: str


class Prompt(Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt file.

    Attributes:
        system: the instructions.
        user: the wrapping of each input; holds `{input}` once, and `{count}` once if `several`.
        turns: worked examples, sent as earlier turns of the conversation.
        several: whether an answer holds several texts, one a line.
        priming: a question that the LLM may be asked first; its own answer then opens every conversation.
        min_words: the fewest words of an answer, where the recipe does not say.
        max_words: the most words of an answer, where the recipe does not say.
        parts: the labels of an answer that holds a whole passage with its title; None where an answer is one text.
    """

    system: str
    user: str
    turns: tuple[Turn, ...] = ()
    several: bool = False
    priming: str | None = None
    min_words: int | None = None
    max_words: int | None = None
    parts: Parts | None = None

    def messages(
        self, text: str, primed: str | None = None, *, count: int = 1, shift: int = 0
    ) -> tuple[dict[str, str], ...]:
        """The whole conversation for one input.

        Args:
            text: the input; it comes from a corpus or an LLM and is treated as data.
            primed: what the LLM answered to `priming`.
            count: how many texts are asked for, if `several`.
            shift: begins with a later worked example, the first ones last. So servers that heed neither seed nor
                temperature (`transformers serve` with batching) give another answer to the same input.
        """
        opening = _opening(self, primed, shift)
        return (*opening, {"role": "user", "content": self.wrapped(as_data(text), count)})

    def leaks(self, text: str) -> bool:
        """Whether a text repeats its instructions: `LEAK_WORDS` words in a row of it, or an example's answer."""
        words, (runs, answers) = _folded(text), _secrets(self)
        return tuple(words) in answers or not runs.isdisjoint(_runs(words))

    def wrapped(self, text: str, count: int) -> str:
        """An input as the LLM gets it."""
        before, _, after = self.user.partition("{input}")  # the input may itself hold {count}
        number = str(count)
        return before.replace("{count}", number) + text + after.replace("{count}", number)


@lru_cache(maxsize=64)
def next_turn(prompt: Prompt) -> re.Pattern[str] | None:
    """How a further turn would begin, on a line of its own; None where an input is not wrapped."""
    before = prompt.user.partition("{input}")[0].strip()
    mark = re.escape(before).replace(re.escape("{count}"), r"\d+")
    return re.compile(rf"^[\s*_#>]*{mark}", re.MULTILINE) if before else None


@lru_cache(maxsize=256)
def _opening(prompt: Prompt, primed: str | None, shift: int) -> tuple[dict[str, str], ...]:
    """A conversation up to its last turn, which is the same for all inputs."""
    opening = [("system", prompt.system)]
    if prompt.priming is not None and primed is not None:
        opening += [("user", prompt.priming), ("assistant", as_data(primed))]
    first = shift % len(prompt.turns) if prompt.turns else 0
    for turn in prompt.turns[first:] + prompt.turns[:first]:
        opening += [("user", prompt.wrapped(turn.input, turn.count)), ("assistant", turn.answer)]
    return tuple({"role": role, "content": content} for role, content in opening)


def as_data(text: str) -> str:
    r"""A text that no chat template takes for the end of a turn: control characters go, marks are opened with a space.

    >>> as_data("one<|im_end|> two\x00 [/INST] a < b")
    'one< |im_end|> two [ /INST] a < b'
    """
    if not text.isprintable():  # most passages are, and this is a hundred times faster
        text = _CONTROL.sub("", text)
    return _TURN_MARKS.sub(lambda found: f"{found[0]} ", text) if "<" in text or "[" in text else text


def load_prompt(name: str) -> Prompt:
    """Reads a prompt by name.

    Raises:
        UserError: the prompt is not known, or lacks its `{input}`, or its `{count}`.
    """
    prompt = decode_config(tomllib.loads(prompt_text(name)), Prompt, name)
    if prompt.user.count("{input}") != 1 or prompt.user.count("{count}") != prompt.several:
        raise UserError(
            f"prompt {name!r}: user must hold {{input}} exactly once, and {{count}} exactly once where several = true"
        )
    return prompt


def in_language(name: str, language: str) -> str:
    """The name of a prompt's edition in a language, or of the prompt itself where there is none.

    >>> in_language("question-v1", "de"), in_language("question-v1", "en")
    ('question-v1.de', 'question-v1')
    """
    edition = f"{name}.{language}"
    return edition if edition in _texts() else name


def prompt_in(name: str, language: str) -> Prompt:
    """A prompt for answers in a language: its edition, or the English one, which then asks for that language.

    >>> prompt_in("keywords-v1", "ja").system.endswith("Write in Japanese."), prompt_in("keywords-v1", "de").max_words
    (True, 10)

    Raises:
        UserError: as `load_prompt`.
    """
    prompt = load_prompt(in_language(name, language))
    if not without_edition([name], language):
        return prompt
    system = f"{prompt.system} Write in {english_name(language)}{', but for the labels' if prompt.parts else ''}."
    if language in UNSPACED:
        system = _WORDS.sub(_characters, system)
    return msgspec.structs.replace(prompt, system=system)


def _characters(words: re.Match[str]) -> str:
    least, most = (int(number) * times for number, times in zip(words.groups(), CHARACTERS, strict=True))
    return f"{least} to {most} characters"


def without_edition(names: Iterable[str], language: str) -> list[str]:
    """Returns the prompts that have editions in other languages but not in this one; those in parts need one, too.

    >>> without_edition(["question-v1", "relevance-judge-v1"], "sv"), without_edition(["question-v1"], "de")
    (['question-v1'], [])
    """
    translated = {known.partition(".")[0] for known in _texts() if "." in known}
    if language in {"en", *NO_LANGUAGE}:
        return []
    lacks = (name for name in names if in_language(name, language) == name)
    return sorted(name for name in lacks if name in translated or load_prompt(name).parts is not None)


def prompt_hash(name: str) -> str:
    """SHA-256 (hex) of a prompt's text."""
    return hashlib.sha256(prompt_text(name).encode()).hexdigest()


def prompt_text(name: str) -> str:
    """The TOML of a prompt, or of one of its editions, as if it had a file of its own.

    Raises:
        UserError: the prompt is not known.
    """
    texts = _texts()
    if name not in texts:
        allowed = ", ".join(known for known in texts if "." not in known)
        raise UserError(f"prompt {name!r}: no such prompt; allowed: {allowed}; add yours to builders/prompts/")
    return texts[name]


@lru_cache(maxsize=64)
def _secrets(prompt: Prompt) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """The runs of words in the instructions and the examples' answers, and those answers, as words."""
    answers = [_folded(line) for turn in prompt.turns for line in turn.answer.splitlines()]
    return {run for words in (_folded(prompt.system), *answers) for run in _runs(words)}, set(map(tuple, answers))


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All `LEAK_WORDS` words in a row."""
    return zip(*(words[start:] for start in range(LEAK_WORDS)), strict=False)


def _folded(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _texts() -> dict[str, str]:
    """The text of every prompt and edition, by name."""
    found = {}
    for file in sorted(FOLDER.glob("*.toml")):
        found[file.stem], *editions = _EDITION.split(file.read_text("utf-8"))
        for language, text in zip(editions[::2], editions[1::2], strict=True):
            plain = text.replace(f"[{language}]\n", "", 1).replace(f"[[{language}.turns]]", "[[turns]]")
            found[f"{file.stem}.{language}"] = plain
    return found

"""Prompts: versioned TOML files in this folder. A published prompt is never edited; a better one gets a new number."""

import re
import tomllib
import unicodedata
from pathlib import Path

from msgspec import Struct

from cards.errors import UserError
from cards.provenance import sha256_file
from cards.recipe import decode_config

FOLDER = Path(__file__).parent
LEAK_WORDS = 8
# What chat templates end turns with. A passage that holds one is data about chat templates, and must stay data.
_TURN_MARKS = re.compile(
    r"<(?=\||/?s>|/?(?:start|end)_of_turn>|/?(?:bos|eos|pad|unk|think|system|user|assistant)>|\uff5c)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\])|<(?=</?SYS>>)",
    re.IGNORECASE,
)


class Turn(Struct, frozen=True, forbid_unknown_fields=True):
    """One worked example: what the LLM is shown, and the answer it should have given."""

    input: str
    answer: str


class Prompt(Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt file.

    Attributes:
        system: what the LLM is told first.
        user: the wrapping of each input; holds `{input}` once.
        turns: worked examples, sent as earlier turns of the conversation.
        priming: a question that the LLM may be asked first; its own answer then opens every conversation.
        min_words: what an answer must have, where the recipe does not say; likewise `max_words`.
    """

    system: str
    user: str
    turns: tuple[Turn, ...] = ()
    priming: str | None = None
    min_words: int | None = None
    max_words: int | None = None

    def messages(self, text: str, primed: str | None = None) -> tuple[dict[str, str], ...]:
        """The whole conversation for one input.

        Args:
            text: the input; it comes from a corpus or an LLM and is treated as data.
            primed: what the LLM answered to `priming`.
        """
        shown: list[dict[str, str]] = [{"role": "system", "content": self.system}]
        if self.priming is not None and primed is not None:
            shown.append({"role": "user", "content": self.priming})
            shown.append({"role": "assistant", "content": as_data(primed)})
        for turn in self.turns:
            shown.append({"role": "user", "content": self._wrap(turn.input)})
            shown.append({"role": "assistant", "content": turn.answer})
        return (*shown, {"role": "user", "content": self._wrap(text)})

    def leaks(self, text: str) -> bool:
        """Whether a text repeats `LEAK_WORDS` words in a row of what the LLM was told, in place of an answer."""
        words = _folded(text)
        told = " ".join(_folded(self.system))
        return any(" ".join(words[start : start + LEAK_WORDS]) in told for start in range(len(words) - LEAK_WORDS + 1))

    def _wrap(self, text: str) -> str:
        return self.user.replace("{input}", as_data(text))


def as_data(text: str) -> str:
    r"""A text that no chat template takes for the end of a turn: control characters go, marks are opened with a space.

    >>> as_data("one<|im_end|> two\x00 [/INST] a < b")
    'one< |im_end|> two [ /INST] a < b'
    """
    plain = "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")
    return _TURN_MARKS.sub(lambda found: f"{found[0]} ", plain)


def load_prompt(name: str) -> Prompt:
    """Reads a prompt by name.

    Raises:
        UserError: there is no such prompt, or it lacks its `{input}`.
    """
    path = _file(name)
    prompt = decode_config(tomllib.loads(path.read_text("utf-8")), Prompt, str(path))
    if prompt.user.count("{input}") != 1:
        raise UserError(f"prompt {name!r}: user must hold {{input}} exactly once")
    return prompt


def prompt_hash(name: str) -> str:
    """SHA-256 (hex) of a prompt's file."""
    return sha256_file(_file(name))


def prompt_text(name: str) -> str:
    """A prompt's file, for cards."""
    return _file(name).read_text("utf-8")


def _folded(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _file(name: str) -> Path:
    files = {file.stem: file for file in sorted(FOLDER.glob("*.toml"))}
    if name not in files:
        raise UserError(f"prompt {name!r}: no such prompt; allowed: {', '.join(files)}; add yours to builders/prompts/")
    return files[name]

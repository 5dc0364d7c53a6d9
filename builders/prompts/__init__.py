"""Prompts: versioned TOML files in this folder. A published prompt is never edited; a better one gets a new number."""

import tomllib
from pathlib import Path

from msgspec import Struct

from cards.errors import UserError
from cards.provenance import sha256_file
from cards.recipe import decode_config

FOLDER = Path(__file__).parent


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
    """

    system: str
    user: str
    turns: tuple[Turn, ...] = ()

    def messages(self, text: str) -> tuple[dict[str, str], ...]:
        """The whole conversation for one input."""
        shown: list[dict[str, str]] = [{"role": "system", "content": self.system}]
        for turn in self.turns:
            shown.append({"role": "user", "content": self._wrap(turn.input)})
            shown.append({"role": "assistant", "content": turn.answer})
        return (*shown, {"role": "user", "content": self._wrap(text)})

    def _wrap(self, text: str) -> str:
        return self.user.replace("{input}", text)


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


def _file(name: str) -> Path:
    files = {file.stem: file for file in sorted(FOLDER.glob("*.toml"))}
    if name not in files:
        raise UserError(f"prompt {name!r}: no such prompt; allowed: {', '.join(files)}; add yours to builders/prompts/")
    return files[name]

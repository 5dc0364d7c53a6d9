"""Recipes: TOML decoded into frozen structs, with the hash that every card and record carries.

Each stage declares its own struct; this module reads a file into it, applies `--set key=value`, and turns
every mistake into one line that names the key.
"""

import argparse
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args

import msgspec

from foils.errors import UserError

ConfigT = TypeVar("ConfigT", bound=msgspec.Struct)
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
"""A seed that every library takes, NumPy's global one included."""


class Recipe(msgspec.Struct, Generic[ConfigT], frozen=True):
    """A decoded recipe beside the text that it came from."""

    config: ConfigT
    text: str
    overrides: tuple[str, ...] = ()


def load_recipe(path: Path, overrides: Sequence[str], config_type: type[ConfigT]) -> Recipe[ConfigT]:
    """Reads a TOML recipe into `config_type`.

    Args:
        path: the recipe file, UTF-8.
        overrides: `key.path=value` strings; a value that is not TOML is taken as a string.
        config_type: a frozen `msgspec.Struct` that forbids unknown fields. Its class variable `REMOVED`, if there is
            one, says for keys that earlier versions had what to use instead.

    Raises:
        UserError: the file is missing, not UTF-8 or not TOML, or a key is unknown, missing or malformed.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        values = tomllib.loads(text)
    except FileNotFoundError:
        raise UserError(f"recipe {path}: no such file; the ready-made ones lie in */recipes/*.toml") from None
    except UnicodeDecodeError as error:
        raise UserError(f"recipe {path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except (tomllib.TOMLDecodeError, OSError) as error:
        raise UserError(f"recipe {path}: cannot be read: {error}") from None
    values = without_removed(overridden(values, overrides), config_type, off=True)
    return Recipe(decode_config(values, config_type, str(path)), text, tuple(overrides))


def overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Plain values with `key.path=value` strings applied, in place.

    >>> overridden({"llm": {"concurrency": 8}}, ["llm.concurrency=64", "kind=bm25"])
    {'llm': {'concurrency': 64}, 'kind': 'bm25'}

    Raises:
        UserError: a string has another form, or leads through a value that is no table.
    """
    for override in overrides:
        key, equals, raw = override.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {override}: wanted KEY=VALUE, such as --set llm.concurrency=64")
        *parents, last = key.strip().split(".")
        table = values
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise UserError(f"--set {override}: {parent} is a value and not a table of the recipe")
        table[last] = _read(raw)
    return values


def decode_config(values: object, config_type: type[ConfigT], where: str) -> ConfigT:
    """Decodes plain values into a struct; every mistake names its key.

    Raises:
        UserError: a key is unknown, missing or of the wrong type.
    """
    try:
        return msgspec.convert(values, config_type)
    except msgspec.ValidationError as error:
        raise UserError(f"recipe {where}: {_explain(str(error), config_type)}") from None


def without_removed(values: dict[str, Any], config_type: type[msgspec.Struct], *, off: bool = False) -> dict[str, Any]:
    """Removes from settings, in place, the keys that this version no longer has: those that are off, or all.

    >>> class Config(msgspec.Struct):
    ...     REMOVED = {"a.b": "use c"}
    >>> without_removed({"a": {"b": 1, "d": 2}}, Config)
    {'a': {'d': 2}}
    >>> without_removed({"a": {"b": "none"}}, Config, off=True), without_removed({"a": {"b": 1}}, Config, off=True)
    ({'a': {}}, {'a': {'b': 1}})
    """
    for key in getattr(config_type, "REMOVED", {}):
        *parents, last = key.split(".")
        table: Any = values
        for parent in parents:
            table = table.get(parent, {}) if isinstance(table, dict) else {}
        is_removed = isinstance(table, dict) and last not in _fields(config_type, parents)
        if is_removed and (not off or table.get(last) in ("none", False, [])):
            table.pop(last, None)
    return values


def config_hash(config: msgspec.Struct) -> str:
    """SHA-256 (hex) of a config's content: comments, key order and spelling of numbers do not count."""
    return hashlib.sha256(msgspec.json.encode(config, order="sorted")).hexdigest()


def recipe_arguments(description: str | None) -> argparse.ArgumentParser:
    """The command line that every stage shares: `RECIPE [--set key=value ...]`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="replace one value of the recipe, such as llm.concurrency=64; may be repeated",
    )
    return parser


def as_overrides(values: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """The `key.path=value` strings that set nested values, as `overridden` reads them.

    >>> list(as_overrides({"kind": "bm25", "trainer": {"max_steps": 4}, "also": [{"dataset": "a/b", "share": 0.2}]}))
    ['kind=bm25', 'trainer.max_steps=4', 'also=[{"dataset" = "a/b", "share" = 0.2}]']
    >>> list(as_overrides({"revision": "1.0"}))
    ['revision="1.0"']
    """
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from as_overrides(value, f"{within}{key}.")
        else:
            text = value if isinstance(value, str) and _read(value) == value else _inline(value)
            yield f"{within}{key}={text}"


def _inline(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _read(text: str) -> Any:
    """The value of an override: TOML, or else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(message: str, config_type: type) -> str:
    """Turns msgspec's words into `key: what is wrong; what is allowed`."""
    problem, _, path = message.replace(" | null", "").replace("`object`", "`table`").partition(" - at `")
    keys = [key for key in re.split(r"[.\[\]`\"']+", path.removesuffix("`").lstrip("$.")) if key]
    place = ".".join(keys) or "top level"
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", problem)
    missing = re.fullmatch(r"Object missing required field `(.*)`", problem)
    removed = getattr(config_type, "REMOVED", {})
    if unknown:
        key = ".".join([*keys, unknown[1]])
        if key in removed:
            return f"removed key {key}: {removed[key]}"
        return f"unknown key {key}; allowed here: {', '.join(_fields(config_type, keys))}"
    if missing:
        return f"missing key {'.'.join([*keys, missing[1]])}; add it to the recipe or give it with --set"
    allowed = _values(config_type, keys) if problem.startswith("Invalid enum value") else []
    remedy = f"; allowed: {', '.join(allowed)}" if allowed else ""
    remedy += f"; {removed[place]}" if place in removed else ""  # of a value that earlier versions took
    remedy += f"; in a shell: --set '{place}=[1, \"a\"]', texts in double quotes" if "array`, got" in problem else ""
    return f"{place}: {problem[:1].lower()}{problem[1:]}{remedy}"


def _struct_at(config_type: type, keys: Sequence[str]) -> type:
    """Follows `keys` from a struct to a nested one; the last struct on the way where they lead on."""
    for key in keys:
        field = next((f for f in msgspec.structs.fields(config_type) if f.encode_name == key), None)
        candidates = [] if field is None else [field.type, *get_args(field.type)]
        structs = [t for t in candidates if isinstance(t, type) and issubclass(t, msgspec.Struct)]
        if not structs:
            break
        config_type = structs[0]
    return config_type


def _fields(config_type: type, keys: Sequence[str]) -> list[str]:
    """Returns the names that a (nested) struct takes."""
    return [field.encode_name for field in msgspec.structs.fields(_struct_at(config_type, keys))]


def _values(config_type: type, keys: Sequence[str]) -> list[str]:
    """Returns the values that a key, or each item of a list, takes, if they are listed (`Literal`)."""
    *parents, last = [key for key in keys if not key.isdigit()]
    fields = msgspec.structs.fields(_struct_at(config_type, parents))
    types: list[Any] = [field.type for field in fields if field.encode_name == last]
    for one in types:  # grows: a union or a tuple holds further types
        types += [inner for inner in get_args(one) if not isinstance(inner, str)]
    return [value for one in types for value in get_args(one) if isinstance(value, str)]

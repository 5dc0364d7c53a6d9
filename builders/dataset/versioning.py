"""What differs between two builds, and what that means to those who read them."""

from collections.abc import Iterator, Mapping
from typing import Any

from cards.publish.versions import Change, Level, largest

Manifest = Mapping[str, Any]


def compare(earlier: Manifest, ours: Manifest) -> Change | None:
    """The change from an earlier version's manifest to ours; None where the two are the same.

    Other columns, or a configuration that is gone, are major; other rows and new configurations are minor; what leaves
    every row as it was is a patch.
    """
    if earlier == ours:
        return None
    return largest(_changes(earlier, ours)) or Change("patch", ("the record of how it was made",))


def _changes(earlier: Manifest, ours: Manifest) -> Iterator[Change]:
    before, now = earlier["configs"], ours["configs"]
    for config in before.keys() - now.keys():
        # A build that drops nothing has no ledger of drops, one that leaks nothing no leaks; nobody trains on them.
        yield Change("minor" if config in {"drops", "leakage"} else "major", (f"configuration {config} is gone",))
    for config in now.keys() - before.keys():
        yield Change("minor", (f"configuration {config} is new",))
    level: Level = "patch"
    for config in [name for name in now if name in before]:
        if before[config]["columns"] != now[config]["columns"]:
            columns = (", ".join(about[config]["columns"]) for about in (before, now))
            yield Change("major", (f"columns of {config}: {' -> '.join(columns)}",))
        elif [*before[config]["files"].values()] != [*now[config]["files"].values()]:
            level = "minor"
            old, new = before[config]["rows"], now[config]["rows"]
            yield Change(level, (f"{config}: {old} -> {new} rows" if old != new else f"other rows in {config}",))
    yield from (Change(level, (reason,)) for reason in _causes(earlier, ours))
    if earlier["license"] != ours["license"]:
        yield Change("patch", (f"licence: {earlier['license']} -> {ours['license']}",))


def _causes(earlier: Manifest, ours: Manifest) -> Iterator[str]:
    """What went into the build and is another than before."""
    before, now = earlier["inputs"], ours["inputs"]
    if [before["llm"][key] for key in ("model", "revision")] != [now["llm"][key] for key in ("model", "revision")]:
        yield f"LLM: {before['llm']['model']} -> {now['llm']['model']}"
    if before["corpus"] != now["corpus"]:
        names = (f"{corpus['source']}@{corpus['revision'][:14]}" for corpus in (before["corpus"], now["corpus"]))
        yield f"corpus: {' -> '.join(names)}"
    for key, name in (("queries", "labelled queries"), ("models", "models"), ("leakage", "evaluation sets")):
        if before.get(key) != now.get(key):
            yield f"other {name}"
    old, new = _flat(earlier["settings"]), _flat(ours["settings"])
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and not key.startswith(("llm.", "corpus.source", "corpus.revision")):
            yield f"recipe: {key} {old.get(key)} -> {new.get(key)}"
    for name in sorted(now["prompts"].keys() & before["prompts"].keys()):
        if before["prompts"][name] != now["prompts"][name]:
            yield f"prompt {name} was edited"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key.

    >>> _flat({"seed": 1, "llm": {"model": "m"}})
    {'seed': 1, 'llm.model': 'm'}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

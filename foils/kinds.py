"""What a recipe or run record may call the negatives of a training: a kind, several joined, or kinds with shares."""

from collections.abc import Collection


def kinds_of(kind: str, known: Collection[str] = ()) -> list[str]:
    """The configurations that a kind names, each once; a known one may itself be called like a mix.

    >>> kinds_of("llm + bm25:0.5, random:0.5")
    ['llm', 'bm25', 'random']
    >>> kinds_of("llm+bm25:0.5,random:0.5", ["llm+bm25", "random"])
    ['llm+bm25', 'random']
    """
    if kind == "none":
        return []
    if kind in known:
        return [kind]
    shared = [each.partition(":")[0].strip() for each in kind.split(",")]
    parts = [[each] if each in known else each.split("+") for each in shared]
    return list(dict.fromkeys(name.strip() for part in parts for name in part))

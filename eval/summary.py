"""A comparison in three sentences."""

from collections.abc import Sequence

from eval.recipe import CompareRecipe
from eval.runs import BASE, CONTROL
from eval.tables import Table
from eval.verdicts import Verdict

_ORDER = ("better", "equivalent", "worse", "undecided")


def summary(config: CompareRecipe, base: str, tables: Sequence[Table]) -> list[str]:
    """What was done, what hard negatives gave, and how the kinds differ among each other.

    Args:
        config: the comparison.
        base: the model that all arms start from.
        tables: by task; the last speaks for all.
    """
    whole = tables[-1]
    tasks = [table.task for table in tables if table.revision]
    trained = f"{len(config.seeds)} seeds" if len(config.seeds) > 1 else "one seed"
    arms = f"{len(config.arms)} kind{'s' if len(config.arms) > 1 else ''} of negatives"
    done = f"{base} was trained on {arms} with {trained} each, and measured on {_listed(tasks)}"
    against = CONTROL if CONTROL in config.arms else BASE
    sentences = [
        f"{done} ({whole.queries:,} queries).",
        f"Beside {_explained(against)}: {_grouped(whole, against, config.margin)}.",
    ]
    kinds = [found for found in whole.verdicts if not {found.first, found.second} & {BASE, CONTROL}]
    if kinds:
        sentences.append(_among(kinds))
    return sentences


def _explained(against: str) -> str:
    return f"{CONTROL}, which takes negatives from the batch alone" if against == CONTROL else f"the {BASE}"


def _grouped(table: Table, against: str, margin: float) -> str:
    """The arms by what is said of them beside another."""
    words: dict[str, list[str]] = {}
    for found in table.verdicts:
        if found.second == against:
            words.setdefault(found.word, []).append(f"{found.first} ({found.estimate.mean:+.4f})")
    names = {"equivalent": f"equivalent within {margin:g}"}
    return "; ".join(f"{names.get(word, word)}: {', '.join(words[word])}" for word in _ORDER if word in words)


def _among(kinds: Sequence[Verdict]) -> str:
    decided = [found for found in kinds if found.word != "undecided"]
    smallest = sorted(found.estimate.smallest for found in kinds)[len(kinds) // 2]
    told = f"Between the kinds, {len(decided)} of {len(kinds)} pairs are decided"
    if len(decided) == len(kinds):
        return f"{told}."
    return f"{told}; a typical pair had to differ by {smallest:.4f} to be found with a power of 80 %."


def _listed(names: Sequence[str]) -> str:
    """Names as in a sentence.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

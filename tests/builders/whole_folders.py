"""Data set folders that are whole, card and manifest included, for tests of what reads or amends them."""

import msgspec

from builders.dataset.folder import write_folder
from builders.recipe import BuildRecipe, CorpusConfig, NegativesConfig


def write_whole(folder, configs, kinds):
    """Writes a folder as a build would, with the manifest that a build of such a recipe has.

    Args:
        folder: where to.
        configs: configuration -> rows, the kinds' own among them.
        kinds: kinds of negatives.
    """
    recipe = BuildRecipe("made", CorpusConfig("made"), negatives=NegativesConfig(tuple(kinds)))
    record = {
        "name": "made",
        "recipe": {"text": 'name = "made"\n', "overrides": [], "identity": "made"},
        "settings": msgspec.to_builtins(recipe),
        "inputs": {
            "recipe": "made",
            "corpus": {"source": "made", "revision": "sha256:0", "sha256": "0" * 64},
            "llm": {"model": "none", "revision": None, "server": "openai"},
            "prompts": {},
        },
        "license": "cc0-1.0",
        "language": "en",
        "prompts": {},
        "models": {},
        "usage": {},
        "prices": None,
        "funnel": {"queries with negatives of every kind": 1},
    }
    write_folder(folder, configs, record)
    return folder

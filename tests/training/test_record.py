"""What a run record says of license, language and queries comes from base and data, or is not said."""

import json

import pytest

from tests.fixtures import tiny
from tests.fixtures.training import recipe_for, record
from training import train

pytestmark = pytest.mark.usefixtures("one_thread")
FROM_LLM = {"name": "d", "language": "de", "inputs": {"llm": {"model": "m"}}, "leakage": None}
LABELLED = {"name": "d", "language": "fr", "inputs": {"queries": {"source": "x"}, "llm": {"model": None}}}


@pytest.mark.parametrize(
    ("manifest", "known", "words"),
    [
        (None, {"license": "mit"}, "An embedding model for retrieval."),
        (FROM_LLM, {"license": "mit", "language": ["de"], "queries": "llm"}, "without labels on queries that an LLM"),
        (LABELLED, {"license": "mit", "language": ["fr"], "queries": "labelled"}, "trained on labelled queries."),
    ],
)
def test_the_card_says_what_base_and_manifest_say(tmp_path, manifest, known, words):
    base = tiny.retriever("mean", tmp_path / "base")
    (base / "README.md").write_text("---\nlicense: mit\n---\n\n# Base\n")
    made = recipe_for(tmp_path, base)
    if manifest is not None:
        (tmp_path / "dataset" / "manifest.json").write_text(json.dumps(manifest))
    (folder,) = train.main(made(), tmp_path / "m", 1)
    found = record(folder)
    assert {name: found[name] for name in ("license", "language", "queries") if name in found} == known
    card = (folder / "README.md").read_text()
    assert words in card
    assert "license: mit" in card
    assert ("LLM" in card) == (manifest is FROM_LLM)

"""What a run record says of license, language and queries comes from base and data, or is not said."""

import json

import pyarrow as pa
import pytest

from builders.dataset.folder import write_config
from foils.recipe import load_recipe
from tests.fixtures import tiny
from tests.fixtures.training import TWELVE_ROWS as ROWS
from training import train
from training.recipe import TrainRecipe

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
    write_config(tmp_path / "dataset", "bm25", pa.table(ROWS))
    if manifest is not None:
        (tmp_path / "dataset" / "manifest.json").write_text(json.dumps(manifest))
    path = tmp_path / "train.toml"
    path.write_text(
        f'dataset = "{tmp_path / "dataset"}"\nkind = "bm25"\nbase = "{base}"\nprecision = "fp32"\n'
        "[trainer]\nmax_steps = 1\nper_device_train_batch_size = 2\n"
    )
    (folder,) = train.main(load_recipe(path, [], TrainRecipe), tmp_path / "m", 1)
    record = json.loads((folder / "run.json").read_text())
    assert {name: record[name] for name in ("license", "language", "queries") if name in record} == known
    card = (folder / "README.md").read_text()
    assert words in card
    assert "license: mit" in card
    assert ("LLM" in card) == (manifest is FROM_LLM)

"""Only texts are trained on, by one rule for main data, further data and streams; and prompts that a base has stay."""

import pyarrow as pa
import pytest
from sentence_transformers import SentenceTransformer

from builders.dataset.folder import write_config
from foils.errors import UserError
from tests.fixtures import tiny
from tests.fixtures.training import TWELVE as TEXTS
from tests.fixtures.training import TWELVE_ROWS as ROWS
from tests.fixtures.training import recipe_for
from training import train
from training.rows import mixture
from training.rows.ingredients import load_rows
from training.rows.source import resolve

IDS = [f"d{number}" for number in range(len(TEXTS))]
WIDE = {
    "qid": IDS,
    "negative_10": ["j", *TEXTS[4:], *TEXTS[:3]],
    "negative_2": ["b", *TEXTS[4:], *TEXTS[:3]],
    "negative_2_id": IDS,
    "negative_score": [0.5] * len(IDS),
    "hard_negative_source": IDS,
    **{name: ROWS[name] for name in ("positive", "query")},
}
USED = ["query", "positive", "negative_1", "negative_2"]


@pytest.fixture
def recipe(tmp_path):
    return recipe_for(tmp_path, "nowhere", rows=WIDE)


def test_ids_and_scores_beside_negatives_are_reported_and_not_trained_on(recipe, tmp_path, caplog):
    caplog.set_level("INFO")
    rows = load_rows(resolve(str(tmp_path / "dataset"), None), "bm25")
    assert rows.column_names == USED
    assert (rows[0]["negative_1"], rows[0]["negative_2"]) == ("b", "j")
    assert "columns qid, negative_2_id, negative_score, hard_negative_source are not trained on" in caplog.text
    config = recipe("streaming=true").config
    streamed = mixture.load(config, resolve(config.dataset, None))
    assert streamed.columns == {"dataset/bm25": USED}
    also = recipe(f'also=[{{dataset="{tmp_path / "dataset" / "bm25"}"}}]').config
    assert all(columns == USED for columns in mixture.load(also, resolve(also.dataset, None)).columns.values())


@pytest.mark.parametrize("name", ["label", "Score"])
def test_rows_with_labels_are_refused_in_main_data_as_in_further_data(recipe, tmp_path, name):
    write_config(tmp_path / "labelled", "bm25", pa.table({**ROWS, name: [0, 1] * 6}))
    refused = f"column '{name}' may say that not every row's positive is a right one"
    with pytest.raises(UserError, match=refused):
        load_rows(resolve(str(tmp_path / "labelled"), None), "bm25")
    also = recipe(f'also=[{{dataset="{tmp_path / "labelled" / "bm25"}"}}]').config
    with pytest.raises(UserError, match=refused):
        mixture.load(also, resolve(also.dataset, None))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({**ROWS, "positive": [*TEXTS[:-1], " "]}, "row 12: positive is empty; leave such rows out of"),
        ({"query": TEXTS, "negative_1": TEXTS}, "query, negative_1 leave a doubt which column is the query and which"),
    ],
)
def test_main_data_without_a_positive_is_refused(tmp_path, rows, words):
    write_config(tmp_path / "dataset", "bm25", pa.table(rows))
    with pytest.raises(UserError, match=words):
        load_rows(resolve(str(tmp_path / "dataset"), None), "bm25")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("default", ["s2p_query", "query", "classification"])
def test_a_base_with_a_default_prompt_is_saved_so_that_it_loads(recipe, tmp_path, default):
    own = {"s2p_query": "find: ", "query": "query: ", "classification": "class: "}
    base = SentenceTransformer(str(tiny.retriever("mean", tmp_path / "base")), device="cpu")
    base.prompts, base.default_prompt_name = {**own, "document": ""}, default
    base.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    train.main(recipe(f"base={tmp_path / 'prompted'}", "query_prompt=q: "), tmp_path / "m", 1)
    saved = SentenceTransformer(str(tmp_path / "m"), device="cpu")
    assert saved.default_prompt_name == default
    assert saved.prompts == {**own, "query": "q: ", "document": ""}
    saved.encode_query(["who?"])

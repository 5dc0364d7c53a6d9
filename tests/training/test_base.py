"""Bases that cannot be trained are refused in one line; those with two ways are trained on both."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Router, Transformer
from transformers import AutoTokenizer

from cards.errors import UserError
from cards.recipe import load_recipe
from tests.training import tiny
from training import train
from training.base import load_cross_encoder, load_retriever
from training.recipe import TrainRecipe


@pytest.fixture
def base(tmp_path):
    return shutil.copytree(tiny.retriever("mean", tmp_path / "made"), tmp_path / "base")


def edit(file, **values):
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **values}))


def no_pad_token(folder):
    edit(folder / "tokenizer_config.json", pad_token=None)


def too_many_tokens(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["one", "more"])
    tokenizer.save_pretrained(folder)


def an_adapter(folder):
    edit(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(folder))


def its_own_code(folder):
    edit(folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_pad_token, r"its tokenizer has no pad token, so texts cannot share a batch; set one \("),
        (too_many_tokens, r"its tokenizer has \d+ tokens and the model embeddings of \d+; call model\.resize_token"),
        (its_own_code, r"sentence-transformers cannot load it \(it needs code of its own\); name a model"),
    ],
)
def test_what_cannot_be_trained(base, spoil, words):
    spoil(base)
    with pytest.raises(UserError, match=words) as refused:
        load_retriever(str(base))
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=words):
        load_cross_encoder(str(base), 32)


def test_an_adapter_is_no_base(base):
    from peft import LoraConfig

    model = SentenceTransformer(str(base), device="cpu")
    model.add_adapter(LoraConfig(r=4, target_modules=["query", "value"]))
    model.save_pretrained(str(base.with_name("adapter")), create_model_card=False)
    with pytest.raises(UserError, match="is a LoRA adapter, not a whole model; merge it into its base"):
        load_retriever(str(base.with_name("adapter")))


def test_a_router_is_told_which_column_goes_where(tmp_path):
    rows = {name: [f"{name} {letter}" for letter in "abcdefgh"] for name in ("query", "positive", "negative_1")}
    (tmp_path / "data" / "bm25").mkdir(parents=True)
    pq.write_table(pa.table(rows), tmp_path / "data" / "bm25" / "train-00000-of-00001.parquet")
    raw = str(tiny.raw("bert", tmp_path / "raw"))
    ways = [[Transformer(raw), Pooling(32, "mean")] for _ in range(2)]
    router = Router.for_query_document(query_modules=ways[0], document_modules=ways[1])
    SentenceTransformer(modules=[router], device="cpu").save_pretrained(str(tmp_path / "r"), create_model_card=False)
    recipe = tmp_path / "train.toml"
    recipe.write_text(
        f'dataset = "{tmp_path / "data"}"\nkind = "bm25"\nbase = "{tmp_path / "r"}"\nwatch = "none"\n'
        "[trainer]\nmax_steps = 1\nper_device_train_batch_size = 4\nlearning_rate = 1e-2\n"
    )
    train.main(load_recipe(recipe, [], TrainRecipe), tmp_path / "out")
    before, after = (SentenceTransformer(str(tmp_path / name)).state_dict() for name in ("r", "out"))
    changed = {name.split(".")[2] for name in before if (before[name] != after[name]).any()}
    assert changed == {"query", "document"}

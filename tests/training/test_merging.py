"""A trained retriever averaged with its base: exact at both ends, chosen on held-out queries, said in the card."""

import pytest
from safetensors.torch import load_file

from foils.errors import UserError
from foils.models import weights_hash
from tests.fixtures import tiny
from tests.fixtures.training import recipe_for, record
from training import train

TRAINER = "max_steps = 2\nper_device_train_batch_size = 2\nlearning_rate = 1e-3\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.retriever("mean", tmp_path_factory.mktemp("base"))


@pytest.fixture
def recipe(base, tmp_path):
    return recipe_for(tmp_path, base, trainer=TRAINER)


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.usefixtures("one_thread")
def test_ends_are_the_model_and_the_base_bit_for_bit(recipe, base, tmp_path):
    for name, override in (("plain", "merge=[]"), ("all", "merge=[1]"), ("none", "merge=[0]"), ("half", "merge=[0.5]")):
        train.main(recipe(override), tmp_path / name)
    hashes = {name: record(tmp_path / name)["model"]["revision"] for name in ("plain", "all", "none")}
    assert hashes["plain"] == hashes["all"] != hashes["none"] == f"sha256:{weights_hash(base)}"
    ends = [weights(tmp_path / name) for name in ("plain", "none")]
    half = weights(tmp_path / "half")
    assert all((sum(end[name] for end in ends) / 2 - half[name]).abs().max() < 1e-7 for name in half)
    assert record(tmp_path / "half")["training"]["merge"] == {"share": 0.5, "measured": []}
    assert (
        "| weights merged | 0.5 of the trained ones, the rest the base's |" in (tmp_path / "half/README.md").read_text()
    )


@pytest.mark.usefixtures("one_thread")
def test_held_out_queries_choose_the_share(recipe, tmp_path):
    train.main(recipe("merge=[0, 0.5, 1]", "dev.queries=4", "dev.every=1", "lora.rank=2"), tmp_path / "m")
    found = record(tmp_path / "m")["training"]
    values = {each["share"]: each["value"] for each in found["merge"]["measured"]}
    assert list(values) == [1, 0.5, 0]
    assert values[0] == found["dev"]["base"]["value"]
    assert values[1] == pytest.approx(found["dev"]["best"]["value"], abs=1e-6)
    assert found["merge"]["share"] == max(share for share in values if values[share] == max(values.values()))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["merge=[0.5, 1]"], r"merge \[0.5, 1.0\]: held-out queries choose between shares; set dev.queries"),
        (["merge=[0.5]", "task=cross-encoder"], "merge: is for retrievers, and task is 'cross-encoder'"),
        (["merge=[1.5]"], "merge"),
    ],
)
def test_what_cannot_be_merged(recipe, tmp_path, overrides, words):
    with pytest.raises(UserError, match=words):
        train.main(recipe(*overrides), tmp_path / "m")
    assert not (tmp_path / "m").exists()

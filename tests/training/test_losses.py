"""Each loss trains for real, equals what it stands for, and is refused where the rows cannot serve it."""

import math
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss
from sentence_transformers.util import batch_to_device
from torch import distributed

from foils.errors import UserError
from foils.models import resolve_model
from foils.recipe import decode_config
from tests.conftest import ANIMALS, BASE
from training.losses import table as losses
from training.losses.similarity import ScaledCosine
from training.losses.table import LOSSES
from training.recipe import TrainRecipe

TEXTS = list(ANIMALS.values())[:8]
ROWS = {  # a task that the base does not know: each question's answer is the text before its own
    "query": [f"What about this: {text[:30]}?" for text in TEXTS],
    "positive": TEXTS[-1:] + TEXTS[:-1],
    "negative_1": TEXTS,
}
TWO = {**ROWS, "negative_2": TEXTS[1:] + TEXTS[:1]}
OPTIONS = {"gist": {"guide": BASE}, "cached-gist": {"guide": BASE}}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@cache
def fresh():
    model = SentenceTransformer(resolve_model(BASE).location, device="cpu", config_kwargs=NO_DROPOUT)
    model.max_seq_length = 32
    return model


def student():
    """A model of one's own, to be trained."""
    return deepcopy(fresh())


@pytest.fixture(scope="module")
def base():
    return student()


def recipe(loss, **options):
    given = {**OPTIONS.get(loss, {}), **options}
    return decode_config(
        {"dataset": "d", "kind": "bm25", "base": BASE, "loss": loss, "loss_options": given}, TrainRecipe, "test"
    )


def rows_for(loss, columns=ROWS):
    """Rows with a teacher's logits where the loss wants them: 5 for the positive, -3 for negatives."""
    teacher = [[5.0] + [-3.0] * (len(columns) - 2)] * len(TEXTS)
    return {**columns, "label": teacher} if LOSSES[loss].needs == "scores" else columns


def loss_of(loss, rows):
    """The loss of all rows as one batch."""
    columns = [name for name in rows if name != "label"]
    features = [batch_to_device(loss.model.preprocess(rows[name]), "cpu") for name in columns]
    return loss(features, torch.tensor(rows.get("label", [0.0])))


def gradients(config, rows):
    model = student()
    loss = loss_of(losses.make(config, model), rows)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", LOSSES)
def test_a_few_steps_lower_the_loss(name, tmp_path):
    model, rows = student(), rows_for(name)
    loss = losses.make(recipe(name), model)
    with torch.no_grad():
        before = loss_of(loss, rows).item()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=8, learning_rate=1e-4, use_cpu=True,
        save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows), loss=loss)
    trainer.train()
    with torch.no_grad():
        after = loss_of(loss, rows).item()
    assert math.isfinite(before)
    assert after < 0.8 * before
    if hasattr(loss, "guide"):
        optimised = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
        assert not optimised & {id(p) for p in loss.guide.parameters()}
        with torch.no_grad():  # and the guide is what it was
            kept, fresh = (m.encode(TEXTS[:1]) for m in (loss.guide, SentenceTransformer(resolve_model(BASE).location)))
        assert np.allclose(kept, fresh, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("multiple-negatives-ranking", {}),
        ("multiple-negatives-ranking", {"symmetric": True, "scale": 50}),
        ("multiple-negatives-ranking", {"hardness_mode": "all_negatives"}),
        ("multiple-negatives-ranking", {"matryoshka": [64]}),
        ("gist", {"margin": 0.1}),
    ],
)
def test_a_cached_loss_is_the_plain_one(name, options):
    plain, expected = gradients(recipe(name, **options), ROWS)
    cached, found = gradients(recipe(f"cached-{name}", **options, mini_batch_size=3), ROWS)
    assert cached == pytest.approx(plain, abs=1e-4)
    assert torch.allclose(found, expected, atol=1e-3 * expected.abs().max())


def test_hardness_weighs_the_negatives_that_are_named(base):
    """One row, so that its own negative is the only one."""
    rows = {name: texts[:1] for name, texts in ROWS.items()}
    vectors = {column: torch.tensor(base.encode(texts)) for column, texts in rows.items()}
    right, wrong = (ScaledCosine(1)(vectors["query"], vectors[name]) for name in ("positive", "negative_1"))
    for mode, strength in ((None, 0), ("in_batch_negatives", 0), ("hard_negatives", 5), ("all_negatives", 9)):
        options = {"hardness_mode": mode} | ({"hardness_strength": 9} if mode == "all_negatives" else {})
        found = loss_of(losses.make(recipe("multiple-negatives-ranking", **options), base), rows)
        expected = torch.nn.functional.softplus((20 + strength) * wrong - 20 * right)
        assert found.item() == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_matryoshka_goes_around_each(name, base):
    loss = losses.make(recipe(name, matryoshka=[64, 128]), base)
    assert loss.matryoshka_dims == (384, 128, 64)
    found = loss_of(loss, rows_for(name))
    assert found.item() > loss_of(losses.make(recipe(name), base), rows_for(name)).item() > 0
    found.backward()
    assert all(torch.isfinite(p.grad).all() for p in base.parameters() if p.grad is not None)
    base.zero_grad()


@pytest.mark.parametrize("name", ["margin-mse", "distill-kl"])
@pytest.mark.parametrize("columns", [ROWS, TWO], ids=["one negative", "two"])
def test_a_student_that_equals_its_teacher_has_no_loss(name, columns, base):
    vectors = {column: torch.tensor(base.encode(texts)) for column, texts in columns.items()}
    others = [column for column in columns if column != "query"]
    exact = torch.stack([ScaledCosine(20)(vectors["query"], vectors[column]) for column in others], dim=1)
    shifted = exact + torch.arange(8)[:, None]  # a teacher's level differs from query to query and means nothing
    for teacher in (exact, shifted):
        rows = {**columns, "label": teacher.tolist()}
        assert loss_of(losses.make(recipe(name), base), rows).item() == pytest.approx(0, abs=1e-5)
        assert loss_of(losses.make(recipe(name, scale=10), base), rows).item() > 0.001
    turned = {**columns, "label": exact.roll(1, 1).tolist()}
    assert loss_of(losses.make(recipe(name), base), turned).item() > 0.1


@pytest.mark.parametrize("factor", [0.3, 1.0, 40.0])
def test_the_scale_is_measured_so_that_margins_are_as_large_as_the_teachers(factor, base):
    vectors = {column: torch.tensor(base.encode(texts)) for column, texts in TWO.items()}
    own = torch.stack([ScaledCosine(1)(vectors["query"], vectors[c]) for c in list(TWO)[1:]], dim=1)
    rows = Dataset.from_dict({**TWO, "label": (factor * own + 3).tolist()})
    for name in ("margin-mse", "distill-kl"):
        loss = losses.make(recipe(name), base, rows)
        assert loss.similarity_fct.scale == pytest.approx(factor, rel=0.01)
        assert loss_of(loss, rows.to_dict()).item() < 1e-4 * factor**2  # the student is its teacher, but for its unit
        assert losses.make(recipe(name, scale=7), base, rows).similarity_fct.scale == 7


def test_temperature_softens_both_sides(base):
    rows = rows_for("distill-kl")
    vectors = {column: torch.tensor(base.encode(texts)) for column, texts in ROWS.items()}
    own = torch.stack([ScaledCosine(20)(vectors["query"], vectors[c]) for c in ("positive", "negative_1")], dim=1)
    for temperature in (1.0, 4.0):
        target = torch.softmax(torch.tensor(rows["label"]) / temperature, dim=1)
        divergence = (target * (target.log() - torch.log_softmax(own / temperature, dim=1))).sum(dim=1).mean()
        found = loss_of(losses.make(recipe("distill-kl", temperature=temperature), base), rows)
        assert found.item() == pytest.approx(temperature**2 * divergence.item(), rel=1e-4)


def test_several_negatives_weigh_alike_in_the_triplet_hinge(base):
    first, second = ({**ROWS, "negative_1": TWO[column]} for column in ("negative_1", "negative_2"))
    loss = losses.make(recipe("triplet", margin=0.3), base)
    apart = [loss_of(loss, rows).item() for rows in (first, second)]
    assert loss_of(loss, TWO).item() == pytest.approx(sum(apart) / 2, abs=1e-5)


def test_the_guide_takes_false_negatives_out(base):
    twins = {"query": TEXTS[:4] * 2, "positive": TEXTS[:4] * 2}  # each positive stands in the batch twice
    assert loss_of(losses.make(recipe("multiple-negatives-ranking", scale=100), base), twins).item() > 0.6
    own = losses.make(recipe("gist"), base)
    assert loss_of(own, twins).item() < 0.05
    nearly = {"query": ["Which animals hunt mice at night?", "Who hunts at night?"], "positive": TEXTS[:1] * 2}
    nearly = {**nearly, "negative_1": [f"{TEXTS[0]} So it is.", TEXTS[5]]}
    strict = losses.make(recipe("gist", margin=0.5), base)
    assert loss_of(strict, nearly).item() < loss_of(own, nearly).item()
    plain = loss_of(own, ROWS).item()
    del own.sim_matrix  # back to the library's own
    assert isinstance(own, GISTEmbedLoss)
    assert loss_of(own, ROWS).item() == pytest.approx(plain, abs=1e-4)


def test_in_batch_negatives_are_gathered_unless_the_recipe_says_no(base):
    contrastive = [name for name, about in LOSSES.items() if about.in_batch]
    alone = {name: losses.make(recipe(name), base).gather_across_devices for name in contrastive}
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        together = {name: losses.make(recipe(name), base).gather_across_devices for name in contrastive}
        refused = {name: losses.make(recipe(name, gather_across_devices=False), base) for name in contrastive}
        assert loss_of(losses.make(recipe("multiple-negatives-ranking"), base), ROWS).isfinite()
    finally:
        distributed.destroy_process_group()
    assert len(contrastive) == 4
    assert not any(alone.values())
    assert all(together.values())
    assert not any(loss.gather_across_devices for loss in refused.values())


def test_similarities_are_fp32_under_autocast(base):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vectors = torch.nn.functional.normalize(torch.randn(4, 384), dim=-1)
        for name in ("multiple-negatives-ranking", "cached-multiple-negatives-ranking"):
            similarity = losses.make(recipe(name), base).similarity_fct
            assert torch.equal(similarity(vectors, vectors), vectors @ vectors.T) is False
            assert torch.allclose(similarity(vectors, vectors).diagonal(), torch.ones(4), atol=1e-6)


def test_a_base_that_compares_by_dot_product_will_compare_by_cosine():
    model = student()
    model.similarity_fn_name = "dot"
    losses.make(recipe("triplet"), model)
    assert model.similarity_fn_name == "cosine"


TRIPLETS = ("query", "positive", "negative_1")


@pytest.mark.parametrize(
    ("loss", "options", "columns", "scorers", "words"),
    [
        ("triplet", {}, TRIPLETS[:2], (), "rows of kind 'bm25' have none; set kind to one that has"),
        ("margin-mse", {}, TRIPLETS[:2], ("cross-encoder",), "compares each positive with negatives"),
        ("margin-mse", {}, TRIPLETS, (), "has none; build it again with a rule of selection on that scorer"),
        ("distill-kl", {"teacher": "llm-judge"}, TRIPLETS, ("dense",), r"scores of 'llm-judge', .* has dense; build"),
        ("distill-kl", {}, TRIPLETS, ("dense",), r"--set 'selection.floor=\{cross-encoder=-1000\}'"),
        ("gist", {}, (*TRIPLETS, "negative_2"), (), "takes 1 negative a row, .* have 2; use cached-gist"),
        (
            "multiple-negatives-ranking",
            {"hardness_strength": 5},
            TRIPLETS,
            (),
            "hardness_strength 5: weighs nothing by itself",
        ),
        ("gist", {"guide": None}, TRIPLETS, (), "needs loss_options.guide, the model that finds false negatives"),
        ("triplet", {"scale": 30}, TRIPLETS, (), r"scale is not for loss 'triplet', which takes margin, m"),
        ("multiple-negatives-ranking", {"mini_batch_size": 8}, TRIPLETS, (), "it is for cached-multiple-negatives-r"),
    ],
)
def test_what_the_rows_cannot_serve_is_refused(loss, options, columns, scorers, words):
    losses.check(recipe("gist"), TRIPLETS)
    with pytest.raises(UserError, match=words):
        losses.check(recipe(loss, **options), columns, scorers)


@pytest.mark.parametrize("options", [{"matryoshka": [0]}, {"scale": 0}, {"margin": 3}, {"tempature": 1}])
def test_values_without_meaning_are_refused(options):
    with pytest.raises(UserError, match="recipe test: "):
        recipe("distill-kl", **options)


def test_sizes_are_checked_where_the_model_is_known(base):
    with pytest.raises(UserError, match=r"matryoshka 400: .* have 384 dimensions; name smaller sizes"):
        losses.make(recipe("triplet", matryoshka=[64, 400]), base)


def test_only_a_cached_loss_embeds_in_parts():
    assert losses.mini_batch_of(recipe("multiple-negatives-ranking")) is None
    assert losses.mini_batch_of(recipe("cached-multiple-negatives-ranking")) == 32
    assert losses.mini_batch_of(recipe("cached-gist", mini_batch_size=4)) == 4
    assert losses.make(recipe("cached-gist", mini_batch_size=4), student()).mini_batch_size == 4

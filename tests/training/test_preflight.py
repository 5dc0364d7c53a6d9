"""What pre-flight says and refuses, word for word; and what it must not touch."""

import json
import subprocess
import sys

import msgspec
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import (
    CrossEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.losses import MultipleNegativesRankingLoss

from builders.dataset.folder import write_config
from foils.errors import UserError, run_entry
from foils.models import ModelReference, resolve_model
from foils.recipe import load_recipe
from foils.records import Seen
from tests.conftest import BASE
from tests.fixtures import ROOT, tiny
from tests.fixtures.small_models import save_small_encoder, small_retriever
from training import train
from training.loop.making import Job, Ready
from training.preflight import room, texts
from training.preflight.examine import examine
from training.preflight.report import Report
from training.recipe import TrainRecipe


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_retriever(tmp_path_factory.mktemp("model"))


def table_of(count=40, **columns):
    rows = {
        "query": [f"What is {row}?" for row in range(count)],
        "positive": [f"It is {row}." for row in range(count)],
        "negative_1": [f"It is not {row}." for row in range(count)],
    }
    return Dataset.from_dict({**rows, **columns})


@pytest.fixture
def ready(model, tmp_path):
    def make(rows, prompts=None, base="small", loss="multiple-negatives-ranking", **changed):
        seen, originals = changed.pop("seen", None), changed.pop("originals", None)
        trained = changed.pop("model", model)
        kinds = (SentenceTransformerTrainer, SentenceTransformerTrainingArguments, MultipleNegativesRankingLoss)
        if isinstance(trained, CrossEncoder):
            kinds = (CrossEncoderTrainer, CrossEncoderTrainingArguments, BinaryCrossEntropyLoss)
        options = {"per_device_train_batch_size": 4, "use_cpu": True, "num_train_epochs": 1, "save_strategy": "no"}
        trainer = kinds[0](
            model=trained,
            args=kinds[1](str(tmp_path), **{**options, **changed}),
            train_dataset=DatasetDict(rows) if isinstance(rows, dict) else rows,
            loss=kinds[2](trained),
        )
        config = TrainRecipe("data", "bm25", base, loss=loss, checkpoint_minutes=0)
        reference = ModelReference(base, "r", str(tmp_path), "w", "i")
        job = Job(config, None, reference, seen, tmp_path, tmp_path / "out")
        return Ready(job, trainer, prompts or {}, originals)

    return make


def refusal(report, allowed=()):
    with pytest.raises(UserError) as error:
        report.refuse(allowed)
    first, *lines = str(error.value).split("\n")
    assert first.startswith("pre-flight: ")
    assert (first == "pre-flight: not started:") == bool(lines)
    return [line.strip() for line in lines] or [first.removeprefix("pre-flight: ")]


def test_good_rows_pass_and_the_table_says_what_will_happen(ready):
    seen = Seen(["SciFact"], ["MSMARCO"], ["SciFact", "NFCorpus"])
    report = examine(ready(table_of(), {"query": "query: ", "positive": "passage: "}, seen=seen))
    report.refuse()
    lines = report.table().split("\n")
    assert len(lines) <= 25
    assert lines[0] == "data      40 rows; base small, loss multiple-negatives-ranking"
    assert lines[1] == "batches   10 of 4 an epoch; 1 epochs, 10 steps"
    assert lines[2] == "          0 rows unused an epoch (0.0%); sampler batch_sampler"
    said = "\n".join(lines)
    assert "query         8    8        8  0.0%  'query: '" in said
    assert "negative_1    7    7        7  0.0%  none" in said
    assert "reads     [CLS] query : what is 0? [SEP]" in said
    assert "[CLS] passage : it is 0. [SEP]" in said
    assert (
        "texts     0 repeated queries; 40 distinct negatives, the most used in 1 rows; 0.0% of rows share one" in said
    )
    assert "overlap   with SciFact; compared with SciFact, NFCorpus" in said
    assert "evaluation sets that the base was trained on: MSMARCO" in said
    assert json.loads(msgspec.json.encode(report.figures))["batches"]["steps"] == 10


def test_what_was_not_compared_is_said(ready):
    table = examine(ready(table_of(), seen=Seen(None, None, []))).table()
    assert "overlap   the data was not compared with any evaluation set: nothing is known" in table
    assert "evaluation sets that the base was trained on: not known" in table


def test_it_leaves_no_trace(ready, model):
    given = ready(table_of())
    torch.manual_seed(5)
    before, mode = torch.get_rng_state(), model.training
    examine(given)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training == mode
    assert all(weight.grad is None for weight in model.parameters())


def test_starved_samplers_are_refused(ready):
    rows = table_of(400, negative_1=[f"Noise {row % 8}." for row in range(400)])
    report = examine(ready(rows, per_device_train_batch_size=32, batch_sampler="no_duplicates"))
    unused, reused = refusal(report)
    assert unused == (
        "sampler no_duplicates: 296 of 400 rows (74.0%) are unused in an epoch (no text may stand twice in a batch; "
        "there are 8 distinct negatives, and one stands in 50 rows); allowed: up to 50%; build with fewer uses of a "
        "negative (the selection rule max_uses), or set a smaller batch, or trainer.batch_sampler = 'batch_sampler', "
        "or set allow = ['unused-rows']"
    )
    assert reused.startswith("one negative stands in 50 of 400 rows (12.5%): 'Noise ")
    assert reused.endswith(
        "; allowed: up to 5%; build with fewer uses of a negative (the selection rule max_uses), or set allow = "
        "['reused-negatives']"
    )
    report.refuse(("unused-rows", "reused-negatives"))
    dropped = ready(rows, per_device_train_batch_size=32, batch_sampler="no_duplicates", dataloader_drop_last=True)
    report = examine(dropped)
    assert refusal(report, ("unused-rows", "reused-negatives"))[0].startswith(
        "trainer.per_device_train_batch_size 32: sampler no_duplicates makes no batch of 400 rows (no text may stand "
        "twice in a batch; there are 8 distinct negatives, and one stands in 50 rows); allowed: at least one batch an "
        "epoch; set it lower, or build with fewer uses"
    )
    assert "training ends after 0" not in report.table()


def test_a_training_that_ends_early_is_reported(ready):
    rows = table_of(48, negative_1=["Noise." if row % 8 else f"Noise {row}." for row in range(48)])
    report = examine(ready(rows, batch_sampler="no_duplicates", dataloader_drop_last=True))
    assert report.figures["batches"].steps < 12
    assert f"training ends after {report.figures['batches'].steps} of 12 planned steps" in report.table()


def test_batches_larger_than_the_data(ready):
    (problem,) = refusal(examine(ready(table_of(10), per_device_train_batch_size=64)))
    assert problem == (
        "trainer.per_device_train_batch_size 64: the data has 10 rows; allowed: up to 10; set it lower, or set allow = "
        "['batch-size']"
    )


def test_positives_as_negatives(ready):
    rows = table_of(3, positive=["p0", "Straße  nach Rom", "?"], negative_1=["n0", "STRASSE nach\tRom ", "!"])
    (found,) = refusal(examine(ready(rows, per_device_train_batch_size=1)))
    assert found == (
        "1 rows have their positive as a negative, case and white space aside (rows 1); allowed: none; drop these rows "
        "(counted from 0), or build the data set again, or set allow = ['positive-as-negative']"
    )


def test_repeated_queries_and_reused_negatives_are_counted():
    rows = table_of(
        50,
        query=["What?", "what? "] + [f"q{row}" for row in range(48)],
        negative_1=["same"] * 25 + list("abcdefghijklmnopqrstuvwxy"),
    )
    rows = rows.add_column("negative_2", ["a"] * 2 + [f"n{row}" for row in range(48)])
    found = texts.examined(rows)
    assert (found.repeated_queries, found.negatives, found.most_used, found.most_used_text) == (1, 74, 25, "same")
    assert found.shared == 26  # those with "same", and the one with "a" that two of them have


def test_lengths_are_counted_with_prompt_and_cut_as_the_model_cuts(ready, model):
    rows = table_of(10, positive=["word " * 50] * 5 + ["word"] * 5)
    report = examine(ready(rows, {"positive": "passage: "}))
    positive = next(each for each in report.figures["tokens"]["rows"] if each.column == "positive")
    assert (positive.p50, positive.p95, positive.longest, positive.cut) == (5, 54, 54, 0.5)
    assert positive.longest > model.max_seq_length
    assert positive.read.startswith("[CLS] passage : word word")
    assert positive.read.endswith("word [SEP]")
    assert "texts are cut at 32 tokens: positive 50%" in report.table()


@pytest.mark.parametrize(
    ("base", "positive", "share"),
    [("minilm", "ይህ ጽሑፍ ነው", 100), ("minilm", "The text ይህ ነው.", 40), ("static", "ይህ ጽሑፍ ነው", 100),
     ("minilm", "Это обычный текст.", 0)],
)  # fmt: skip
def test_a_base_that_cannot_read_the_language(ready, tmp_path, base, positive, share):
    location = resolve_model(BASE).location if base == "minilm" else str(tiny.static(tmp_path / "static"))
    base = SentenceTransformer(location, device="cpu")
    report = examine(ready(table_of(positive=[positive] * 40), model=base))
    said = [line for line in report.warnings if "cannot read their language" in line]
    assert len(said) == bool(share)
    assert not share or f"base small does not know {share}% of positive (of the tokens)" in said[0]


@pytest.mark.parametrize("name", ["label", "score"])
def test_labels_are_not_texts_that_stand_twice(ready, name):
    rows = table_of(**{name: [0.5] * 40})
    report = examine(ready(rows, batch_sampler="no_duplicates", dataloader_drop_last=True))
    assert not report.problems


@pytest.mark.parametrize("words", [1, 100])
def test_more_tokens_than_positions(ready, tmp_path, words):
    rows = table_of(positive=["word " * words] * 40)
    report = examine(ready(rows, model=small_retriever(tmp_path / "m", max_seq_length=128)))
    assert refusal(report) == ["max_seq_length 128: base small has 64 positions; allowed: up to 64; set it lower"]


@pytest.mark.parametrize(
    ("base", "prompts", "advice"),
    [
        ("intfloat/e5-base-v2", {}, "query_prompt = 'query: ' and passage_prompt = 'passage: '"),
        ("intfloat/e5-base-v2", {"query": "query: ", "positive": ""}, "passage_prompt = 'passage: '"),
        ("BAAI/bge-base-en-v1.5", {"query": "Represent this sentence for searching relevant passages: "}, None),
        ("thenlper/gte-base", {}, None),
    ],
)
def test_bases_that_need_prompts(ready, base, prompts, advice):
    warnings = examine(ready(table_of(), prompts, base)).warnings
    lines = [line for line in warnings if line.startswith(f"base {base}: was trained with prompts")]
    assert len(lines) == (advice is not None)
    assert advice is None or f"and the recipe sets none; set {advice} (see https://huggingface.co/" in lines[0]


def test_duplicates_in_batches_are_told_where_they_count(ready):
    rows = table_of(20, query=["same"] * 2 + [f"q{row}" for row in range(18)])
    assert "set trainer.batch_sampler = 'no_duplicates'" in examine(ready(rows)).table()
    assert not examine(ready(rows, loss="margin-mse")).warnings


def test_several_data_sets(ready):
    parts = {"mine": table_of(20), "general": table_of(6, positive=["It is not 0.", *[f"p{row}" for row in range(5)]])}
    report = examine(ready(parts, dataloader_drop_last=True, multi_dataset_batch_sampler="round_robin"))
    assert report.figures["batches"].of_parts == {"mine": 1, "general": 1}
    assert "general: query" in report.table()
    assert "\ntexts     data set general: 0 repeated queries" in report.table()
    same, unused = sorted(refusal(report))
    assert same.startswith("data set general: 1 rows have their positive as a negative")
    assert "18 of 26 rows (69.2%) are unused" in unused
    report = examine(ready({"mine": table_of(20), "few": table_of(3)}, dataloader_drop_last=True))
    assert refusal(report)[0] == (
        "trainer.per_device_train_batch_size 4: no batch comes from data set few; allowed: at least one from each; set "
        "it lower, or leave the data set out"
    )


def test_a_stream_has_no_length(ready):
    stream = table_of().to_iterable_dataset()
    report = examine(ready(stream, max_steps=7))
    said = report.table()
    assert said.startswith("data      streamed, of unknown size; below: its first 40 rows\nbatches   of 4; 7 steps\n")
    assert (report.figures["batches"].steps, report.figures["streamed"]) == (7, 40)
    report.refuse()


def test_no_room(ready, model):
    report = examine(ready(table_of(), save_strategy="steps", save_steps=3, save_total_limit=2))
    memory, disk = (msgspec.structs.replace(report.figures[name], free=1_000_000) for name in ("memory", "disk"))
    assert disk.parts["checkpoints (3)"] == 9 * sum(each.numel() * 4 for each in model.parameters())
    checked = Report(report.plan)
    room.check(checked, memory, disk)
    problem, space = checked.problems
    assert (problem.key, space.key) == ("memory", "disk")
    assert problem.line == (
        f"a step of each process takes about {memory.need / 1e6:.0f} MB; allowed: 1 MB, which are free (cpu); set "
        "trainer.per_device_train_batch_size lower and trainer.gradient_accumulation_steps higher, or use a cached "
        "loss, trainer.gradient_checkpointing or a smaller max_seq_length, or set allow = ['memory']"
    )
    assert space.line == (
        f"model and checkpoints take about {disk.need / 1e6:.0f} MB; allowed: 1 MB, which are free (disk); free some, "
        "give --out on another disk, or set trainer.save_total_limit lower"
    )
    tight = Report(report.plan)
    room.check(tight, msgspec.structs.replace(memory, free=int(memory.need / 0.9)), report.figures["disk"])
    assert not tight.problems
    assert tight.warnings == ["a step of each process takes about 90% of the memory that is free"]


def test_memory_is_about_what_a_training_takes():
    """Within a factor of 1.4 of the peak of two real steps, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.preflight_memory", "8", "96"]
    finished = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    found = json.loads(finished.stdout.splitlines()[-1])
    assert 1 / 1.4 < found["estimate"] / found["peak"] < 1.4, found


def test_a_cross_encoder_reads_pairs(ready, tmp_path):
    rows = table_of(8, negative_1=["It is 0."] * 8)
    pairs = Dataset.from_dict({"query": ["a b"] * 16, "passage": ["c"] * 16, "label": [1.0, 0.0] * 8})
    small = CrossEncoder(str(save_small_encoder(tmp_path / "m")), num_labels=1, max_length=32)
    given = ready(pairs, model=small, originals=rows)
    report = examine(given)
    assert report.figures["batches"].batches == 4
    (lengths,) = report.figures["tokens"]["rows"]
    assert (lengths.column, lengths.longest, lengths.read) == ("query+passage", 6, "[CLS] a b [SEP] c [SEP]")
    assert report.figures["texts"]["rows"].positives_as_negatives == 1


def test_the_command(tmp_path, capsys, monkeypatch):
    rows = table_of().to_dict()
    write_config(tmp_path / "data", "bm25", pa.table(rows))
    rows["negative_1"][2] = rows["positive"][2].upper()
    write_config(tmp_path / "bad", "bm25", pa.table(rows))
    recipe = tmp_path / "train.toml"
    recipe.write_text(f'dataset = "{tmp_path / "data"}"\nkind = "bm25"\nbase = "{BASE}"\n[trainer]\nmax_steps = 3\n')
    assert train.main(load_recipe(recipe, [], TrainRecipe), tmp_path / "out", only_look=True) == []
    assert "data      40 rows; base sentence-transformers/all-MiniLM-L6-v2" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["train", "--preflight", str(recipe), "--set", f"dataset={tmp_path / 'bad'}"])
    assert run_entry(train._entry) == 2
    assert "error: pre-flight: 1 rows have their positive as a negative" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"allow\.0: invalid enum value 'no-batches'"):
        load_recipe(recipe, ['allow=["no-batches"]'], TrainRecipe)
    assert load_recipe(recipe, ['allow=["reused-negatives"]'], TrainRecipe).config.allow == ("reused-negatives",)

"""Every wrong value of `[trainer]` is one line that names its key, before base or data are looked at."""

import pytest

from foils.errors import UserError
from tests.fixtures.training import FEW_STEPS, recipe_for
from training import train


@pytest.fixture
def recipe(tmp_path):
    return recipe_for(tmp_path, "nowhere", rows=None, top="", trainer=FEW_STEPS)


WRONG = (
    *(
        "eval_strategy=steps",
        "eval_on_start=true",
        "save_strategy=best",
        "optim=adamw_8bit",
        "optim=adamw_torch_nowhere",
    ),
    *("optim_args='nonsense'", "deepspeed=ds.json", "fsdp=full_shard", "neftune_noise_alpha=5.0", "warmup_steps=-1"),
    *("batch_sampler=group_by_label", "batch_sampler=nowhere", "learning_rate='2e-5'", "learning_rate=-1e-5"),
    *("max_grad_norm='1'", "max_steps=2.5", "max_steps=0", "per_device_train_batch_size=0", "weight_decay='0.1'"),
    *("per_device_train_batch_size=true", "gradient_accumulation_steps=0", "logging_steps='many'", "save_steps=0"),
    *("save_total_limit=0", "dataloader_num_workers=-1", "lr_scheduler_type=nowhere", "lr_scheduler_kwargs={cycles=3}"),
    *("save_only_model=true", "ignore_data_skip=true", "auto_find_batch_size=true", "use_liger_kernel=true"),
    *("parallelism_config={}", "report_to=wandb", "report_to=nowhere", "push_to_hub=true", "hub_token=hf_x"),
    *("learning_rate=nan", "adam_beta1=1.5", "adam_epsilon=-1", "max_grad_norm=-1", "logging_steps=-3"),
    *("log_level=loud", "ddp_backend=x", "debug=x", "train_sampling_strategy=x", "gradient_checkpointing_kwargs=3"),
    *("ddp_backend=nccl", "learning_rate_mapping={'['=1.0}", "learning_rate_mapping={x=-1.0}", "report_to=[a]"),
    *("lr_scheduler_kwargs='x'", "accelerator_config={x=1}", "dataloader_persistent_workers=true", "nowhere=1"),
    *("torch_compile_backend=x", "optim_target_modules=3", "learning_rate_mapping=x", "dataloader_drop_last='yes'"),
    "ddp_timeout=-1",
    *("num_train_epochs='3'", "num_train_epochs=0", "num_train_epochs=-1.0"),
)


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("task", ["retriever", "cross-encoder"])
def test_a_wrong_value_is_named(recipe, tmp_path, value, task):
    if task == "cross-encoder" and "sampler" in value:
        pytest.skip("the same class")
    with pytest.raises(UserError, match=r"^recipe: trainer") as refused:
        train.main(recipe(f"trainer.{value}", f"task={task}"), tmp_path / "out", 1)
    said = str(refused.value)
    assert value.partition("=")[0] in said
    assert "\n" not in said


def test_fp16_needs_a_gpu(recipe, tmp_path):
    with pytest.raises(UserError, match="precision fp16: needs a GPU; allowed here: auto, bf16, fp32"):
        train.main(recipe("precision=fp16"), tmp_path / "out", 1)


def test_usual_values_pass(recipe, tmp_path):
    usual = (
        *("learning_rate=2e-5", "warmup_steps=0.1", "num_train_epochs=1", "lr_scheduler_type=cosine", "optim=sgd"),
        *("lr_scheduler_type=cosine_with_min_lr", "lr_scheduler_kwargs={min_lr=1e-6}", "save_strategy=steps"),
        *("save_steps=0.25", "batch_sampler=no_duplicates", "gradient_checkpointing=true", "max_grad_norm=0"),
        *("local_rank=-1", "max_steps=-1"),
    )
    with pytest.raises(UserError, match=r"dataset .*: no such folder"):
        train.main(recipe(*(f"trainer.{value}" for value in usual)), tmp_path / "out", 1)

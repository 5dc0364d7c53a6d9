"""What each option of training costs and gives: speed, memory and loss, each in a process of its own.

    python -m tests.bench.training_options [--only NAME ...] [--steps 8] [--out outputs/bench/training-options]

all-MiniLM-L6-v2 on triplets of scifact: a training query, the abstract that it is about, another abstract; batches of
16, 128 tokens, equal rows, seed and order for all. Two steps are not timed (torch.compile takes its time there). What
cannot run here is told with its reason. Results lie in `--out`, one file a variant, and are not measured twice.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from foils.models import resolve_model
from tests.bench.memory import peak_mb
from tests.conftest import BASE, SHARED

SCIFACT = SHARED / "collections" / "scifact"
BATCH, TOKENS, UNTIMED = 16, 128, 2
LIMIT = 240  # seconds a variant
# Name -> arguments of [trainer], attention, whether LoRA, dropout.
VARIANTS = {
    "plain (fp32, sdpa)": {},
    "eager attention": {"attention": "eager"},
    "gradient checkpointing": {"trainer": {"gradient_checkpointing": True}},
    "LoRA, rank 16": {"lora": True},
    "LoRA + gradient checkpointing": {"lora": True, "trainer": {"gradient_checkpointing": True}},
    "bf16 autocast": {"trainer": {"bf16": True}},
    "LoRA + bf16 autocast": {"lora": True, "trainer": {"bf16": True}},
    "bf16 autocast + gradient checkpointing": {"trainer": {"bf16": True, "gradient_checkpointing": True}},
    "bf16 autocast, no dropout": {"trainer": {"bf16": True}, "dropout": 0.0},
    "fp16 autocast": {"trainer": {"fp16": True}},
    "flash_attention_2": {"attention": "flash_attention_2"},
    "torch.compile": {"trainer": {"torch_compile": True}},
}


def measure(name: str, steps: int) -> dict[str, object]:
    """Trains so many steps and returns samples a second, peak memory (GB) and the last step's loss."""
    import torch
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    from training.base import load_retriever
    from training.lora import LoraConfig, wrap

    variant = VARIANTS[name]
    torch.manual_seed(1)
    model = load_retriever(resolve_model(BASE).location, variant.get("attention"))
    model.max_seq_length = TOKENS
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and "dropout" in variant:
            module.p = variant["dropout"]
    if "dropout" in variant:
        model[0].model.config.attention_probs_dropout_prob = variant["dropout"]
    trained = wrap(model, LoraConfig()).trainable if variant.get("lora") else sum(p.numel() for p in model.parameters())
    times = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(perf_counter())

    arguments = SentenceTransformerTrainingArguments(
        output_dir="unused",
        max_steps=steps + UNTIMED,
        per_device_train_batch_size=BATCH,
        learning_rate=2e-4 if variant.get("lora") else 2e-5,
        seed=1,
        use_cpu=not torch.accelerator.is_available(),
        dataloader_pin_memory=torch.accelerator.is_available(),
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
        **variant.get("trainer", {}),
    )
    rows = triplets((steps + UNTIMED) * BATCH)
    loss = MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=rows, loss=loss, callbacks=[Clock()])
    if not trainer.accelerator.native_amp and {"bf16", "fp16"} & variant.get("trainer", {}).keys():
        raise SystemExit("accelerate has no autocast for it on this device and would train in fp32 without a word")
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    peak = peak_mb() / 1024
    rate = (len(times) - UNTIMED) * BATCH / (times[-1] - times[UNTIMED - 1])
    return {"rate": rate, "gb": peak, "loss": float(losses[-1]), "trained": trained}


def triplets(count: int):
    """Scifact's training queries with an abstract each and another one."""
    from datasets import Dataset

    corpus = {row["_id"]: f"{row['title']} {row['text']}" for row in map(json.loads, (SCIFACT / "corpus.jsonl").open())}
    queries = {row["_id"]: row["text"] for row in map(json.loads, (SCIFACT / "queries.jsonl").open())}
    lines = [line.split("\t") for line in (SCIFACT / "qrels" / "train.tsv").read_text().splitlines()[1:]]
    others = list(corpus.values())
    return Dataset.from_list(
        [
            {"query": queries[query], "positive": corpus[passage], "negative_1": others[7 * number % len(others)]}
            for number, (query, passage, _) in enumerate(lines[:count])
        ]
    )


def table(results: dict[str, dict[str, object]], steps: int) -> str:
    """All variants in Markdown, the first as the measure of the others."""
    first = next(iter(results.values()))
    lines = [
        f"| option | samples/s | against plain | peak memory, GB | trained numbers | loss at step {steps + UNTIMED} |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        if "failed" in result:
            lines.append(f"| {name} | does not run here: {result['failed']} | | | | |")
        else:
            lines.append(
                f"| {name} | {result['rate']:.2f} | {result['rate'] / first['rate']:.2f} | {result['gb']:.2f} | "
                f"{result['trained']:,} | {result['loss']:.4f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/training-options"))
    parser.add_argument("--child", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print("\n" + json.dumps(measure(arguments.child, arguments.steps)))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in VARIANTS:
        file = arguments.out / f"{name.replace(' ', '-').replace('/', '-')}-{arguments.steps}.json"
        if not file.exists() and name in arguments.only:
            file.write_text(json.dumps(in_a_process(name, arguments.steps)))
        if file.exists():
            results[name] = json.loads(file.read_text())
            print(name, results[name], file=sys.stderr)
    print(table(results, arguments.steps))


def in_a_process(name: str, steps: int) -> dict[str, object]:
    """One variant's figures, or the last line of what went wrong."""
    command = [sys.executable, "-m", "tests.bench.training_options", "--child", name, "--steps", str(steps)]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"failed": f"{steps + UNTIMED} steps not done in {LIMIT} s"}
    if finished.returncode:
        return {"failed": finished.stderr.strip().splitlines()[-1][:200]}
    result: dict[str, object] = json.loads(finished.stdout.strip().splitlines()[-1])
    return result


if __name__ == "__main__":
    main()

"""Evaluation beside plain mteb: seconds, passages a second, scores and memory, on one task with one model.

    python -m tests.bench.evaluation [--task ../shared/collections/scifact] [--passages 1500] [--rounds 3]
                                     [--ways fp32,bf16] [--memory 50000,100000,200000]

`mteb.evaluate` with the model as sentence-transformers loads it, at its own settings, against ours in every precision
asked for, by turns, on the task's queries and some of its passages: those that are judged, and others at random
(`--passages 0`: all). Seconds are a whole evaluation's, the measurement of drift included. Then, of
made passages, the most memory that an evaluation holds, a process for each size.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import mteb
from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

from eval.measure.encoder import Encoder
from eval.measure.encoding import resolve_precision
from eval.measure.results import scores_of
from eval.measure.search import measure
from eval.measure.tasks import load_task
from foils.models import resolve_model
from tests.bench.made_corpus import made_passages, write_beir
from tests.bench.memory import Most, in_own_process, peak_mb
from tests.conftest import BASE, SHARED
from tests.fixtures import tiny
from tests.fixtures.tasks import task_folder

SEED = 7


def cut(folder, to, passages):
    """A BEIR folder with the queries and judgements of another and some of its passages."""
    (to / "qrels").mkdir(parents=True)
    for name in ("queries.jsonl", "qrels/test.tsv"):
        (to / name).write_bytes((folder / name).read_bytes())
    judged = {line.split("\t")[1] for line in (to / "qrels" / "test.tsv").read_text("utf-8").splitlines()[1:]}
    rows = (folder / "corpus.jsonl").read_text("utf-8").splitlines()
    needed = [row for row in rows if json.loads(row)["_id"] in judged]
    others = [row for row in rows if json.loads(row)["_id"] not in judged]
    random.Random(SEED).shuffle(others)
    kept = [*needed, *others[: max(0, passages - len(needed))]] if passages else rows
    (to / "corpus.jsonl").write_text("\n".join(kept) + "\n", "utf-8")
    return len(kept)


def plain(task):
    """nDCG@10 as anyone would have it measured."""
    wrapper = SentenceTransformerEncoderWrapper(SentenceTransformer(resolve_model(BASE).location))
    found = mteb.evaluate(wrapper, task.mteb, cache=None, overwrite_strategy="always", co2_tracker=False)
    return found.task_results[0].scores["test"][0]["ndcg_at_10"], None


def ours(task, precision):
    """nDCG@10 and drift as `eval.run` has them."""
    reference = resolve_model(BASE)
    encoder = Encoder(SentenceTransformer(reference.location), resolve_precision(precision), task.sample())
    found = measure(encoder, reference, task)
    scores = scores_of(found.rankings, found.qrels)
    return statistics.mean(query["nDCG@10"] for query in scores.values()), encoder.drift


def speed(folder, ways, rounds):
    """Prints the table of all ways."""
    seconds, found = {}, {}
    for number in range(rounds):
        for way in ["plain", *ways]:
            started = time.perf_counter()
            found[way] = plain(load_task(folder)) if way == "plain" else ours(load_task(folder), way)
            seconds.setdefault(way, []).append(time.perf_counter() - started)
            print(f"round {number + 1} of {rounds}: {way}, {seconds[way][-1]:.1f} s", file=sys.stderr)
    print("| way | s | times as fast | nDCG@10 | Spearman with fp32 | cosine |\n|---|---:|---:|---:|---:|---:|")
    for way, all_seconds in seconds.items():
        ratio = statistics.median(first / own for first, own in zip(seconds["plain"], all_seconds, strict=True))
        score, drift = found[way]
        near = "| " if drift is None else f"{drift.spearman:.4f} | {drift.cosine_mean:.5f}"
        print(f"| {way} | {statistics.median(all_seconds):.1f} | {ratio:.2f} | {score:.4f} | {near} |")


def memory(passages):
    """Evaluates on made passages with a model of two layers, and prints the most memory that it takes, as JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "task"
        write_beir(folder, made_passages(passages), passages)
        task_folder(folder, [("q", "which?")], ["q\tm00000000\t1"])
        reference = resolve_model(str(tiny.retriever("mean", Path(scratch) / "model", length=32)))
        with Most() as own:
            task = load_task(str(folder))
            measure(Encoder(SentenceTransformer(reference.location), "fp32", task.sample()), reference, task)
    print(json.dumps({"own": own.mb, "peak": peak_mb()}))


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=Path, default=SHARED / "collections" / "scifact")
    parser.add_argument("--passages", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default="fp32,bf16")
    parser.add_argument("--memory", default="50000,100000,200000")
    parser.add_argument("--one", type=int)
    options = parser.parse_args()
    if options.one is not None:
        memory(options.one)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / options.task.name
        print(f"{cut(options.task, folder, options.passages)} passages of {options.task.name}")
        speed(str(folder), options.ways.split(","), options.rounds)
    for size in options.memory.split(",") if options.memory else ():
        mb = in_own_process("evaluation", "--one", size)
        print(f"{int(size):,} made passages: {mb['own']:.0f} MB of its own, {mb['peak']:.0f} MB with mapped files")


if __name__ == "__main__":
    main()

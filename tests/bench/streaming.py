"""Does the memory of a stream grow with its rows? Peak memory and speed at 50,000 and 500,000 rows.

    python -m tests.bench.streaming [--rows 50000,500000] [--hub] [--work DIR]

For each size a data set with one negative a row is written, once over about 1.5 kB of text a row, and read by a
process of its own through `training.rows.mixture` as the trainer reads it, in batches of 64, but not trained on: from
the folder, with --hub also from a Hub on loopback. `in memory` is the same without `streaming`: `datasets` converts
the files and maps them, and mapped pages count as the process's where they were touched. Peak memory is told less what
the process held before it opened the data; speed is told by its own processor time, which other jobs on the machine
hardly change.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import pyarrow as pa

from builders.dataset.folder import write_config
from foils.recipe import decode_config
from tests.bench.memory import peak_mb
from tests.hub import Hub

BATCH, REPO, BLOCK = 64, "alice/large", 10_000
WORDS = ("books", "shelves", "card", "catalogue", "names", "loans", "readers", "silence", "returns", "fines", "paper")


def write(folder, rows):
    """A data set folder as the build writes it; texts that do not compress to nothing."""
    rng, table = random.Random(rows), []
    for start in range(0, rows, BLOCK):
        numbers = range(start, min(start + BLOCK, rows))
        columns = {"query": 12, "positive": 110, "negative_1": 110}
        made = {
            name: [f"{n} {' '.join(rng.choices(WORDS, k=length))} {rng.random()}" for n in numbers]
            for name, length in columns.items()
        }
        table.append(pa.table(made))
    write_config(folder, "bm25", pa.concat_tables(table))


def measured(dataset, revision, streaming, rows):
    """Reads all rows once, by batches, in this process."""
    from torch.utils.data import DataLoader

    from training.recipe import TrainRecipe
    from training.rows import mixture
    from training.rows.source import resolve

    trainer = {"per_device_train_batch_size": BATCH, "max_steps": rows // BATCH}
    values = {"dataset": dataset, "revision": revision, "kind": "bm25", "base": "x", "trainer": trainer}
    config = decode_config({**values, "streaming": streaming}, TrainRecipe, "bench")
    before, started = peak_mb(), time.process_time()
    training = mixture.load(config, resolve(dataset, revision))
    opened = time.process_time() - started
    count = 0
    for batch in islice(DataLoader(training.rows, BATCH, shuffle=not streaming, collate_fn=list), rows // BATCH):
        count += len(batch)
    seconds = time.process_time() - started
    return {"rows": count, "above": peak_mb() - before, "opened": opened, "rows/s": count / (seconds - opened)}


def main(options):
    """Writes and reads each size, each reading in a process of its own."""
    print("| rows | files, MB | read | opened in, CPU s | rows a CPU s | peak memory above start, MB |")
    print("|---:|---:|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory(dir=options.work) as work, Hub() as hub:
        for rows in options.rows:
            folder = Path(work) / f"rows-{rows}"
            # In a process of its own: a child's peak counts what its parent held when it was forked.
            subprocess.run(
                [sys.executable, "-m", "tests.bench.streaming", "--make", str(folder), str(rows)], check=True
            )
            files = sorted(folder.rglob("*.parquet"))
            size = sum(file.stat().st_size for file in files) / 1e6
            cases = [("streamed from a folder", folder, "", True), ("in memory", folder, "", False)]
            if options.hub:
                repo_id = f"{REPO}-{rows}"
                hub.create_repo("dataset", repo_id)
                card = b"---\nconfigs:\n- config_name: bm25\n  data_files: bm25/*.parquet\n---\n"
                content = {f"bm25/{file.name}": file.read_bytes() for file in files}
                cases.append(
                    (
                        "streamed from a Hub",
                        repo_id,
                        hub.commit("dataset", repo_id, {"README.md": card, **content}),
                        True,
                    )
                )
            for name, dataset, revision, streaming in cases:
                command = [sys.executable, "-m", "tests.bench.streaming", "--one", str(dataset), revision, str(rows)]
                environment = {**os.environ, "HF_HOME": f"{work}/home", "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token}
                finished = subprocess.run(
                    [*command, *(["--streaming"] if streaming else [])],
                    env=environment,
                    check=True,
                    stdout=subprocess.PIPE,
                )
                one = json.loads(finished.stdout.splitlines()[-1])
                print(
                    f"| {one['rows']:,} | {size:,.0f} | {name} | {one['opened']:.1f} | {one['rows/s']:,.0f} "
                    f"| {one['above']:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: [int(n) for n in text.split(",")], default=[50_000, 500_000])
    parser.add_argument("--hub", action="store_true", help="from a Hub on loopback, too")
    parser.add_argument("--work", type=Path, help="where temporary folders are made; default: the system's")
    parser.add_argument("--one", nargs=3, metavar=("DATASET", "REVISION", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, metavar=("FOLDER", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--streaming", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        write(Path(options.make[0]), int(options.make[1]))
    elif options.one:
        dataset, revision, rows = options.one
        print(json.dumps(measured(dataset, revision or None, options.streaming, int(rows))))
    else:
        main(options)

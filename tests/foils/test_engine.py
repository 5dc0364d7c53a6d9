"""Engines: whoever makes a plan's shards, in whatever order, over whatever kills, the bytes are the same."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from foils.engine.config import EngineConfig
from foils.engine.parts import read_parts, state_of, summary
from foils.engine.plan import PLAN, read_plan, write_plan
from foils.engine.run import finish, run_stage
from foils.engine.worker import Outcome, Worker
from foils.errors import UserError
from tests.fixtures import ROOT
from tests.fixtures.engine_stages import DEADLY, POISON, doubling
from tests.fixtures.ray_nodes import needs_ray, two_nodes
from tests.fixtures.small_disk import on_a_small_disk

VALUES = list(range(1, 20))
TWO = EngineConfig(workers=2)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Processes of engines import this checkout, wherever an installation points."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("part-*.parquet"))}


def begun(folder):
    """First value of a shard -> how often it was begun."""
    counts = {}
    for path in folder.iterdir():
        first = int(path.name.split("-")[0])
        counts[first] = counts.get(first, 0) + 1
    return counts


def make(folder, engine, values=VALUES, **more):
    run_stage(folder, doubling(folder, values, **more), engine, "doubling")
    return hashes(folder)


@pytest.fixture
def plain(tmp_path):
    return make(tmp_path / "plain", EngineConfig())


@pytest.fixture
def slow(tmp_path):
    """A plan whose shards take a second, and the folder that says which were begun."""
    began = tmp_path / "began"
    began.mkdir()
    folder = tmp_path / "slow"
    return folder, doubling(folder, VALUES, began=began, seconds=0.7), began


def test_rows_are_those_of_the_stage_in_their_order(tmp_path, plain):
    assert len(plain) == 10
    folder = tmp_path / "plain"
    plan = read_plan(folder)
    found = [value for table in read_parts(folder, plan) for value in table["value"].to_pylist()]
    assert found == [2 * value for value in VALUES]
    marker = json.loads((folder / "part-00009.json").read_text())
    assert marker["rows"] == 1
    assert marker["sha256"] == plain["part-00009.parquet"]
    assert "10 of 10 shards done, 0 failed, 0 left" in summary(folder, plan)


def test_processes_make_the_same_bytes(tmp_path, plain):
    assert make(tmp_path / "two", TWO) == plain


@needs_ray
def test_two_nodes_make_the_same_bytes_and_one_may_go(tmp_path, plain, slow):
    import ray

    folder, plan, began = slow
    with two_nodes() as (cluster, node):
        engine = EngineConfig("ray", workers=2, address=cluster.address)
        assert make(tmp_path / "nodes", engine) == plain
        full = [ray.put(np.zeros(15 * 2**20, np.uint8)) for _ in range(20)]  # more than both nodes' object stores hold
        assert make(tmp_path / "full", engine) == plain
        del full

        def remove():
            while len(list(folder.glob("part-*.json"))) < 3:
                time.sleep(0.05)
            cluster.remove_node(node, allow_graceful=False)

        removing = threading.Thread(target=remove)
        removing.start()
        run_stage(folder, plan, engine, "doubling")
        removing.join()
    assert hashes(folder) == plain
    assert sum(begun(began).values()) <= len(plan.shards) + 2


def drive(folder, began, engine):
    """Another process that runs the plan; it takes Ctrl-C even where a shell has had its background ignore it."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from pathlib import Path; from foils.engine.config import EngineConfig;"
        "from foils.engine.run import run_stage; from tests.fixtures.engine_stages import doubling;"
        f"folder = Path({str(folder)!r}); plan = doubling(folder, {VALUES}, began={str(began)!r}, seconds=0.7);"
        f"run_stage(folder, plan, EngineConfig(**{engine}), 'doubling')"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)


@pytest.mark.parametrize("engine", [{"workers": 1}, {"workers": 2}])
def test_a_killed_driver_leaves_what_another_engine_finishes(engine, plain, slow):
    folder, plan, began = slow
    driver = drive(folder, began, engine)
    while len(list(folder.glob("part-*.json"))) < 2:
        assert driver.poll() is None
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    time.sleep(1.5)  # workers without a driver end once their shard is made
    done = state_of(folder, plan).done
    assert 2 <= len(done) < 10
    before, other = begun(began), TWO if engine["workers"] == 1 else EngineConfig()
    run_stage(folder, plan, other, "doubling")
    assert hashes(folder) == plain
    after = begun(began)
    assert all(after[2 * number + 1] == before[2 * number + 1] for number in done)


@needs_ray
def test_a_killed_driver_of_a_cluster_leaves_what_processes_finish(plain, slow):
    folder, plan, began = slow
    with two_nodes() as (cluster, _):
        driver = drive(folder, began, {"kind": "ray", "workers": 2, "address": cluster.address})
        while len(list(folder.glob("part-*.json"))) < 2:
            assert driver.poll() is None
            time.sleep(0.02)
        driver.kill()
        driver.wait()
        time.sleep(2)
        done, before = state_of(folder, plan).done, begun(began)
        run_stage(folder, plan, TWO, "doubling")
    assert hashes(folder) == plain
    assert all(begun(began)[2 * number + 1] == before[2 * number + 1] for number in done)


def test_a_killed_worker_costs_its_shard_a_second_try(slow, plain):
    folder, plan, began = slow

    def kill():
        while not (names := [path.name for path in began.iterdir()]):
            time.sleep(0.02)
        os.kill(int(names[0].rpartition("-")[2]), signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    run_stage(folder, plan, TWO, "doubling")
    killing.join()
    assert hashes(folder) == plain
    assert sorted(begun(began).values()) == [1] * 9 + [2]


def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(slow, plain):
    folder, plan, began = slow
    driver = drive(folder, began, {"workers": 2})
    while not list(folder.glob("part-*.json")):
        assert driver.poll() is None
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(20) != 0
    workers = {int(path.name.rpartition("-")[2]) for path in began.iterdir()}
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    done, before = state_of(folder, plan).done, begun(began)
    assert done
    run_stage(folder, plan, EngineConfig(), "doubling")
    assert hashes(folder) == plain
    assert all(begun(began)[2 * number + 1] == before[2 * number + 1] for number in done)


POISONED = [*VALUES[:8], POISON, *VALUES[9:]]
KILLING = [*VALUES[:8], DEADLY, *VALUES[9:]]


@pytest.mark.parametrize(
    ("engine", "values", "reason"),
    [
        (EngineConfig(), POISONED, "ValueError: value -1 is poison"),
        (TWO, POISONED, "ValueError: value -1 is poison"),
        (TWO, KILLING, r"its process died 3 times \(exit code -9\)"),
    ],
)
def test_a_poison_shard_costs_itself_alone(engine, values, reason, tmp_path):
    folder = tmp_path / "a plan"
    said = rf"1 of 10 shards failed \(4\); shard 4: {reason}; the others are kept: .*\(foils status '.*/a plan'\)$"
    with pytest.raises(UserError, match=said):
        make(folder, engine, values)
    state = state_of(folder, read_plan(folder))
    assert len(state.done) == 9
    assert state.left == [4]
    assert "shard 4 failed: " in summary(folder, read_plan(folder))


@needs_ray
def test_a_poison_shard_of_a_cluster_costs_itself_alone(tmp_path):
    with two_nodes() as (cluster, _):
        engine = EngineConfig("ray", workers=2, address=cluster.address)
        with pytest.raises(UserError, match=r"1 of 10 shards failed \(4\); shard 4: ValueError: value -1 is poison"):
            make(tmp_path / "raises", engine, POISONED)
        with pytest.raises(UserError, match=r"1 of 10 shards failed \(4\); shard 4: its worker died 3 times"):
            make(tmp_path / "dies", engine, KILLING)
        assert len(hashes(tmp_path / "dies")) == 9
        with pytest.raises(UserError, match=r"engine.cpus_per_worker 2, .*no node of the cluster has as many"):
            make(tmp_path / "large", msgspec.structs.replace(engine, cpus_per_worker=2))


@needs_ray
def test_a_node_that_cannot_work_is_named_in_one_line(tmp_path, plain):
    """Each node is larger than those before, so that a worker fits nowhere else."""
    lacking, other = tmp_path / "lacking", tmp_path / "other"
    (lacking / "msgspec").mkdir(parents=True)
    (lacking / "msgspec" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'msgspec'\")")
    (other / "numba-0.1.dist-info").mkdir(parents=True)
    (other / "numba-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n")
    with two_nodes() as (cluster, _):
        for number, (place, wish, said) in enumerate(
            (
                (other, {"cpus": 3}, "made with numba .*, and here it is 0.1; use one checkout of Foils and one"),
                (lacking, {"cpus": 5}, "No module named 'msgspec'.*; every node needs this checkout of Foils, its"),
                (ROOT, {"gpus": 1}, "engine.gpus_per_worker 1: torch sees 0 GPUs on .*; start Ray there with"),
            )
        ):
            variables = {"PYTHONPATH": f"{place}:{ROOT}"}
            offered = {f"num_{name}": count for name, count in wish.items()}
            cluster.add_node(**{"num_cpus": 1, **offered}, object_store_memory=80 * 2**20, env_vars=variables)
            wishes = {f"{name}_per_worker": count for name, count in wish.items()}
            folder = tmp_path / f"plan-{number}"
            with pytest.raises(UserError, match=said) as refused:
                make(folder, EngineConfig("ray", address=cluster.address, **wishes))
            assert "\n" not in str(refused.value)
            assert make(folder, EngineConfig()) == plain
        with pytest.raises(UserError, match="gpus_per_worker 2: no node of the cluster has as many"):
            make(tmp_path / "plan", EngineConfig("ray", address=cluster.address, gpus_per_worker=2))


@needs_ray
def test_an_address_without_a_cluster_is_refused_soon(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(UserError, match=f"engine.address {address}: no cluster answers there"):
            make(tmp_path / "plan", EngineConfig("ray", address=address))
    assert time.monotonic() - start < 30


def test_a_plan_of_other_rows_or_settings_is_not_mixed(tmp_path):
    make(tmp_path / "plan", EngineConfig())
    before = hashes(tmp_path / "plan")
    with pytest.raises(UserError, match="its parts were made from other rows or settings; name another folder"):
        make(tmp_path / "plan", EngineConfig(), factor=3)
    with pytest.raises(UserError, match="its parts were made from other rows or settings"):
        make(tmp_path / "plan", EngineConfig(), VALUES[::-1])
    assert hashes(tmp_path / "plan") == before


def test_rows_that_changed_under_a_plan_are_refused(tmp_path):
    folder = tmp_path / "plan"
    plan = doubling(folder, VALUES)
    doubling(folder, VALUES[::-1])
    with pytest.raises(UserError, match=r"input-0.parquet: not the file that the plan was made with"):
        run_stage(folder, plan, TWO, "doubling")


def test_other_versions_are_refused_with_the_remedy(tmp_path):
    folder = tmp_path / "plan"
    with pytest.raises(UserError, match="shard 4"):
        make(folder, EngineConfig(), POISONED)
    plan = read_plan(folder)
    versions = {**plan.versions, "torch": "1.0"}
    (folder / PLAN).write_bytes(msgspec.json.encode(msgspec.structs.replace(plan, versions=versions)))
    for engine in (EngineConfig(), TWO):
        with pytest.raises(UserError, match=r"made with torch 1\.0, and here it is .*; use one checkout of Foils"):
            finish(folder, engine, "doubling")
    with pytest.raises(UserError, match=r"made with torch 1\.0"):
        make(folder, EngineConfig(), POISONED)
    assert len(hashes(folder)) == 9


def test_a_broken_part_is_made_again(tmp_path, plain):
    folder = tmp_path / "plain"
    (folder / "part-00003.parquet").write_bytes(b"short")
    assert state_of(folder, read_plan(folder)).left == [3]
    finish(folder, EngineConfig(), "doubling")
    assert hashes(folder) == plain
    content = bytearray((folder / "part-00003.parquet").read_bytes())
    content[20] ^= 1
    (folder / "part-00003.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"part-00003.parquet: not the part that was made; run the same command again"):
        list(read_parts(folder, read_plan(folder)))
    finish(folder, EngineConfig(), "doubling")
    assert hashes(folder) == plain


def test_a_second_worker_does_not_make_a_part_again(slow):
    folder, plan, began = slow
    write_plan(folder, plan, begun=False)
    assert Worker(folder)(3) == Worker(folder)(3) == Outcome(3)
    assert begun(began) == {7: 1}


def test_what_killed_workers_had_begun_to_write_goes_with_the_last_shard(tmp_path):
    folder = tmp_path / "plan"
    plan = doubling(folder, POISONED)
    (folder / ".part-00002.parquet.0123456789ab").write_bytes(b"half")
    with pytest.raises(UserError, match="1 of 10 shards failed"):
        run_stage(folder, plan, EngineConfig(), "doubling")
    assert list(folder.glob(".*"))  # another machine may be writing
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".part-00002.parquet.0123456789ab").write_bytes(b"half")
    make(tmp_path / "other", EngineConfig())
    assert not list((tmp_path / "other").glob(".*"))


def test_a_pause_is_not_counted_in_the_rate(tmp_path):
    folder = tmp_path / "plan"
    make(folder, EngineConfig())
    for number, at in enumerate((0, 30, 30, 60, 3660, 3660, 3690, 3690)):  # two workers, and an hour's pause
        marker = folder / f"part-{number:05}.json"
        marker.write_text(json.dumps(json.loads(marker.read_text()) | {"seconds": 30.0}))
        os.utime(marker, (at, at))
    for number in (8, 9):
        (folder / f"part-{number:05}.json").unlink()
    said = "8 of 10 shards done, 0 failed, 2 left; 210 an hour, about 0.571 minutes to go"
    assert said in summary(folder, read_plan(folder))


def test_a_full_disk_ends_the_run_and_keeps_what_is_there(tmp_path):
    code = """
    import os
    from pathlib import Path
    from foils.engine.config import EngineConfig
    from foils.engine.run import run_stage
    from foils.errors import UserError
    from tests.fixtures.engine_stages import doubling
    disk = Path(sys.argv[1])
    plan = doubling(disk / "plan", list(range(1, 20)))
    room = os.statvfs(disk)
    (disk / "fill").write_bytes(b"x" * (room.f_bavail * room.f_frsize - 20_000))
    for _ in range(2):
        try:
            run_stage(disk / "plan", plan, EngineConfig(), "doubling")
        except UserError as error:
            print(error)
    (disk / "fill").unlink()
    run_stage(disk / "plan", plan, EngineConfig(), "doubling")
    print(sorted(path.name for path in (disk / "plan").glob(".*")), len(list((disk / "plan").glob("part-*.json"))))
    """
    done = on_a_small_disk(tmp_path, code)
    assert done.returncode == 0, done.stderr
    *errors, last = done.stdout.splitlines()
    assert len(errors) == 2
    assert all("No space left on device; make room" in line for line in errors)
    assert last == "[] 10"


def test_a_disk_that_can_only_be_read_is_named(tmp_path):
    code = """
    if __name__ == "__main__":
        from pathlib import Path
        from foils.engine.config import EngineConfig
        from foils.engine.run import run_stage
        from foils.errors import run_entry
        from tests.fixtures.engine_stages import doubling
        disk = Path(sys.argv[1])
        plan = doubling(disk / "plan", list(range(1, 20)))
        make = lambda: run_stage(disk / "plan", plan, engine, "doubling")
        for begun in (False, True):
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            for engine in (EngineConfig(), EngineConfig(workers=2)):
                assert run_entry(make) == 2
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            if not begun:
                make()
                (disk / "plan" / "part-00004.json").unlink()
        make()
        print(len(list((disk / "plan").glob("part-*.json"))))
    """
    done = on_a_small_disk(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "10\n"
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    assert all("cannot be written (Read-only file system); name a writable folder" in line for line in lines[:2])
    assert all("Read-only file system; make room there, or name another place" in line for line in lines[2:])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    plan = doubling(tmp_path / "plan", VALUES)
    with pytest.raises(UserError, match=r"plan .*file/plan: cannot be written \(Not a directory\)"):
        run_stage(tmp_path / "file" / "plan", plan, EngineConfig(), "doubling")


def foils(*arguments, **variables):
    command = [sys.executable, "-m", "foils", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **variables}
    )


SBATCH = """#!/bin/sh
for word in "$@"; do case "$word" in --wrap=*) sh -c "${word#--wrap=}" || exit 1;; esac; done
echo Submitted batch job $$
"""


def test_commands_for_slurm_make_the_same_bytes(tmp_path, plain):
    folder, slurm = tmp_path / "plan", EngineConfig("slurm", workers=3, cpus_per_worker=2)
    with pytest.raises(UserError, match=r"10 of 10 shards are left; run the commands above, .*--submit"):
        make(folder, slurm)
    printed = foils("shard", folder, "--engine", "slurm", "--workers", 3)
    assert [line.split()[-1].strip("'") for line in printed.stdout.splitlines()] == ["0-2", "3-5", "6-9"]
    assert "0 of 10 shards done, 0 failed, 10 left" in foils("status", folder).stdout
    missing = foils("shard", folder, "--engine", "slurm", "--submit", PATH="/nowhere")
    assert missing.returncode == 2
    assert "no sbatch on this machine" in missing.stderr
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    started = foils("shard", folder, "--engine", "slurm", "--workers", 2, "--submit", PATH=path)
    assert started.stdout.count("Submitted batch job") == 2, started.stderr
    assert hashes(folder) == plain
    assert "10 of 10 shards done" in foils("status", folder).stdout
    make(folder, slurm)


def test_some_shards_by_number_and_what_is_refused(tmp_path, plain):
    folder = tmp_path / "plan"
    with pytest.raises(UserError):
        make(folder, EngineConfig("slurm"))
    assert foils("shard", folder, "--shards", "2,5-6").returncode == 0
    assert hashes(folder) == {
        name: plain[name] for name in ("part-00002.parquet", "part-00005.parquet", "part-00006.parquet")
    }
    for arguments, said in (
        ((folder, "--shards", "8-10"), "--shards 8-10: wanted numbers and ranges such as 0-9,12, from 0 to 9"),
        ((folder, "--engine", "spark"), "--engine: Invalid enum value 'spark'; allowed engines: local, ray, slurm, "),
        ((folder, "--workers", "0"), "foils shard: --workers: Expected `int` >= 1"),
        ((folder, "--gpus-per-worker=-1"), "foils shard: --gpus-per-worker: Expected `int` >= 0"),
        (
            (tmp_path, "--shards", "1"),
            f"{tmp_path}: it holds no plan.json; wanted one of {tmp_path / 'plain'}, {folder}",
        ),
        ((tmp_path / "nowhere",), "nowhere: it holds no plan.json; wanted the folder of a plan, such as"),
        ((folder, "--engine", "hf-jobs"), 'kind "hf-jobs" without address'),
    ):
        done = foils("shard", *arguments)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_commands_for_jobs_of_the_hub(tmp_path):
    folder = tmp_path / "plan"
    with pytest.raises(UserError):
        make(folder, EngineConfig("hf-jobs", workers=2, address="owner/bucket", gpus_per_worker=1))
    printed = foils("shard", folder, "--engine=hf-jobs", "--workers=2", "--gpus-per-worker=1", "--address=o/b")
    first = printed.stdout.splitlines()[0]
    assert first.startswith(f"hf jobs run --detach --flavor l4x1 -v hf://buckets/o/b:{tmp_path} IMAGE bash -c ")
    assert first.endswith(f"python -m foils.engine {folder} --shards 0-4'")
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_" + "x" * 20, "HF_HUB_OFFLINE": "0"}
    arguments = ("shard", folder, "--engine=hf-jobs", "--address=o/b", "--submit")
    for more, said in (((), "wanted --image, a Docker image"), (("--image=i",), "error: hf-jobs: ")):
        refused = foils(*arguments, *more, **nowhere)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    assert "started so far: []" in refused.stderr

"""Publications that are killed, interrupted or run twice at once, and what a reader sees of them at every moment."""

import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.forkserver import ensure_running

import pytest
from huggingface_hub import constants

from builders.publish import publish_dataset
from cards.publish.release import Target
from foils.errors import UserError
from tests.fixtures import commands
from tests.fixtures.publications import UPLOADED, assert_whole, local, published, state, stumbles
from tests.hub import Fault

pytestmark = pytest.mark.hub

PUBLISHERS = multiprocessing.get_context("forkserver")
PUBLISHERS.set_forkserver_preload(["builders.publish"])
SEED = 20_241
_FIRST = {}  # the files of a version as it was published, to put into other repositories
STEPS = [
    ("POST", "/api/repos/create"),
    ("POST", "/branch/"),
    ("POST", "/commit/staging"),
    ("POST", "/tag/"),
    ("POST", "/commit/main"),
    ("DELETE", "/branch/"),
]


@pytest.fixture(scope="module", autouse=True)
def _temporary_files(tmp_path_factory):
    """Other processes put theirs where pytest clears up: one that is killed cannot."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        ensure_running()
        yield


@pytest.fixture
def watched(hub):
    """Watches what readers see at every request; gives the list of what they would stumble over."""
    found = []

    def look(number, method, path):
        for _, repo_id in hub.repos():
            found.extend((number, method, path, what) for what in stumbles(hub, repo_id))

    hub.on_request = look
    return found


def _takes(lane):
    """Has a process that was forked before the test began use the test's storage."""
    constants.HF_HUB_DISABLE_XET = lane


def in_other_processes(hub, jobs, killed=None):
    """Publishes each folder to its target at the same time, and returns the errors, or None.

    Args:
        hub: the Hub.
        jobs: pairs of folder and target.
        killed: called with a function that kills the first process, before it begins.
    """
    lane = (constants.HF_HUB_DISABLE_XET,)
    with ProcessPoolExecutor(len(jobs), PUBLISHERS, _takes, lane) as pool:
        pid = pool.submit(os.getpid).result()
        list(pool.map(time.sleep, [0.1] * len(jobs)))  # now there are as many processes as jobs
        if killed is not None:
            killed(lambda: os.kill(pid, signal.SIGKILL))
        futures = [pool.submit(publish_dataset, folder, target) for folder, target in jobs]
        errors = [future.exception(timeout=120) for future in futures]
    hub.faults.clear()
    return errors


def set_scene(hub, built_animals, repo_id, second):
    """What is there before, the folder to publish as the next version, and what has to be there afterwards."""
    first = built_animals("first")
    if not second:
        return first, Target(repo_id, "v1.0.0"), {"v1.0.0": first}
    if not _FIRST:
        publish_dataset(first, Target("alice/elsewhere", "v1.0.0"))
        _FIRST.update(local(first))
    hub.create_repo("dataset", repo_id)
    hub.commit("dataset", repo_id, _FIRST)
    hub.tag("dataset", repo_id, "v1.0.0")
    folder = built_animals("second", "negatives.kinds=['bm25', 'random']")
    return folder, Target(repo_id, "v2.0.0"), {"v1.0.0": first, "v2.0.0": folder}


def kill_and_run_again(hub, folder, target, folders, killed):
    """Whether it was killed; what readers see after that, and after it has run again, is asserted."""
    [error] = in_other_processes(hub, [(folder, target)], killed)
    assert error is None or isinstance(error, BrokenProcessPool)
    assert stumbles(hub, target.repo_id) == []
    publish_dataset(folder, target)
    assert_whole(hub, target.repo_id, folders, target.version)
    return error is not None


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize("second", [False, True], ids=["first version", "second version"])
@pytest.mark.parametrize("tries", [4, pytest.param(10, marks=pytest.mark.nightly)])
def test_killed_at_any_request_it_completes_when_run_again(hub, built_animals, second, tries):
    folder, target, _ = set_scene(hub, built_animals, "alice/counted", second)
    before = len(hub.requests)
    assert in_other_processes(hub, [(folder, target)]) == [None]
    total = len(hub.requests) - before
    assert total > 50
    chosen = random.Random(SEED + second).sample(range(1, total + 1), tries)
    kills = 0
    for number, request in enumerate(chosen):
        repo_id = f"alice/killed-{'second' if second else 'first'}-{number}"
        hub.reset()
        folder, target, folders = set_scene(hub, built_animals, repo_id, second)
        cut = number % 2 == 0

        def killed(kill, request=request, cut=cut):
            hub.faults.add(Fault(after=request - 1, action=kill, cut=cut))

        print(f"seed {SEED}: killed at request {request} of {total}, {'not ' if cut else ''}handled")
        kills += kill_and_run_again(hub, folder, target, folders, killed)
    assert kills >= 0.75 * tries  # the last requests of a run may be fewer than in the one that was counted


@pytest.mark.parametrize(("method", "path"), STEPS, ids=[path for _, path in STEPS])
def test_killed_before_a_step_of_a_first_version(hub, built_animals, method, path):
    folder, target, folders = set_scene(hub, built_animals, f"alice/before-{STEPS.index((method, path))}", second=False)

    def killed(kill):
        hub.faults.add(Fault(method=method, path=path, action=kill, cut=True))

    assert kill_and_run_again(hub, folder, target, folders, killed)


@pytest.mark.parametrize(("method", "path"), STEPS[1:-1], ids=[path for _, path in STEPS[1:-1]])
def test_killed_after_a_step_of_a_second_version(hub, built_animals, method, path):
    """The step is done and answered; the kill comes with the next request."""
    folder, target, folders = set_scene(hub, built_animals, f"alice/after-{STEPS.index((method, path))}", second=True)
    done = []

    def killed(kill):
        hub.faults.add(Fault(method=method, path=path, action=lambda: done.append(kill)))
        hub.on_request = lambda *_: done.pop()() if done else None

    assert kill_and_run_again(hub, folder, target, folders, killed)
    assert not done


def test_what_a_reader_sees_at_every_request(hub, built_animals, watched):
    folder, target, folders = set_scene(hub, built_animals, "alice/watched", second=True)
    seen = len(hub.requests)
    publish_dataset(folder, target)
    assert len(hub.requests) - seen > 50
    assert watched == []
    assert_whole(hub, "alice/watched", folders, "v2.0.0")
    hub.commit("dataset", "alice/watched", {"manifest.json": b'{"configs": {}}'})
    assert stumbles(hub, "alice/watched")  # the check can fail
    repo = hub.repo("dataset", "alice/watched")
    repo.refs["main"] = repo.tags["v1.0.0"]
    assert stumbles(hub, "alice/watched") == []
    repo.tags["v2.0.0"] = repo.tags["v1.0.0"]
    assert stumbles(hub, "alice/watched") == ["v2.0.0: its card is of v1.0.0"]


def run_two(hub, slow, *jobs):
    """Two publications that begin together; one of them is held up at a step."""
    line = threading.Barrier(len(jobs))
    hub.faults.add(Fault(method="POST", path="/branch/", times=len(jobs), action=lambda: line.wait(30)))
    *method, path = slow.split()
    hub.faults.add(Fault(method=method[0] if method else "POST", path=path, delay_s=0.6))
    return in_other_processes(hub, jobs)


@pytest.mark.parametrize(("number", "slow"), enumerate(["/preupload/staging", "/tag/", "/commit/main"]))
def test_two_publish_the_same_at_once(hub, built_animals, watched, number, slow):
    repo_id = f"alice/same-{number}"
    folder = built_animals("one")
    assert run_two(hub, slow, *[(folder, Target(repo_id, "v1.0.0"))] * 2) == [None, None]
    assert watched == []
    assert_whole(hub, repo_id, {"v1.0.0": folder}, "v1.0.0")


@pytest.mark.parametrize(("number", "slow"), enumerate(["/commit/staging", "/tag/", "DELETE /branch/"]))
def test_two_publish_other_content_as_the_same_version(hub, built_animals, watched, number, slow):
    repo_id = f"alice/other-{number}"
    folders = [built_animals("one"), built_animals("two", "negatives.kinds=['bm25', 'random']")]
    errors = run_two(hub, slow, *[(folder, Target(repo_id, "v1.0.0")) for folder in folders])
    [winner] = [folder for folder, error in zip(folders, errors, strict=True) if error is None]
    [refusal] = [error for error in errors if error is not None]
    assert isinstance(refusal, UserError)
    expected = (
        rf"{repo_id}@v1\.0\.0: this version exists with other content \(\S+ differs\) and a version is never moved; "
        "publish under another one, or with --version auto"
    )
    assert re.fullmatch(expected, str(refusal))
    assert watched == []
    assert_whole(hub, repo_id, {"v1.0.0": winner}, "v1.0.0")


@pytest.mark.parametrize(("number", "slow"), enumerate(["/commit/staging", "/tag/", "/commit/main"]))
def test_two_publish_two_versions_at_once(hub, built_animals, watched, number, slow):
    repo_id = f"alice/two-{number}"
    lower, _, folders = set_scene(hub, built_animals, repo_id, second=True)
    higher = built_animals("third", "negatives.kinds=['random']")
    jobs = [(lower, Target(repo_id, "v2.0.0")), (higher, Target(repo_id, "v3.0.0"))]
    if number % 2:
        jobs.reverse()
    assert run_two(hub, slow, *jobs) == [None, None]
    assert watched == []
    assert_whole(hub, repo_id, {**folders, "v3.0.0": higher}, "v3.0.0")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", UPLOADED),
        ("POST", "/commit/staging"),
        ("GET", "/reconstructions"),
        ("HEAD", "/resolve/v1.0.0/README.md"),
        ("POST", "/commit/main"),
    ],
)
def test_ctrl_c_ends_with_130_and_one_line(hub, built_animals, method, path):
    folder = built_animals("one")
    repo_id = f"alice/ctrl-c-{len(path)}"
    command = [sys.executable, "-m", "builders.publish", str(folder), "--push", repo_id, "--version", "v1.0.0"]
    process = commands.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    hub.faults.add(
        Fault(method=method, path=path, action=lambda: os.killpg(process.pid, signal.SIGINT), delay_s=0.5)
    )  # to the whole group, as a terminal does
    errors = process.communicate(timeout=60)[1]
    hub.faults.clear()
    assert process.returncode == 130, errors
    told, *rest = errors.splitlines()
    assert told == f"{repo_id}: v1.0.0: the first version"
    interrupted = "interrupted: what was finished is kept; run the same command again to go on"
    assert [line for line in rest if "a path of this machine" not in line] == [interrupted]
    assert stumbles(hub, repo_id) == []
    assert commands.run(command, capture_output=True, check=False).returncode == 0
    assert_whole(hub, repo_id, {"v1.0.0": folder}, "v1.0.0")


@pytest.mark.usefixtures("storage")
def test_built_and_published_by_one_command(hub, write_recipe, tmp_path):
    options = ["--store", tmp_path / "calls.sqlite", "--push", "alice/one-command", "--version", "v1.0.0"]
    recipe = write_recipe()
    for words in ("12 configurations read back and verified", "is there with the same content: nothing to do"):
        finished = commands.module("builders.build", recipe, "--out", tmp_path / "out", *options)
        assert finished.returncode == 0, finished.stderr
        assert f"alice/one-command@v1.0.0: {'published, ' if '12' in words else ''}{words}" in finished.stderr
    assert_whole(hub, "alice/one-command", {"v1.0.0": tmp_path / "out"}, "v1.0.0")


def test_a_dry_run_changes_nothing(hub, built_animals):
    first, second = built_animals("one"), built_animals("two", "seed=7")
    for folder, told in ((first, "v1.0.0: the first version"), (second, "v1.1.0: minor after v1.0.0: ")):
        there = hub.repos() and (state(hub, "alice/dry"), published(hub, "alice/dry", "main"))
        before = local(folder)
        hub.requests.clear()
        finished = commands.module("builders.publish", folder, "--push", "alice/dry", "--dry-run")
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr.startswith(f"alice/dry: {told}")
        assert {request.method for request in hub.requests} <= {"GET", "HEAD"}
        assert there == (hub.repos() and (state(hub, "alice/dry"), published(hub, "alice/dry", "main")))
        assert local(folder) == before
        publish_dataset(folder, Target("alice/dry"))


def test_an_earlier_try_under_a_version_that_main_has_left_behind(hub, built_animals):
    """A staging branch from v1.0.0 is taken up again when `main` is at another version with other files."""
    first = built_animals("first")
    publish_dataset(first, Target("alice/stale", "v1.0.0"))
    third = built_animals("third", "negatives.kinds=['bm25', 'random']")
    hub.faults.add(Fault(403, "POST", "/commit/staging"))
    with pytest.raises(UserError, match="does not allow"):
        publish_dataset(third, Target("alice/stale", "v3.0.0"))
    assert len(hub.repo("dataset", "alice/stale").refs) == 2
    second = built_animals("second", "negatives.kinds=['random']")
    publish_dataset(second, Target("alice/stale", "v2.0.0"))
    publish_dataset(third, Target("alice/stale", "v3.0.0"))
    assert_whole(hub, "alice/stale", {"v1.0.0": first, "v2.0.0": second, "v3.0.0": third}, "v3.0.0")


def test_an_old_version_published_again_leaves_main_alone_whatever_its_card_says(hub, built_animals):
    first, second = built_animals("one"), built_animals("two", "seed=7")
    publish_dataset(first, Target("alice/again", "v1.0.0"))
    publish_dataset(second, Target("alice/again", "v1.1.0"))
    hub.commit("dataset", "alice/again", {"README.md": b"# All new, by hand\n"})
    before = state(hub, "alice/again")
    publish_dataset(first, Target("alice/again", "v1.0.0"))
    assert state(hub, "alice/again") == before


def test_a_branch_that_a_killed_rival_left_goes_with_the_next_version(hub, built_animals):
    publish_dataset(built_animals("one"), Target("alice/rival", "v1.0.0"))
    repo = hub.repo("dataset", "alice/rival")
    repo.refs |= dict.fromkeys(("staging-v1.0.0-0123456789ab", "staging-v9.0.0-0123456789ab"), repo.refs["main"])
    publish_dataset(built_animals("two", "seed=7"), Target("alice/rival"))
    assert set(repo.refs) == {"main", "staging-v9.0.0-0123456789ab"}  # that one may be under way

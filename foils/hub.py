"""The Hub as this project talks to it: patient with what passes, plain about what does not.

Reading goes through `pin` (a name and revision become a commit, and a tag that has moved is noticed) and `download`
(only the kinds of files that are asked for, never outside the target folder). `cards.publish` writes.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from traceback import walk_tb
from typing import Any, Literal, TypeVar

import httpx2
import pyarrow as pa
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile

from foils import pins
from foils.errors import UserError
from foils.hub_errors import RETRIED, first_line, meaning
from foils.shards import files_of_copy, of_split
from foils.tables import WANTED, form_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
RepoType = Literal["dataset", "model"]

COMMIT = re.compile(r"[0-9a-f]{40}")
ATTEMPTS = 6
LONGEST_PAUSE_S = 300
LONG_TRY_S = 60
CLIENTS = {"huggingface_hub", "hf_xet", "httpx2", "datasets", "fsspec", "mteb"}
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.spm", "*.tiktoken", "*.jinja")
"""What a model is loaded from: weights that cannot hold code, and plain text."""


class UnreachableError(UserError):
    """The Hub is not within reach: no network, or `HF_HUB_OFFLINE`."""


@cache
def client() -> HfApi:
    """The Hub client; endpoint and token come from the environment or `hf auth login`."""
    return HfApi(library_name="foils")


def patiently(call: Callable[[], T], pause_s: float = 1.0) -> T:
    """Makes a call again while the Hub is busy or the connection breaks; the client itself does so for some only.

    A server that says how long to wait is obeyed, up to five minutes. A repeated POST may find its own work done:
    callers look at the Hub's state after a conflict and do not trust the answer alone.

    Args:
        call: one request.
        pause_s: seconds before the second try; doubled for each further one.
    """
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        try:
            return call()
        except OfflineModeIsEnabled:
            raise
        except LocalEntryNotFoundError as error:  # the client has tried for long; why it gave up is what counts
            raise error.__cause__ or error from None
        except HfHubHTTPError as error:
            if attempt == ATTEMPTS or error.response.status_code not in RETRIED:
                raise
            asked = error.response.headers.get("Retry-After", "")
            pause = min(int(asked) + 0.5, LONGEST_PAUSE_S) if asked.isdigit() else pause_s * 2 ** (attempt - 1)
            why = f"answered {error.response.status_code}"
        except (httpx2.TransportError, ConnectionError, json.JSONDecodeError) as error:  # a proxy's page is not JSON
            if attempt == ATTEMPTS or _is_final(error, time.monotonic() - began):
                raise
            pause = pause_s * 2 ** (attempt - 1)
            why = f"cannot be reached ({first_line(error)})"
        logger.info("the Hub %s; trying again in %.1f s", why, pause)
        time.sleep(pause)
    raise AssertionError("unreachable")


def _is_final(error: Exception, seconds: float) -> bool:
    """Whether another try is in vain: hf_xet raises a ConnectionError for refusals, and after minutes of its own tries.

    Args:
        error: of a call.
        seconds: that the call took.
    """
    return isinstance(error, ConnectionError) and ("HTTP status client error" in str(error) or seconds > LONG_TRY_S)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns whatever the Hub's clients raise into one line for the user.

    Args:
        what: the thing that was tried, such as `data set owner/name@v1.0.0`.

    Raises:
        UserError: says what the Hub answered and what to do; `UnreachableError` where it did not answer.
        RuntimeError, ValueError: of our own code, which is a mistake.
    """
    try:
        yield
    except (HfHubHTTPError, httpx2.TransportError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, RuntimeError | ValueError) and not _is_of_clients(error):
            raise
        unreachable = isinstance(error, OfflineModeIsEnabled | httpx2.TransportError | ConnectionError)
        raise (UnreachableError if unreachable else UserError)(f"{what}: {meaning(error)}") from None


def _is_of_clients(error: Exception) -> bool:
    """Whether an error was raised within the Hub's clients, or by a file that was read."""
    if isinstance(error, pa.ArrowException | json.JSONDecodeError | UnicodeError):
        return True
    modules = {frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in walk_tb(error.__traceback__)}
    return not modules.isdisjoint(CLIENTS)


def pin(repo_id: str, revision: str, repo_type: RepoType) -> str:
    """The commit behind a revision.

    The first commit that a tag is seen at is written down (see `foils.pins`): a version that points elsewhere later is
    refused, since figures that name it would no longer be of the same bytes. Offline, what was written down is used.

    Raises:
        UserError: the repository or the revision does not exist, or the tag has moved.
    """
    if COMMIT.fullmatch(revision):
        return revision
    if constants.is_offline_mode() and (last := pins.offline(repo_id, revision, repo_type)) is not None:
        return last
    with explained(f"{repo_type} {repo_id}@{revision}"):
        info = patiently(lambda: client().repo_info(repo_id, revision=revision, repo_type=repo_type))
        if info.gated:  # reported now: `datasets` would hide it in an error of its own
            patiently(lambda: client().auth_check(repo_id, repo_type=repo_type))
        refs = patiently(lambda: client().list_repo_refs(repo_id, repo_type=repo_type))
    commit, is_tag = str(info.sha), revision in {tag.name for tag in refs.tags}
    noted, note = pins.tagged(repo_id, revision, repo_type)
    if is_tag and noted not in (None, commit):
        raise UserError(
            f"{repo_type} {repo_id}@{revision}: the tag has moved: it was {noted} when it was first used here and is "
            f"{commit} now; a version must never move. Name the commit that you mean as the revision, or, if you "
            f"trust the new one, delete {note}"
        )
    pins.note(repo_id, revision, repo_type, commit, tag=is_tag)
    return commit


def files_at(repo_id: str, commit: str, repo_type: RepoType) -> dict[str, RepoFile]:
    """Path -> file of a repository's whole tree.

    Raises:
        UserError: a path would leave the folder that it is downloaded to.
        HfHubHTTPError: whatever the Hub answered.
    """
    tree = patiently(
        lambda: list(client().list_repo_tree(repo_id, recursive=True, revision=commit, repo_type=repo_type))
    )
    files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    for path in files:
        check_path(path, f"{repo_type} {repo_id}")
    return files


def check_path(path: str, where: str) -> None:
    """Refuses a path that could leave its folder.

    Raises:
        UserError: the path is absolute or climbs.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or re.match(r"[A-Za-z]:", path):
        raise UserError(f"{where}: holds the path {path!r}, which would leave the folder it is read into; not read")


def download(repo_id: str, commit: str, repo_type: RepoType, patterns: Sequence[str]) -> Path:
    """Downloads what matches the patterns into the Hub's cache and returns the snapshot's folder.

    Raises:
        UserError: the repository cannot be read, or a path in it would leave the folder.
    """
    with explained(f"{repo_type} {repo_id}@{commit}"):
        if not constants.is_offline_mode():
            files_at(repo_id, commit, repo_type)
        wanted: dict[str, Any] = {"repo_type": repo_type, "revision": commit, "allow_patterns": list(patterns)}
        folder = patiently(lambda: client().snapshot_download(repo_id, **wanted))
    return Path(folder)


def parquet_builder(repo_id: str, config: str | None, commit: str) -> Any:
    """What `datasets` knows of a Hub data set's configuration (a `DatasetBuilder`): its splits and their files.

    Raises:
        UserError: the configuration does not exist, or its files are of another kind.
    """
    builder = _builder(repo_id, config, commit)
    if builder.info.builder_name != "parquet":
        raise UserError(
            f"{_named(repo_id, config, commit)}: its files are {builder.info.builder_name}; only Parquet is read from "
            "the Hub. The Hub keeps a Parquet copy of most public data sets: name its commit, that of "
            "refs/convert/parquet, as the revision"
        )
    return builder


def data_files(repo_id: str, config: str | None, split: str, commit: str) -> list[Path]:
    """Downloads the files of one split of a Hub data set, to be read by `foils.tables`.

    Raises:
        UserError: the configuration or split is missing, or a file is of a form that might hold code.
    """
    where = _named(repo_id, config, commit)
    if constants.is_offline_mode():
        return files_of_copy(download(repo_id, commit, "dataset", ["README.md"]), config, split, where)
    paths = of_split(_builder(repo_id, config, commit).config.data_files, split, where)
    inside = [path.removeprefix(f"hf://datasets/{repo_id}@{commit}/") for path in paths]
    strange = next((path for path in inside if form_of(Path(path)) is None), None)
    if strange is not None:
        raise UserError(f"{where}: {strange} is not of a form that is read from the Hub; wanted {WANTED}")
    folder = download(repo_id, commit, "dataset", ["README.md", *inside])
    return [folder / path for path in inside]


def _named(repo_id: str, config: str | None, commit: str) -> str:
    return f"dataset {repo_id}@{commit}" + (f", configuration {config!r}" if config else "")


def _builder(repo_id: str, config: str | None, commit: str) -> Any:
    from datasets import load_dataset_builder

    with _found(_named(repo_id, config, commit)):
        if not constants.is_offline_mode():
            files_at(repo_id, commit, "dataset")  # refuses paths that climb
        return patiently(lambda: load_dataset_builder(repo_id, config, revision=commit))


def load_parquet(repo_id: str, config: str | None, split: str, commit: str) -> Any:
    """One split of a Hub data set (a `datasets.Dataset`), read from Parquet files alone.

    Raises:
        UserError: the configuration or the split does not exist, or its files are of another kind.
    """
    from datasets import load_dataset

    parquet_builder(repo_id, config, commit)
    with _found(_named(repo_id, config, commit)):
        return patiently(lambda: load_dataset(repo_id, config, split=split, revision=commit))


@contextmanager
def _found(where: str) -> Iterator[None]:
    """As `explained`; what `datasets` did not find is explained in its own words."""
    from datasets.exceptions import DatasetNotFoundError

    with explained(where):
        try:
            yield
        except (DatasetNotFoundError, FileNotFoundError, ValueError) as error:
            if isinstance(error, HfHubHTTPError):
                raise
            raise UserError(f"{where}: {first_line(error)}") from None


def card_of(repo_id: str, commit: str) -> Any:
    """What a Hub data set's card says in its YAML; None where there is none, or offline."""
    if constants.is_offline_mode():
        return None
    with explained(f"dataset {repo_id}@{commit}"):
        return patiently(lambda: client().dataset_info(repo_id, revision=commit)).card_data


def licence_of(repo_id: str, commit: str) -> str | None:
    """The licence that a Hub data set's card states; None where it states none or several, or offline."""
    card = card_of(repo_id, commit)
    stated = card.get("license") if card else None
    stated = stated[0] if isinstance(stated, list) and len(stated) == 1 else stated
    return stated if isinstance(stated, str) and stated != "unknown" else None

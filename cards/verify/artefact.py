"""What is verified: a data set or model in a folder, or in a Hub repository at one commit."""

import logging
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from cards.merging import parse_card
from cards.publish.files import CARD, LocalFile
from cards.verify.links import BrokenError, Link, UnverifiableError, examine, require
from foils.errors import UserError
from foils.hub import RepoType, check_path, client, download, explained, files_at, patiently
from foils.manifest import BuildRecord
from foils.provenance import sha256_file
from foils.records import RecordT, RunRecord, read_record

logger = logging.getLogger(__name__)

RECORDS: dict[RepoType, str] = {"dataset": "manifest.json", "model": "run.json"}


class Artefact(Struct, frozen=True):
    """A data set or model, its files within reach.

    Attributes:
        name: the folder's, or `owner/name`.
        kind: data set or model.
        folder: where its files lie; for a Hub repository, the downloaded ones.
        commit: on the Hub; None for a folder.
    """

    name: str
    kind: RepoType
    folder: Path
    commit: str | None = None

    @property
    def record(self) -> str:
        """The file that says what it was made of."""
        return RECORDS[self.kind]

    @property
    def label(self) -> str:
        """How its links are called in the table."""
        return "data set" if self.kind == "dataset" else "model"

    def manifest(self) -> BuildRecord:
        """The manifest of a data set; see `_decoded`."""
        return self._decoded(BuildRecord)

    def run(self) -> RunRecord:
        """The run record of a model; see `_decoded`."""
        return self._decoded(RunRecord)

    def listed(self) -> dict[str, str]:
        """Path -> SHA-256 of the files that the record vouches for."""
        if self.kind == "model":
            return self.run().files
        return {path: digest for about in self.manifest().configs.values() for path, digest in about.files.items()}

    def _decoded(self, kind: type[RecordT]) -> RecordT:
        """The record.

        Raises:
            BrokenError: the file does not exist.
            UserError: it does not decode.
        """
        found = read_record(self.folder / self.record, kind, "nothing can be followed from it")
        if found is None:
            raise BrokenError(f"no {self.record}: nothing says what it was made of")
        return found

    def card(self) -> str:
        """The README; empty where there is none."""
        file = self.folder / CARD
        return file.read_text("utf-8", errors="replace") if file.is_file() else ""

    def file(self, path: str) -> Path:
        """A file of the artefact by the path that a record gives.

        Raises:
            UserError: the path would leave the folder.
        """
        check_path(path, self.name)
        return self.folder / path

    def rows(self, config: str) -> pa.Table:
        """The rows of a configuration of a data set, all its files.

        Raises:
            BrokenError: the configuration does not exist, or its files cannot be read.
        """
        about = self.manifest().configs.get(config)
        if about is None:
            raise BrokenError(f"no configuration {config}")
        try:
            return pa.concat_tables([pq.read_table(self.file(path)) for path in about.files])
        except pa.ArrowException as error:
            raise BrokenError(f"{config}: {str(error).splitlines()[0]}") from None


def find(reference: str) -> Artefact:
    """Opens what the user named: a folder, `owner/name[@revision]`, or `datasets/owner/name[@revision]`.

    Raises:
        UserError: it does not exist, or it is a folder of something else.
    """
    folder = Path(reference)
    if folder.is_dir():
        for kind, record in RECORDS.items():
            if (folder / record).is_file():
                return Artefact(folder.resolve().name, kind, folder)
        raise UserError(f"{reference}: neither a data set nor a model of ours: no {' and no '.join(RECORDS.values())}")
    found = re.fullmatch(r"(?P<kind>datasets/|models/)?(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", reference)
    if found is None or reference.startswith((".", "/")) or _is_missing_folder(reference):
        raise UserError(
            f"{reference}: no such folder; wanted a folder, owner/name or datasets/owner/name, each @revision"
        )
    if found["kind"] is None and folder.parent.is_dir():
        logger.warning("%s: no such folder; looked up on the Hub", reference)
    with explained(reference):
        kind = _kind(found["id"], found["kind"])
        revision = found["revision"] or "main"
        commit = str(patiently(lambda: client().repo_info(found["id"], revision=revision, repo_type=kind)).sha)
    return fetch(found["id"], kind, commit)


def _is_missing_folder(reference: str) -> bool:
    """Whether a name is a missing folder's rather than a repository's: artefacts of ours would lie beside it."""
    beside = Path(reference).parent
    there = "@" not in reference and beside.is_dir() and beside != Path()
    return there and (beside.name == "outputs" or any(any(beside.glob(f"*/{name}")) for name in RECORDS.values()))


def fetch(repo_id: str, kind: RepoType, commit: str) -> Artefact:
    """Downloads a repository's card, record, and what the record lists; of a model, its evaluation too.

    Raises:
        UserError: the repository cannot be read.
    """
    wanted = [CARD, RECORDS[kind], "evaluation/*"]
    artefact = Artefact(repo_id, kind, download(repo_id, commit, kind, wanted), commit)
    if (artefact.folder / artefact.record).is_file():
        listed = artefact.listed()
        for path in listed:
            check_path(path, repo_id)
        download(repo_id, commit, kind, [*wanted, *listed])  # into the same folder
    return artefact


def check_version(artefact: Artefact) -> Link:
    """The version that the card names is a tag, and holds the same files."""

    def look() -> str:
        commit = artefact.commit
        if commit is None:
            raise UnverifiableError("a folder, not a repository")
        name = parse_card(artefact.card()).data.get("version")
        if not name:
            raise UnverifiableError("the card names no version")
        refs = patiently(lambda: client().list_repo_refs(artefact.name, repo_type=artefact.kind))
        tagged = {tag.name: tag.target_commit for tag in refs.tags}.get(name, "")
        require(tagged, f"the card says {name}, and the repository has no tag of that name")
        if tagged == commit:
            return f"{name} is commit {commit}"
        there = files_at(artefact.name, tagged, artefact.kind)
        for path in (artefact.record, *artefact.listed()):
            same = LocalFile.of(path, artefact.file(path)).is_at(there.get(path))
            require(same, f"{path} differs between {commit[:12]} and the tag {name} ({tagged[:12]})")
        return f"{name} ({tagged[:12]}) and commit {commit[:12]} hold the same files"

    return examine(f"{artefact.label}: version", look)


def check_files(artefact: Artefact) -> Link:
    """Every file that the record lists has the SHA-256 that it says."""

    def look() -> str:
        listed = artefact.listed()
        require(listed, f"{artefact.record} lists no files")
        for path, digest in listed.items():
            require(artefact.file(path).is_file(), f"{path} is listed and not there")
            same = sha256_file(artefact.file(path)) == digest
            require(same, f"{path} has another SHA-256 than {artefact.record} says")
        stray = {file.relative_to(artefact.folder).as_posix() for file in artefact.folder.glob("*/*.parquet")}
        stray -= listed.keys()
        if stray and artefact.kind == "dataset":
            raise BrokenError(f"{min(stray)} is not listed; training would read it too: delete it")
        return f"{len(listed)} files have the SHA-256 that {artefact.record} says"

    return examine(f"{artefact.label}: files", look)


def hub_commit(repo_id: str, kind: RepoType, commit: str) -> str:
    """Confirms that a commit is on the Hub.

    Raises:
        HfHubHTTPError: it is not, or cannot be asked for.
    """
    patiently(lambda: client().repo_info(repo_id, revision=commit, repo_type=kind))
    return f"{repo_id} has commit {commit}"


def _kind(repo_id: str, prefix: str | None) -> RepoType:
    """Whether a name is a model's or a data set's.

    Without a prefix, it is that of the repository with a record of ours, or else of the one that exists.
    """
    if prefix is not None:
        return "dataset" if prefix == "datasets/" else "model"
    for kind, record in RECORDS.items():
        if patiently(lambda: client().file_exists(repo_id, record, repo_type=kind)):  # noqa: B023
            return kind
    return "model" if patiently(lambda: client().repo_exists(repo_id, repo_type="model")) else "dataset"

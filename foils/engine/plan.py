"""A shard plan: which rows a stage takes, and with which settings. It is data, so any engine can finish it.

    plan = make_plan(folder, "package.module:Stage", config, ["input-00000.parquet"], [(0, 50_000), (50_000, 70_000)])
    write_plan(folder, plan)

A stage is a class with a frozen `Config`. It is made once per worker, as `Stage(config, places)`, and called with an
Arrow table of one shard; it returns an Arrow table, which depends on nothing but that table and the settings.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from foils.engine.files import put
from foils.errors import UserError
from foils.provenance import code_version, sha256_file, sha256_json
from foils.records import read_record
from foils.words import listed

PLAN = "plan.json"
PACKAGES = ("bm25s", "numba", "numpy", "pyarrow", "pystemmer", "sentence-transformers", "tokenizers", "torch")
"""Packages that shape bytes, beside transformers and those that a plan names."""


class Input(Struct, frozen=True, forbid_unknown_fields=True):
    """A Parquet file in the plan's folder."""

    file: str
    sha256: str
    rows: int


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """What is made of which rows.

    Attributes:
        stage: `module:Class`.
        config: the stage's settings.
        model: the identity of the model that they name; empty without one.
        beside: files in the plan's folder that every shard reads -> SHA-256.
        settings: SHA-256 of the four above.
        inputs: the rows, file after file.
        shards: first row of each shard, and the one behind its last.
        versions: of Foils' code and of packages that shape bytes.
        paths: name -> folder that workers need; it shapes nothing.
    """

    stage: str
    config: dict[str, Any]
    model: str
    beside: dict[str, str]
    settings: str
    inputs: tuple[Input, ...]
    shards: tuple[tuple[int, int], ...]
    versions: dict[str, str]
    paths: dict[str, str] = {}

    def pieces(self, number: int) -> list[tuple[Input, int, int]]:
        """Returns the files that a shard's rows lie in, and which of their rows."""
        first, last = self.shards[number]
        found, start = [], 0
        for each in self.inputs:
            low, high = max(first, start) - start, min(last, start + each.rows) - start
            if low < high:
                found.append((each, low, high))
            start += each.rows
        return found

    def input_of(self, number: int) -> str:
        """Returns a hash of a shard's rows."""
        return sha256_json([[each.sha256, low, high] for each, low, high in self.pieces(number)])


class Places(NamedTuple):
    """Where a stage finds what it needs: the plan's folder, and the folders that the plan names."""

    folder: Path
    paths: Mapping[str, str]


def make_plan(
    folder: Path,
    stage: str,
    config: Struct,
    inputs: Sequence[str],
    shards: Sequence[tuple[int, int]] = (),
    **more: Any,
) -> Plan:
    """Returns the plan for files in its folder.

    Args:
        folder: the plan's.
        stage: `module:Class`.
        config: the stage's.
        inputs: names of Parquet files.
        shards: ranges of rows; without them each file is a shard.
        more: `model`, `paths`, `beside` as names of files, and `packages` that shape bytes of this plan alone.
    """
    files = tuple(Input(name, sha256_file(folder / name), pq.read_metadata(folder / name).num_rows) for name in inputs)
    ends = [sum(each.rows for each in files[: number + 1]) for number in range(len(files))]
    ranges = tuple(shards) or tuple((end - each.rows, end) for each, end in zip(files, ends, strict=True))
    beside = {name: sha256_file(folder / name) for name in more.pop("beside", ())}
    values, model = msgspec.to_builtins(config), more.pop("model", "")
    versions = versions_of(stage, more.pop("packages", ()))
    settings = sha256_json([stage, values, model, beside])
    return Plan(stage, values, model, beside, settings, files, ranges, versions, **more)


def plan_of(folder: Path, stage: str, config: Struct, tables: Iterable[pa.Table], **more: Any) -> Plan:
    """Writes tables into a folder, one a shard, and returns the plan for them; other arguments as of `make_plan`."""
    names: list[str] = []
    for table in tables:
        names.append(f"input-{len(names):05}.parquet")
        pq.write_table(table, folder / names[-1])
    return make_plan(folder, stage, config, names, **more)


def read_plan(folder: Path) -> Plan:
    """Reads the plan of a folder.

    Raises:
        UserError: there is none, or it is broken.
    """
    plan = read_record(folder / PLAN, Plan, "make it again: run the command that made it, with another folder")
    if plan is None:
        below = listed([str(each.parent) for each in sorted(folder.glob(f"*/{PLAN}"))])
        wanted = f"one of {below}" if below else "the folder of a plan, such as a build makes in outputs/cache/engine"
        raise UserError(f"plan {folder}: it holds no {PLAN}; wanted {wanted}")
    return plan


def write_plan(folder: Path, plan: Plan, *, begun: bool) -> None:
    """Writes a plan, unless its folder has the same.

    Args:
        folder: made if it is missing.
        plan: to be written.
        begun: whether parts of an earlier plan are there.

    Raises:
        UserError: the folder has a plan of other rows, settings or versions with parts, or cannot be written.
    """
    if (folder / PLAN).exists():
        there = read_plan(folder)
        if begun and msgspec.structs.replace(there, versions=plan.versions, paths=plan.paths) != plan:
            raise UserError(
                f"plan {folder}: its parts were made from other rows or settings; name another folder, or delete it"
            )
        if begun:
            check_versions(there, folder)
        if there == plan:
            return
    content = msgspec.json.format(msgspec.json.encode(plan), indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        put(folder / PLAN, lambda path: path.write_bytes(content))
    except OSError as error:
        raise UserError(f"plan {folder}: cannot be written ({error.strerror}); name a writable folder") from None


def versions_of(stage: str, packages: Iterable[str] = ()) -> dict[str, str]:
    """Returns the versions that shape what a stage makes: Python's, packages', and a hash of the code."""
    code = code_version(*sorted({"foils", stage.partition(".")[0]}))["sha256"]
    found = {name: _version(name) for name in (*PACKAGES, "transformers", *packages)}
    return {**found, "Foils' code": str(code)[:12], "Python": ".".join(map(str, sys.version_info[:2]))}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def check_versions(plan: Plan, folder: Path) -> None:
    """Refuses to continue with other versions than those that a plan was made with.

    Raises:
        UserError: names the first that differs, and how many do.
    """
    here = versions_of(plan.stage, plan.versions)
    other = [name for name in sorted({*here, *plan.versions}) if here.get(name) != plan.versions.get(name)]
    if other:
        more = f" ({len(other) - 1} more differ)" if len(other) > 1 else ""
        raise UserError(
            f"plan {folder}: made with {other[0]} {plan.versions.get(other[0])}, and here it is "
            f"{here.get(other[0])}{more}; use one checkout of Foils and one constraints.txt on all machines, or delete "
            "the plan's folder to begin again"
        )


def load_stage(plan: Plan, folder: Path) -> Any:
    """Makes the stage of a plan.

    Raises:
        UserError: a file beside it is not the one that the plan was made with; what the stage itself raises.
    """
    for name, digest in plan.beside.items():
        check_file(folder / name, digest)
    module, _, name = plan.stage.partition(":")
    stage = getattr(import_module(module), name)
    return stage(msgspec.convert(plan.config, stage.Config), Places(folder, plan.paths))


def read_shard(plan: Plan, folder: Path, number: int) -> pa.Table:
    """Reads a shard's rows.

    Raises:
        UserError: a file is missing, or not the one that the plan was made with.
    """
    tables = []
    for each, low, high in plan.pieces(number):
        check_file(folder / each.file, each.sha256)
        tables.append(pq.read_table(folder / each.file).slice(low, high - low))
    return pa.concat_tables(tables).combine_chunks()


def check_file(path: Path, digest: str) -> None:
    """Refuses a file that has changed or is missing.

    Raises:
        UserError: names it.
    """
    if not path.is_file():
        raise UserError(f"{path}: missing; every worker needs the plan's folder: put it on a file system that all see")
    if sha256_file(path) != digest:
        raise UserError(f"{path}: not the file that the plan was made with; delete the plan's folder to begin again")

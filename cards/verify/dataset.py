"""A data set's links: manifest, rows, card, prompts, models, and the corpus it came from."""

import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
import pyarrow.parquet as pq
from jinja2 import TemplateError
from msgspec import Struct

from cards.dataset import dataset_info, render_card
from cards.merging import blocks, parse_card
from cards.verify.artefact import Artefact, check_files, check_version, hub_commit, read_config
from cards.verify.links import BrokenError, Link, UnverifiableError, examine
from cards.verify.references import check_references
from foils.errors import UserError
from foils.hub import COMMIT
from foils.kinds import kinds_of
from foils.manifest import Code
from foils.models import EMBEDDED_MODELS, remote_weights, resolve_model
from foils.provenance import code_version, sha256_texts
from foils.recipe import overridden
from foils.records import ModelEntry


def dataset_links(artefact: Artefact) -> Iterator[Link]:
    """All links of a data set, from its tag to its corpus."""
    yield check_version(artefact)
    yield check_files(artefact)
    for name, look in (
        ("rows and columns", _rows),
        ("recipe", _recipe),
        ("counts", _counts),
        ("references", check_references),
        ("card", _card),
        ("corpus content", _corpus_content),
        ("corpus revision", _corpus_revision),
        ("prompts", _prompts),
        ("LLM", _llm),
        ("code", _code),
    ):
        yield examine(f"data set: {name}", partial(look, artefact))
    try:
        models = artefact.manifest().models
    except (BrokenError, UserError):
        return
    for role, model in models.items():
        yield examine(f"data set: model for {role}", partial(model_at, model))


def model_at(model: ModelEntry) -> str:
    """A model that a record names, by its Hub commit, or by the weights of a package that is installed here.

    Raises:
        UnverifiableError: it is known by a local hash only.
        BrokenError: it is there with other weights.
        HfHubHTTPError: the Hub does not have it, or does not answer.
    """
    name, revision = model.name, model.revision
    if COMMIT.fullmatch(revision):
        found = hub_commit(name, "model", revision)
        if model.weights is not None and remote_weights(name, revision) != model.weights:
            raise BrokenError(f"{name}@{revision[:12]} has other weights than the record says")
        return found
    packages = [package for package, about in EMBEDDED_MODELS.items() if about[2] == name]
    if packages:
        installed = resolve_model(f"package:{packages[0]}")
        if installed.weights == revision:
            return f"package {packages[0]} holds weights {revision[7:19]}"
    raise UnverifiableError(f"{name} is known by the hash of a folder only, {revision[:19]}")


def _rows(artefact: Artefact) -> str:
    configs = artefact.manifest().configs
    for name, about in configs.items():
        files = [pq.ParquetFile(artefact.file(path)) for path in about.files]
        rows = sum(file.metadata.num_rows for file in files)
        if rows != about.rows:
            raise BrokenError(f"{name} has {rows} rows, and manifest.json says {about.rows}")
        for file in files:
            if file.schema_arrow.names != about.columns:
                raise BrokenError(f"{name} has columns {file.schema_arrow.names}, not {about.columns}")
    return f"counted again in {len(configs)} configurations"


class _Negatives(Struct):
    """The settings of negatives that configurations follow from."""

    kinds: list[str]
    variants: dict[str, str] = {}


def _recipe(artefact: Artefact) -> str:
    """The recipe says what the settings say, and every kind that they name is there."""
    manifest = artefact.manifest()
    settings = manifest.settings
    if hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest() != manifest.recipe.identity:
        raise BrokenError("the settings are not those that manifest.json names by their hash")
    try:
        stated = overridden(tomllib.loads(manifest.recipe.text), manifest.recipe.overrides)
        negatives = msgspec.convert(settings.get("negatives"), _Negatives)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BrokenError(f"recipe or settings: {error}") from None
    other = _differing({key: value for key, value in stated.items() if key != "llm"}, settings)
    if other is not None:
        raise BrokenError(f"the recipe's {other} is not that of the settings")
    kinds = manifest.training_configs()
    if set(kinds) != set(negatives.kinds):
        raise BrokenError(f"kinds {', '.join(kinds)}; the recipe's are {', '.join(negatives.kinds)}")
    mined = {kind for kind in negatives.kinds if kinds_of(kind) == [kind] and kind not in negatives.variants}
    needed = {"corpus", "queries", "default", "fates", *(f"candidates-{kind}" for kind in mined)}
    lacking = needed - manifest.configs.keys()
    if lacking:
        raise BrokenError(f"no configuration {', '.join(sorted(lacking))}")
    return f"{len(mined)} kinds with their candidates, by the settings that the recipe gives"


def _differing(stated: Mapping[str, Any], settings: Mapping[str, Any], prefix: str = "") -> str | None:
    """The first key whose value is another in the settings."""
    for key, value in stated.items():
        found = settings.get(key)
        if isinstance(value, dict) and isinstance(found, dict):
            below = _differing(value, found, f"{prefix}{key}.")
            if below is not None:
                return below
        elif found != value:
            return f"{prefix}{key}"
    return None


def _counts(artefact: Artefact) -> str:
    """What the manifest, and with it the card, counts is what the rows come to."""
    manifest = artefact.manifest()
    rows = {manifest.configs[kind].rows for kind in manifest.training_configs()}
    left = list(manifest.funnel.values())[-1:]
    if rows != set(left):
        stated = ", ".join(map(str, left)) or "no"
        raise BrokenError(f"{stated} queries are left by manifest.json, and its kinds have {sorted(rows)} rows")
    fates: dict[str, Counter[str]] = {kind: Counter() for kind in manifest.fates}
    counted = read_config(artefact, "fates").group_by(["kind", "fate"]).aggregate([("fate", "count")])
    for row in counted.to_pylist():
        if row["kind"] in fates:
            fate = "chosen" if row["fate"].startswith("negative_") else row["fate"]
            fates[row["kind"]][fate] += row["fate_count"]
    for kind, counts in manifest.fates.items():
        if fates[kind] != Counter(counts):
            raise BrokenError(f"fates of {kind} come to {dict(fates[kind])}, and manifest.json says {counts}")
    return f"{sum(left)} rows of each kind, fates counted again for {', '.join(fates)}"


class _CardConfig(Struct):
    """A configuration in a card's YAML: its name, and the paths of its files by split."""

    config_name: str
    data_files: list[dict[str, Any]]


def _card(artefact: Artefact) -> str:
    data, manifest = parse_card(artefact.card()).data, artefact.manifest()
    try:
        configs = msgspec.convert(data.get("configs", []), list[_CardConfig])
    except msgspec.ValidationError as error:
        raise BrokenError(f"its YAML: configs: {error}") from None
    listed = {
        each.config_name: sorted(path for part in each.data_files for path in part.get("path", [])) for each in configs
    }
    if listed != {name: sorted(about.files) for name, about in manifest.configs.items()}:
        raise BrokenError("its configurations are not those of manifest.json")
    record = msgspec.json.decode((artefact.folder / "manifest.json").read_bytes())  # as templates want it
    sizes = [
        dataset_info(name, about, [artefact.file(path) for path in about["files"]])
        for name, about in record["configs"].items()
    ]
    if data.get("dataset_info", sizes) != sizes:
        raise BrokenError("its dataset_info is not what the files hold")
    if manifest.license is not None and data.get("license") != manifest.license:
        raise BrokenError(f"it says licence {data.get('license')}, and manifest.json {manifest.license}")
    lists = f"lists the {len(listed)} configurations of manifest.json, licence {data.get('license')}"
    if not _is_of_this_code(manifest.code):
        return f"{lists}; its text is another code's and was not compared"
    try:
        expected = render_card(record, artefact.folder)
    except (KeyError, TypeError, AttributeError, TemplateError) as error:  # the record is anybody's
        raise BrokenError(f"no card can be made from manifest.json ({type(error).__name__}: {error})") from None
    if blocks(artefact.card()).get("data") != blocks(expected)["data"]:
        raise BrokenError("its text is not what manifest.json and the files say")
    return lists


def _corpus_content(artefact: Artefact) -> str:
    table = read_config(artefact, "corpus")
    digest = sha256_texts(row.values() for batch in table.to_batches(1000) for row in batch.to_pylist())
    stated = artefact.manifest().inputs.corpus.sha256
    if digest != stated:
        raise BrokenError(f"the passages' SHA-256 is {digest[:16]}, and manifest.json says {stated[:16]}")
    return f"{table.num_rows} passages have SHA-256 {digest[:16]}"


def _corpus_revision(artefact: Artefact) -> str:
    corpus = artefact.manifest().inputs.corpus
    if COMMIT.fullmatch(corpus.revision):
        return hub_commit(corpus.source, "dataset", corpus.revision)
    if corpus.revision == f"sha256:{corpus.sha256}":
        return f"{corpus.source}: a local source, named by its content"
    raise UnverifiableError(f"{corpus.source}, {corpus.revision}: not a source that can be asked")


def _prompts(artefact: Artefact) -> str:
    manifest = artefact.manifest()
    for name, digest in manifest.inputs.prompts.items():
        if hashlib.sha256(manifest.prompts.get(name, "").encode()).hexdigest() != digest:
            raise BrokenError(f"the text of {name} has another SHA-256 than manifest.json says")
    return f"texts of {', '.join(manifest.prompts)} have the stated SHA-256" if manifest.prompts else "none is used"


def _llm(artefact: Artefact) -> str:
    model = artefact.manifest().inputs.llm.model
    if model is None:
        return "none was asked"
    raise UnverifiableError(f"{model}: an endpoint's own word")


def _code(artefact: Artefact) -> str:
    code = artefact.manifest().code
    if _is_of_this_code(code):
        return f"this checkout's, SHA-256 {code.sha256[:16]}"
    raise UnverifiableError(f"commit {code.commit}, not this checkout's")


def _is_of_this_code(code: Code) -> bool:
    folders = (("builders", "cards", "foils"), ("builders", "cards", "foils", "training"))
    return any(code_version(*names)["sha256"] == code.sha256 for names in folders)

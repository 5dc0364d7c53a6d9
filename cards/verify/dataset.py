"""A data set's links: manifest, rows, card, prompts, models, and the corpus it came from."""

import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from cards.dataset import dataset_info, render_card, training_configs
from cards.merging import blocks, parse_card
from cards.verify.artefact import Artefact, check_files, check_version, hub_commit
from cards.verify.links import BrokenError, Link, UnverifiableError, examine
from foils.hub import COMMIT
from foils.models import EMBEDDED_MODELS, remote_weights, resolve_model
from foils.provenance import code_version, sha256_texts
from foils.recipe import overridden
from foils.texts import normalised, passage_text


def dataset_links(artefact: Artefact) -> Iterator[Link]:
    """All links of a data set, from its tag to its corpus."""
    yield check_version(artefact)
    yield check_files(artefact)
    for name, look in (
        ("rows and columns", _rows),
        ("recipe", _recipe),
        ("counts", _counts),
        ("references", _references),
        ("card", _card),
        ("corpus content", _corpus_content),
        ("corpus revision", _corpus_revision),
        ("prompts", _prompts),
        ("LLM", _llm),
        ("code", _code),
    ):
        yield examine(f"data set: {name}", lambda look=look: look(artefact))  # type: ignore[misc]
    for role, model in _models(artefact).items():
        yield examine(f"data set: model for {role}", lambda model=model: model_at(model))  # type: ignore[misc]


def read_config(artefact: Artefact, config: str) -> pa.Table:
    """The rows of a configuration, all its files."""
    files = artefact.record()["configs"][config]["files"]
    return pa.concat_tables([pq.read_table(artefact.file(path)) for path in files])


def model_at(model: Mapping[str, str]) -> str:
    """A model that a record names, by its Hub commit, or by the weights of a package that is installed here.

    Raises:
        UnverifiableError: it is known by a local hash only.
        BrokenError: it is there with other weights.
        HfHubHTTPError: the Hub does not have it, or does not answer.
    """
    name, revision = model["name"], model["revision"]
    if COMMIT.fullmatch(revision):
        found = hub_commit(name, "model", revision)
        if "weights" in model and remote_weights(name, revision) != model["weights"]:
            raise BrokenError(f"{name}@{revision[:12]} has other weights than the record says")
        return found
    packages = [package for package, about in EMBEDDED_MODELS.items() if about[2] == name]
    if packages:
        installed = resolve_model(f"package:{packages[0]}")
        if installed.weights == revision:
            return f"package {packages[0]} holds weights {revision[7:19]}"
    raise UnverifiableError(f"{name} is known by the hash of a folder only, {revision[:19]}")


def _rows(artefact: Artefact) -> str:
    configs = artefact.record()["configs"]
    for name, about in configs.items():
        files = [pq.ParquetFile(artefact.file(path)) for path in about["files"]]
        rows = sum(file.metadata.num_rows for file in files)
        if rows != about["rows"]:
            raise BrokenError(f"{name} has {rows} rows, and manifest.json says {about['rows']}")
        for file in files:
            if file.schema_arrow.names != about["columns"]:
                raise BrokenError(f"{name} has columns {file.schema_arrow.names}, not {about['columns']}")
    return f"counted again in {len(configs)} configurations"


def _recipe(artefact: Artefact) -> str:
    """The recipe says what the settings say, and every kind that they name is there."""
    manifest = artefact.record()
    recipe, settings, configs = manifest["recipe"], manifest["settings"], manifest["configs"]
    if hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest() != recipe["identity"]:
        raise BrokenError("the settings are not those that manifest.json names by their hash")
    stated = overridden(tomllib.loads(recipe["text"]), recipe["overrides"])
    other = _differing({key: value for key, value in stated.items() if key != "llm"}, settings)
    if other is not None:
        raise BrokenError(f"the recipe's {other} is not that of the settings")
    negatives = settings["negatives"]
    if set(training_configs(manifest)) != set(negatives["kinds"]):
        raise BrokenError(
            f"kinds {', '.join(training_configs(manifest))}; the recipe's are {', '.join(negatives['kinds'])}"
        )
    mined = {
        kind for kind in negatives["kinds"] if kind != "none" and "+" not in kind and kind not in negatives["variants"]
    }
    lacking = {"corpus", "queries", "default", "fates", *(f"candidates-{kind}" for kind in mined)} - configs.keys()
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
    manifest = artefact.record()
    rows = {manifest["configs"][kind]["rows"] for kind in training_configs(manifest)}
    *_, left = manifest["funnel"].values()
    if rows != {left}:
        raise BrokenError(f"{left} queries are left by manifest.json, and its kinds have {sorted(rows)} rows")
    counted = read_config(artefact, "fates").group_by(["kind", "fate"]).aggregate([("fate", "count")]).to_pylist()
    fates: dict[str, Counter[str]] = {kind: Counter() for kind in manifest["fates"]}
    for row in counted:
        if row["kind"] in fates:
            fate = "chosen" if row["fate"].startswith("negative_") else row["fate"]
            fates[row["kind"]][fate] += row["fate_count"]
    for kind, stated in manifest["fates"].items():
        if fates[kind] != Counter(stated):
            raise BrokenError(f"fates of {kind} come to {dict(fates[kind])}, and manifest.json says {stated}")
    return f"{left} rows of each kind, fates counted again for {', '.join(fates)}"


def _references(artefact: Artefact) -> str:
    """Judgements and fates name queries and passages that are there; training rows hold their texts and no others."""
    texts, said, bare = _texts(artefact)
    queries = {row["_id"]: row["text"] for row in read_config(artefact, "queries").to_pylist()}
    positives: dict[str, list[str]] = {}
    for judged in read_config(artefact, "default").to_pylist():
        if judged["query-id"] not in queries or judged["corpus-id"] not in texts:
            raise BrokenError(f"judgement of {judged['query-id']!r} and {judged['corpus-id']!r}: not both are there")
        positives.setdefault(judged["query-id"], []).append(judged["corpus-id"])
    kinds = training_configs(artefact.record())
    for kind, kept in _chosen(artefact, kinds).items():
        expected = [
            {
                "query": text,
                "positive": texts[positives[query_id][0]],
                **{column: texts[passage_id] for column, passage_id in kept[query_id].items()},
            }
            for query_id, text in queries.items()
            if query_id in kept
        ]
        rows = read_config(artefact, kind).to_pylist()
        for row in rows:
            if any(normalised(row[column]) == normalised(row["positive"]) for column in row if column[:3] == "neg"):
                raise BrokenError(f"{kind}: a negative of {row['query']!r} is its positive")
        if rows != expected:
            raise BrokenError(f"{kind}: its rows are not those that judgements and fates name, row by row")
        for query_id, columns in kept.items():
            known, chosen = positives[query_id], columns.values()
            own = {said[passage] for passage in known}
            if own & {form[passage] for form in (said, bare) for passage in chosen} or any(
                said[passage] == bare[other] for passage in chosen for other in known
            ):
                raise BrokenError(f"{kind}: a negative of {queries[query_id]!r} has the text of one of its positives")
    judged_pairs = sum(map(len, positives.values()))
    return f"{judged_pairs} judgements; {len(kinds)} kinds share queries and positives; no negative is a positive"


def _chosen(artefact: Artefact, kinds: list[str]) -> dict[str, dict[str, dict[str, str]]]:
    """Kind -> query id -> column -> passage id; no columns for a kind without negatives."""
    chosen: dict[str, dict[str, dict[str, str]]] = {}
    for fate in read_config(artefact, "fates").to_pylist():
        if fate["fate"].startswith("negative_"):
            chosen.setdefault(fate["kind"], {}).setdefault(fate["query-id"], {})[fate["fate"]] = fate["corpus-id"]
    kept = next(iter(chosen.values()), {})
    return {kind: chosen.get(kind) or {query_id: {} for query_id in kept} for kind in kinds}


def _texts(artefact: Artefact) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Passages by id, those of the corpus and generated ones: as models read them, so normalised, and without titles.

    What is written has no title, so that without it a negative may be its positive's text.
    """
    rows = [(row["_id"], row["title"], row["text"]) for row in read_config(artefact, "corpus").to_pylist()]
    if "generated" in artefact.record()["configs"]:
        rows += [(row["_id"], "", row["text"]) for row in read_config(artefact, "generated").to_pylist()]
    texts = {passage_id: passage_text(title, text) for passage_id, title, text in rows}
    said = {passage_id: normalised(text) for passage_id, text in texts.items()}
    return texts, said, {passage_id: normalised(text) for passage_id, _, text in rows}


def _card(artefact: Artefact) -> str:
    data, manifest = parse_card(artefact.card()).data, artefact.record()
    told = {
        config["config_name"]: sorted(path for file in config["data_files"] for path in file["path"])
        for config in data.get("configs", [])
    }
    if told != {name: sorted(about["files"]) for name, about in manifest["configs"].items()}:
        raise BrokenError("its configurations are not those of manifest.json")
    sizes = [
        dataset_info(name, about, [artefact.file(path) for path in about["files"]])
        for name, about in manifest["configs"].items()
    ]
    if data.get("dataset_info", sizes) != sizes:
        raise BrokenError("its dataset_info is not what the files hold")
    if manifest["license"] is not None and data.get("license") != manifest["license"]:
        raise BrokenError(f"it says licence {data.get('license')}, and manifest.json {manifest['license']}")
    lists = f"lists the {len(told)} configurations of manifest.json, licence {data.get('license')}"
    if not _is_of_this_code(manifest):
        return f"{lists}; its text is another code's and was not compared"
    written, expected = (
        blocks(parse_card(card).text) for card in (artefact.card(), render_card(manifest, artefact.folder))
    )
    if written.get("data") != expected["data"]:
        raise BrokenError("its text is not what manifest.json and the files say")
    return lists


def _corpus_content(artefact: Artefact) -> str:
    table = read_config(artefact, "corpus")
    digest = sha256_texts(row.values() for batch in table.to_batches(1000) for row in batch.to_pylist())
    stated = artefact.record()["inputs"]["corpus"]["sha256"]
    if digest != stated:
        raise BrokenError(f"the passages' SHA-256 is {digest[:16]}, and manifest.json says {stated[:16]}")
    return f"{table.num_rows} passages have SHA-256 {digest[:16]}"


def _corpus_revision(artefact: Artefact) -> str:
    corpus = artefact.record()["inputs"]["corpus"]
    if COMMIT.fullmatch(corpus["revision"]):
        return hub_commit(corpus["source"], "dataset", corpus["revision"])
    if corpus["revision"] == f"sha256:{corpus['sha256']}":
        return f"{corpus['source']}: a local source, named by its content"
    raise UnverifiableError(f"{corpus['source']}, {corpus['revision']}: not a source that can be asked")


def _prompts(artefact: Artefact) -> str:
    manifest = artefact.record()
    for name, digest in manifest["inputs"]["prompts"].items():
        if hashlib.sha256(manifest["prompts"][name].encode()).hexdigest() != digest:
            raise BrokenError(f"the text of {name} has another SHA-256 than manifest.json says")
    return (
        f"texts of {', '.join(manifest['prompts'])} have the stated SHA-256" if manifest["prompts"] else "none is used"
    )


def _llm(artefact: Artefact) -> str:
    llm = artefact.record()["inputs"]["llm"]
    if llm["model"] is None:
        return "none was asked"
    raise UnverifiableError(f"{llm['model']}: an endpoint's own word")


def _code(artefact: Artefact) -> str:
    stated = artefact.record()["code"]
    if _is_of_this_code(artefact.record()):
        return f"this checkout's, SHA-256 {stated['sha256'][:16]}"
    raise UnverifiableError(f"commit {stated['commit']}, not this checkout's")


def _is_of_this_code(manifest: Mapping[str, Any]) -> bool:
    folders = (("builders", "cards", "foils"), ("builders", "cards", "foils", "training"))
    return any(code_version(*names)["sha256"] == manifest["code"]["sha256"] for names in folders)


def _models(artefact: Artefact) -> dict[str, dict[str, str]]:
    try:
        models: dict[str, dict[str, str]] = artefact.record()["models"]
    except (BrokenError, KeyError, ValueError):
        return {}
    return models

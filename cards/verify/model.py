"""A model's links: run record, weights, card, base, data set, and its figures."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from cards.merging import blocks, parse_card
from cards.model import trained_on
from cards.verify.artefact import Artefact, check_files, check_version, fetch, hub_commit
from cards.verify.dataset import dataset_links, model_at
from cards.verify.evaluation import evaluation_links
from cards.verify.links import BrokenError, Link, UnverifiableError, examine
from foils.hub import COMMIT, client, patiently
from foils.kinds import kinds_of
from foils.models import weights_hash


def model_links(artefact: Artefact) -> Iterator[Link]:
    """All links of a model, from its figures to the corpus of its data set."""
    yield check_version(artefact)
    yield check_files(artefact)
    weights = examine("model: weights", partial(_weights, artefact))
    yield weights
    yield examine("model: card", partial(_card, artefact))
    yield examine("model: base", lambda: model_at(artefact.record()["base"]))
    if weights.status == "verified":
        yield from evaluation_links(artefact, artefact.record()["model"]["revision"])
    tag = examine("model: data set", partial(_dataset_tag, artefact))
    yield tag
    yield examine("model: further data", partial(_further, artefact))
    if tag.status != "verified":
        return
    dataset = artefact.record()["dataset"]
    fetched: list[Artefact] = []

    def look() -> str:
        fetched.append(fetch(dataset["name"], "dataset", dataset["revision"]))
        configs = fetched[0].record()["configs"]
        for kind in kinds_of(dataset["kind"], configs):
            rows = configs[kind]["rows"]
            if rows != dataset["rows"]:
                raise BrokenError(f"{kind} has {rows} rows there, and the run record says {dataset['rows']}")
        return f"configuration {dataset['kind']} with {dataset['rows']} rows"

    yield examine("model: training rows", look)
    if fetched:
        yield from dataset_links(fetched[0])


def _weights(artefact: Artefact) -> str:
    stated = artefact.record()["model"]["revision"]
    found = f"sha256:{weights_hash(artefact.folder)}"
    if found != stated:
        raise BrokenError(f"the weights are {found[:19]}, and run.json says {stated[:19]}")
    return f"SHA-256 {stated[7:19]} computed again"


def _card(artefact: Artefact) -> str:
    record, card = artefact.record(), artefact.card()
    data, told = parse_card(card).data, blocks(card).get("training", "")
    for what, value in (
        ("the weights", record["model"]["revision"]),
        ("the base's revision", record["base"]["revision"]),
        *((f"the revision of {each['name']}", each["revision"]) for each in trained_on(record)),
    ):
        if value not in told:
            raise BrokenError(f"README.md does not name {what}, {value[:19]}, of run.json")
    dev = record["training"].get("dev")
    for what in ("base", "best", "last") if dev else ():
        if dev[what] and f"| {dev[what]['step']} | {dev[what]['value']:.4f}" not in told:
            raise BrokenError(f"README.md does not tell the {what} dev score, {dev[what]['value']:.4f}, of run.json")
    names = [data.get("base_model"), *(data.get("datasets") or [])]
    for what, each in (("base", record["base"]), *(("dataset", data) for data in trained_on(record))):
        if "/" in each["name"] and each["name"] not in names:
            raise BrokenError(f"README.md's YAML does not name {each['name']}, the {what} of run.json")
    return "names weights, base and data set of run.json"


def _dataset_tag(artefact: Artefact) -> str:
    """The tag that was trained on still points at the commit that was."""
    return _at_its_tag(artefact.record()["dataset"])


def _further(artefact: Artefact) -> str:
    """As `_dataset_tag` for all data that was trained on beside it."""
    found, unverifiable = [], []
    for each in artefact.record()["dataset"].get("also", []):
        try:
            found.append(_at_its_tag(each))
        except UnverifiableError as error:
            unverifiable.append(str(error))
    if unverifiable:
        raise UnverifiableError("; ".join([*unverifiable, *found]))
    return "; ".join(found) or "none was used"


def _at_its_tag(dataset: Mapping[str, Any]) -> str:
    name, tag, commit = dataset["name"], dataset.get("tag"), dataset["revision"]
    if not COMMIT.fullmatch(commit):
        raise UnverifiableError(f"{name} was a folder, {'manifest' if 'kind' in dataset else 'files'} {commit[:19]}")
    if tag is None or tag == commit:
        return hub_commit(name, "dataset", commit)
    refs = patiently(lambda: client().list_repo_refs(name, repo_type="dataset"))
    targets = {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)}
    if tag not in targets:
        raise BrokenError(f"{name} has no tag {tag} any more")
    if targets[tag] != commit:
        raise BrokenError(f"{name}@{tag} was {commit[:12]} when it was trained on and is {targets[tag][:12]} now")
    return f"{name}@{tag} is still commit {commit}"

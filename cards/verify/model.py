"""A model's links: run record, weights, card, base, data set, and its figures."""

from collections.abc import Iterator
from functools import partial

from cards.merging import blocks, parse_card
from cards.verify.artefact import Artefact, check_files, check_version, fetch, hub_commit
from cards.verify.dataset import dataset_links, model_at
from cards.verify.evaluation import evaluation_links
from cards.verify.links import BrokenError, Link, UnverifiableError, examine, require
from foils.errors import UserError
from foils.hub import COMMIT, client, patiently
from foils.kinds import kinds_of
from foils.models import weights_hash
from foils.records import Source


def model_links(artefact: Artefact) -> Iterator[Link]:
    """All links of a model, from its figures to the corpus of its data set."""
    yield check_version(artefact)
    yield check_files(artefact)
    try:
        run = artefact.run()
    except (BrokenError, UserError):  # the link of the files says so
        return
    weights = examine("model: weights", partial(_weights, artefact))
    yield weights
    yield examine("model: card", partial(_card, artefact))
    yield examine("model: base", partial(model_at, run.base))
    if weights.status == "verified":
        yield from evaluation_links(artefact, run.weights())
    dataset = run.dataset
    tag = examine("model: data set", partial(_at_its_tag, dataset))
    yield tag
    for each in dataset.also:
        yield examine(f"model: further data {each.name}", partial(_at_its_tag, each))
    if tag.status != "verified":
        return
    fetched: list[Artefact] = []

    def look() -> str:
        fetched.append(fetch(dataset.name, "dataset", dataset.revision))
        configs = fetched[0].manifest().configs
        for kind in kinds_of(dataset.kind or "", configs):
            require(kind in configs, f"it has no configuration {kind}")
            rows = configs[kind].rows
            require(rows == dataset.rows, f"{kind} has {rows} rows there, and the run record says {dataset.rows}")
        return f"configuration {dataset.kind} with {dataset.rows} rows"

    yield examine("model: training rows", look)
    if fetched:
        yield from dataset_links(fetched[0])


def _weights(artefact: Artefact) -> str:
    stated, found = artefact.run().weights(), f"sha256:{weights_hash(artefact.folder)}"
    require(found == stated, f"the weights are {found[:19]}, and run.json says {stated[:19]}")
    return f"SHA-256 {stated[7:19]} computed again"


def _card(artefact: Artefact) -> str:
    record, card = artefact.run(), artefact.card()
    data, training = parse_card(card).data, blocks(card).get("training", "")
    named = [("the weights", record.weights()), ("the base's revision", record.base.revision)]
    named += [(f"the revision of {each.name}", each.revision) for each in record.dataset.all()]
    for what, value in named:
        require(value in training, f"README.md does not name {what}, {value[:19]}, of run.json")
    for what, score in (record.training.dev or {}).items():
        if isinstance(score, dict):
            value = f"{score.get('value', 0):.4f}"
            shown = f"| {score.get('step')} | {value}" in training
            require(shown, f"README.md does not show the {what} dev score, {value}, of run.json")
    names = [data.get("base_model"), *(data.get("datasets") or [])]
    for name in (record.base.name, *(each.name for each in record.dataset.all())):
        require("/" not in name or name in names, f"README.md's YAML does not name {name} of run.json")
    return "names weights, base and data set of run.json"


def _at_its_tag(dataset: Source) -> str:
    """The tag that was trained on still points at the commit that was."""
    name, tag, commit = dataset.name, dataset.tag, dataset.revision
    if not COMMIT.fullmatch(commit):
        raise UnverifiableError(f"{name} was a folder, {'files' if dataset.kind is None else 'manifest'} {commit[:19]}")
    if tag is None or tag == commit:
        return hub_commit(name, "dataset", commit)
    refs = patiently(lambda: client().list_repo_refs(name, repo_type="dataset"))
    now = {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)}.get(tag, "")
    require(now, f"{name} has no tag {tag} any more")
    require(now == commit, f"{name}@{tag} was {commit[:12]} when it was trained on and is {now[:12]} now")
    return f"{name}@{tag} is still commit {commit}"

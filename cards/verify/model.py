"""A model's links: run record, weights, card, base, data set, and its figures."""

from collections.abc import Iterator
from functools import partial

from cards.merging import blocks, parse_card
from cards.verify.artefact import Artefact, check_files, check_version, fetch, hub_commit
from cards.verify.dataset import dataset_links, model_at
from cards.verify.evaluation import evaluation_links
from cards.verify.links import BrokenError, Link, UnverifiableError, examine
from foils.hub import COMMIT, client, patiently
from foils.kinds import kinds_of
from foils.models import weights_hash
from foils.records import Source


def model_links(artefact: Artefact) -> Iterator[Link]:
    """All links of a model, from its figures to the corpus of its data set."""
    yield check_version(artefact)
    yield check_files(artefact)
    weights = examine("model: weights", partial(_weights, artefact))
    yield weights
    yield examine("model: card", partial(_card, artefact))
    yield examine("model: base", lambda: model_at(artefact.run().base))
    if weights.status == "verified":
        yield from evaluation_links(artefact, artefact.run().weights())
    tag = examine("model: data set", partial(_dataset_tag, artefact))
    yield tag
    yield examine("model: further data", partial(_further, artefact))
    if tag.status != "verified":
        return
    dataset = artefact.run().dataset
    fetched: list[Artefact] = []

    def look() -> str:
        fetched.append(fetch(dataset.name, "dataset", dataset.revision))
        configs = fetched[0].manifest().configs
        for kind in kinds_of(dataset.kind or "", configs):
            if kind not in configs:
                raise BrokenError(f"it has no configuration {kind}")
            if configs[kind].rows != dataset.rows:
                raise BrokenError(f"{kind} has {configs[kind].rows} rows there, and the run record says {dataset.rows}")
        return f"configuration {dataset.kind} with {dataset.rows} rows"

    yield examine("model: training rows", look)
    if fetched:
        yield from dataset_links(fetched[0])


def _weights(artefact: Artefact) -> str:
    stated = artefact.run().weights()
    found = f"sha256:{weights_hash(artefact.folder)}"
    if found != stated:
        raise BrokenError(f"the weights are {found[:19]}, and run.json says {stated[:19]}")
    return f"SHA-256 {stated[7:19]} computed again"


def _card(artefact: Artefact) -> str:
    record, card = artefact.run(), artefact.card()
    data, training = parse_card(card).data, blocks(card).get("training", "")
    sources = record.dataset.all()
    revisions = {"the weights": record.weights(), "the base's revision": record.base.revision}
    for each in sources:
        revisions.setdefault(f"the revision of {each.name}", each.revision)
    for what, value in revisions.items():
        if value not in training:
            raise BrokenError(f"README.md does not name {what}, {value[:19]}, of run.json")
    for what, score in (record.training.dev or {}).items():
        if isinstance(score, dict) and f"| {score.get('step')} | {score.get('value', 0):.4f}" not in training:
            raise BrokenError(f"README.md does not show the {what} dev score, {score.get('value', 0):.4f}, of run.json")
    names = [data.get("base_model"), *(data.get("datasets") or [])]
    for what, name in (("base", record.base.name), *(("dataset", each.name) for each in sources)):
        if "/" in name and name not in names:
            raise BrokenError(f"README.md's YAML does not name {name}, the {what} of run.json")
    return "names weights, base and data set of run.json"


def _dataset_tag(artefact: Artefact) -> str:
    """The tag that was trained on still points at the commit that was."""
    return _at_its_tag(artefact.run().dataset)


def _further(artefact: Artefact) -> str:
    """As `_dataset_tag` for all data that was trained on beside it."""
    found, unverifiable = [], []
    for each in artefact.run().dataset.also:
        try:
            found.append(_at_its_tag(each))
        except UnverifiableError as error:
            unverifiable.append(str(error))
    if unverifiable:
        raise UnverifiableError("; ".join([*unverifiable, *found]))
    return "; ".join(found) or "none was used"


def _at_its_tag(dataset: Source) -> str:
    name, tag, commit = dataset.name, dataset.tag, dataset.revision
    if not COMMIT.fullmatch(commit):
        raise UnverifiableError(f"{name} was a folder, {'files' if dataset.kind is None else 'manifest'} {commit[:19]}")
    if tag is None or tag == commit:
        return hub_commit(name, "dataset", commit)
    refs = patiently(lambda: client().list_repo_refs(name, repo_type="dataset"))
    targets = {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)}
    if tag not in targets:
        raise BrokenError(f"{name} has no tag {tag} any more")
    if targets[tag] != commit:
        raise BrokenError(f"{name}@{tag} was {commit[:12]} when it was trained on and is {targets[tag][:12]} now")
    return f"{name}@{tag} is still commit {commit}"

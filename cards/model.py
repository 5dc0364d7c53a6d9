"""The model's card: written after training from the run record; scores come in later, see `cards.scores`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from cards.comparison import without_block
from cards.merging import Card, block, blocks, parse_card
from cards.publish.release import merge_with_history
from cards.publish.versions import Version
from cards.scores import BLOCK, NOT_EVALUATED, without_scores
from cards.templates import environment

USE = "use"


def write_model_card(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes a model folder's README from its run record.

    Args:
        folder: the model.
        record: as `training/train.py` writes it.
    """
    (folder / "README.md").write_text(model_card(record, None, None), "utf-8")


def model_card(record: Mapping[str, Any], repo_id: str | None, version: Version | None) -> str:
    """A model's card without scores; `repo_id` and `version` where it is published."""
    shown = {"figure": None, "alt": "", "dev": None, **record["training"]}  # runs of earlier versions have none
    curves = _render("model_curves.md", training=shown).strip()
    text = environment.get_template("model.md").render(
        record=record,
        use=block(USE, _render("model_use.md", record=record, repo=repo_id, version=version and str(version))),
        training=block("training", _render("model_training.md", record=record, curves=curves)),
        scores=NOT_EVALUATED,
        changelog=block("changelog", "Not published yet."),
    )
    data = [record["dataset"], *record["dataset"].get("also", [])]
    about = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity" if record["task"] == "retriever" else "text-ranking",
        license=record.get("license"),
        language=record.get("language"),
        base_model=_hub_id(record["base"]["name"]),
        datasets=[name for name in dict.fromkeys(each["name"] for each in data) if _hub_id(name)] or None,
        tags=["sentence-transformers", "foils", "hard-negatives"],
    )
    return Card(yaml.safe_load(about.to_yaml()), text).render()


def merge_model_cards(new: str, existing: str, weights: str) -> str:
    """A freshly generated card of `weights` in place of an earlier one; scores and comparison stay if of the same."""
    known = blocks(existing)
    of_same_weights = weights in known.get("training", "")
    if not of_same_weights and existing:
        card = parse_card(existing)
        existing = without_block(card._replace(data=without_scores(card.data, weights)).render())
    return merge_with_history(new, existing, keep=(BLOCK,) if of_same_weights else ())


def _render(template: str, **values: Any) -> str:
    return environment.get_template(template).render(**values)


def _hub_id(name: str) -> str | None:
    """A name that the Hub can link to; None for a folder's."""
    return name if "/" in name else None

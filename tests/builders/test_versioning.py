"""What the changelog names when one build follows another."""

import copy
import json

import pytest

from builders.dataset.versioning import compare


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("queries", {"source": "mine", "split": "train", "files": {"queries.jsonl": "0"}}, "other labelled queries"),
        ("models", {"dense": {"name": "m", "revision": "sha256:0"}}, "other models"),
        ("leakage", {"SciFact": "sha256:0"}, "other evaluation sets"),
    ],
)
def test_what_went_into_a_build_is_named_where_it_is_another(build_animals, key, value, told):
    manifest = json.loads((build_animals("first") / "manifest.json").read_text())
    again = copy.deepcopy(manifest)
    assert compare(manifest, again) is None
    again["inputs"][key] = value
    change = compare(manifest, again)
    assert change.level == "patch"  # no row is another
    assert told in change.reasons

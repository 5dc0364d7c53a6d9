"""What a revision points at without a network: what was last seen of it."""

from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from foils.errors import UserError
from foils.hub import UnreachableError, pin

pytestmark = pytest.mark.hub


def test_branches_and_tags_offline(hub, monkeypatch):
    hub.create_repo("model", "bob/pinned")
    first = hub.commit("model", "bob/pinned", {"a.txt": b"1"})
    hub.tag("model", "bob/pinned", "v1.0.0", first)
    assert pin("bob/pinned", "main", "model") == pin("bob/pinned", "v1.0.0", "model") == first
    second = hub.commit("model", "bob/pinned", {"a.txt": b"2"})
    assert pin("bob/pinned", "main", "model") == second  # a branch may move
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert (pin("bob/pinned", "main", "model"), pin("bob/pinned", "v1.0.0", "model")) == (second, first)
    with pytest.raises(UnreachableError, match="HF_HUB_OFFLINE is set, so the Hub is not asked"):
        pin("bob/never-seen", "main", "model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.move_tag("model", "bob/pinned", "v1.0.0", second)
    with pytest.raises(UserError, match="the tag has moved"):
        pin("bob/pinned", "v1.0.0", "model")


def test_what_the_hubs_own_client_has_cached(monkeypatch):
    folder = repo_folder_name(repo_id="bob/elsewhere", repo_type="model")
    ref = Path(constants.HF_HUB_CACHE) / folder / "refs" / "main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text("c" * 40)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pin("bob/elsewhere", "main", "model") == "c" * 40

"""The report's parts that come from elsewhere."""

import base64
import json

from eval.pictures import hardness_of


def test_the_picture_of_hardness_is_in_the_report_if_there_is_one(tmp_path):
    assert hardness_of(tmp_path) is None
    told = {"figure": "figures/hardness.png", "alt": "bm25 is hard", "scorer": "cross-encoder"}
    (tmp_path / "manifest.json").write_text(json.dumps({"audit": {"realism": {"hardness": told}}}))
    assert hardness_of(tmp_path) is None  # named, and not there
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "hardness.png").write_bytes(b"picture")
    found = hardness_of(tmp_path)
    assert base64.b64decode(found["source"].removeprefix("data:image/png;base64,")) == b"picture"
    assert (found["alt"], found["scorer"]) == ("bm25 is hard", "cross-encoder")
    (tmp_path / "manifest.json").write_text(json.dumps({"audit": {"realism": {"hardness": {"why_not": "no scores"}}}}))
    assert hardness_of(tmp_path) is None

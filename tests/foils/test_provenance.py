"""Hashes that stay what published records say."""

import json

from hypothesis import given
from hypothesis import strategies as st

from foils.provenance import row_bytes

CONTROLS = st.sampled_from(["\x00\x1f\x7f", '"\\/\b\f\n\r\t'])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | CONTROLS))
def test_a_row_is_hashed_as_json_with_spaces_between(row):
    assert row_bytes(row) == json.dumps(row, ensure_ascii=False).encode()

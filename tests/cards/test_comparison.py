"""A comparison's block in a card: rendered, replaced, carried, taken out."""

from cards.comparison import carried, with_comparison, without_block
from cards.merging import block, blocks, parse_card
from cards.publish.files import write_files
from tests.fixtures.comparison import CONTENT, VALUES

CARD = "---\nlicense: mit\n---\n\n# Owls\n\nAsk Ann.\n"


def test_a_card_tells_it_once_and_keeps_what_people_wrote():
    files = CONTENT.files(CARD, this="arm `llm`, seed 1,")
    card = files["README.md"].decode()
    assert {path: files[path] for path in files if path != "README.md"} == {
        "comparison/forest.png": CONTENT.figure,
        "comparison/comparison.json": CONTENT.numbers,
    }
    for words in (
        "# Owls\n\nAsk Ann.",
        "This model is arm `llm`, seed 1, of the comparison below.",
        "**Three arms were trained.**\n\nOne was better.",
        "| untouched base | 0.5000 |  |  |  |",
        "| llm | 0.6250 | +0.1250 | +0.1 to +0.15 | better |",
        "beside the base |",
        "![a forest](comparison/forest.png)",
        "Data: `alice/owls` at v1.0.0.",
    ):
        assert card.count(words) == 1, words
    assert parse_card(card).data == {"license": "mit"}
    again = CONTENT._replace(values=VALUES | {"name": "bats"}).files(card)["README.md"].decode()
    assert "Comparison: bats" in again
    assert "owls\n" not in again.partition("Comparison:")[2]
    assert again.count("foils:comparison begin") == 1
    assert without_block(again).split() == CARD.split()


def test_a_new_card_carries_on_what_the_folders_card_tells(tmp_path):
    assert carried("# New\n", tmp_path) == "# New\n"
    write_files(tmp_path, CONTENT.files(CARD))
    card = carried("# New\n", tmp_path)
    assert "# New\n\n<!-- foils:comparison begin -->" in card
    assert blocks(card) == blocks((tmp_path / "README.md").read_text())
    (tmp_path / "comparison" / "forest.png").unlink()  # it would show what is not there
    assert carried("# New\n", tmp_path) == "# New\n"
    assert with_comparison(card, block("comparison", "x")).count("comparison") == 2

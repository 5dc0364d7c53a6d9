"""When two texts are the same: one rule for all stages, since what one calls a positive another must know again."""


def normalised(text: str) -> str:
    """What two texts share when a reader would call them the same: case and white space are folded.

    >>> normalised("  A  Passage ") == normalised("a passage")
    True
    """
    return " ".join(text.casefold().split())

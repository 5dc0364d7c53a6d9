"""What the training data is compared with, how, and what happens to what is found."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class LeakageConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The leakage guard's settings.

    Leaked queries and leaked passages are two matters. A query that stands in an evaluation set shows the model the
    exam itself: `policy` decides. A passage that stands there is mostly the sign of a corpus in common, such as SciFact
    abstracts as the corpus: training on it is training in the domain, legitimate as long as it is said, and dropping
    what is relevant in the test would even point at it, since the model would see all other passages and never those.
    So passages are reported and the evaluation set counts as one that the model is not zero-shot on, and nothing more,
    unless `passages` says `drop`.

    Attributes:
        against: evaluation sets, each the name of an MTEB retrieval task (`SciFact`), a BEIR folder with all its
            judgements (`../collections/scifact`) or one split of them (`../collections/scifact:test`). A folder can
            stand in for a task: `SciFact=../collections/scifact:test`.
        policy: `refuse` ends the build, `drop` leaves leaked rows out, `allow` only reports.
        passages: `report`: a leaked passage is counted and stays; `drop`: `policy` holds for passages too: queries
            whose positive leaked are treated as leaked, and leaked passages serve as no query's negative.
        ngram: words in a run; 8 as in PaLM's check (arXiv 2204.02311, section 8) and at the lower end of GPT-3's 8 to
            13 (arXiv 2005.14165, appendix C); shorter texts can only be equal.
        ngram_share: share of the evaluation text's runs that the training text has; between passages also the share of
            the training text's runs that lie in the evaluation text, so that a part of it is found. PaLM asks for 0.7.
            Of an evaluation text of fewer than 30 words, 0.7 of this share is enough: one changed word breaks up to
            eight of its runs.
    """

    against: tuple[str, ...] = ()
    policy: Literal["refuse", "drop", "allow"] = "drop"
    passages: Literal["report", "drop"] = "report"
    ngram: Annotated[int, Meta(ge=2, le=50)] = 8
    ngram_share: Annotated[float, Meta(gt=0, le=1)] = 0.5

"""The exam: passages, queries and judgements of the corpus that no training row may hold."""

STAGE = "exam"

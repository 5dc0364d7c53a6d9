"""BM25 over Arrow text: bm25s's rule for words and its scores, at a multiple of its speed.

tokens.py   texts -> ids of words, by Arrow's kernels; bigrams.py for scripts without spaces
index.py    ids of words -> an index on disk, in bm25s's own form
search.py   texts -> the best passages of each
kernels.py  the compiled loops of both
"""

"""BM25 over Arrow text: bm25s's splitting rule and scores, by compiled loops, for corpora of a million passages.

tokens.py   texts -> ids of words (`token_kernels.py`)
index.py    ids of words -> an index on disk, in bm25s's own form (`index_kernels.py`)
search.py   texts -> the best passages of each (`search_kernels.py`)
"""

"""Tools that find passages: BM25, embeddings and the search for the nearest, and a store of rows by content."""

"""The losses, and how they compare embeddings."""

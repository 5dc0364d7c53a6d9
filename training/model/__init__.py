"""The model that is trained: the base as the recipe wants it, and adapters on it."""

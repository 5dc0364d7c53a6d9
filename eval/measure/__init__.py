"""Measures models on retrieval tasks and keeps the results."""

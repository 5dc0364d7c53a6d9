"""Builds data sets: passages, queries, negatives, selection, publication."""

"""Measures models, and compares kinds of negatives."""

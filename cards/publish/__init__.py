"""Publishes data sets, models and comparisons: versioned, resumable, read back."""

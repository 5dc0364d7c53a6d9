"""Trains models on a data set at a revision."""

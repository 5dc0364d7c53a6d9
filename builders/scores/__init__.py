"""Scorers: each says how relevant a passage is to a query, whichever kind of negatives it belongs to."""

"""Scorers: each says how relevant a passage is to a query, whatever kind of negatives it belongs to."""

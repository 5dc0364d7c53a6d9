"""Audit: how many of the chosen negatives answer their query after all, by a judge, by judgements, by a person."""

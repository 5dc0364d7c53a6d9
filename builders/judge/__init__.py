"""Judgements of what compared systems found for an exam's queries."""

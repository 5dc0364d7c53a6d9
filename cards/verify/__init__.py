"""Follows a published figure back to the bytes it rests on, and computes again what can be."""

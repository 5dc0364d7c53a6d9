"""Encodes texts in several runtimes and measures how far each is from fp32."""

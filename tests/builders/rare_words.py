"""Texts to search in."""

import random


def made(size, seed, longest=60):
    """Texts of words that are rare or frequent, with letters beyond ASCII among them, and some empty texts."""
    dice = random.Random(seed)
    words = [f"w{n}é" if n % 7 == 0 else f"Word{n}" for n in range(400)]
    weights = [1 / (n + 1) for n in range(400)]
    texts = [" ".join(dice.choices(words, weights, k=dice.randint(0, longest))) for _ in range(size)]
    return [f"p{n}" for n in dice.sample(range(size), size)], texts

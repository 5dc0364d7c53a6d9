"""The training itself: arguments, trainers, checkpoints, guards, held-out queries, curves."""

"""Pre-flight: what a training will really do, found out before its first step, and a refusal of what wastes a night."""

"""Says what paired scores allow to say: differences, intervals, tests, verdicts."""

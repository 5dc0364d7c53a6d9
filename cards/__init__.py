"""What all stages write down: recipes, provenance, cards."""

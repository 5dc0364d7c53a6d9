"""What all stages stand on: errors, recipes, records, texts, models and the Hub."""

"""A cross-encoder at full speed: batches across queries, several lanes and processes, scores kept as they come."""

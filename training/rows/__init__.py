"""The rows that are trained on: data sets, their kinds and shares, streams, held-out queries, a teacher's scores."""

"""How well does a checkpoint answer a benchmark: one file per benchmark, scores, and a test of contamination."""

"""How does a browser look at a root? `winnow ui`: its runs, their rows, comparisons, clusters and scores, read-only."""

"""What happened, and why? A row's fate, differences, checks, reports, clusters of duplicates, similar rows."""

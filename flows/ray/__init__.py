"""How does the work run on a Ray cluster? Shards as Ray tasks, training under Ray Train."""

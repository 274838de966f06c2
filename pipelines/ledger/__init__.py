"""How is a step done once, and how is it known to be done? Storage, steps, manifests, runs, engines."""

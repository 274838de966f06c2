"""Which flows can Prefect schedule? One file each; what they share is in `execute` and `tracker`."""

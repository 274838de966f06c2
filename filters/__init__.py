"""Is this record good enough to train on, and how can it be made better?"""

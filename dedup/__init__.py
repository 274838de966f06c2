"""When are two texts the same? Arrays in, arrays out: no files, no processes, nothing of the other rooms.

Read in this order: `shingles` (text -> tokens -> n-gram hashes), `exact` (128-bit digests), `minhash` (signatures and
band keys), `order` (sorting hashes), `probability` (what banding finds), `similarity` (exact Jaccard), `clusters` (who
goes and who stays).
"""

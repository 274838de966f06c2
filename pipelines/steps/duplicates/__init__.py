"""Which records duplicate another one? Two steps, exact and near, that drop all but one row of each kind.

A row is identified by its number: its position in the parent's shards, taken in order. Each step is a sequence of
phases. A phase is a map over tasks.

Exact duplicates (`exact`):

    digests     by shard            digests of the normalised text, sorted; the columns that decide who survives
    merged      by group of shards  only if there are many: the key files of a group become one (`merging`)
    repeats     by digest range     rows with equal digests are decided
    shards      by shard            duplicates are removed (`removal`)

Near-duplicates (`near`):

    frequencies   by shard            in how many sampled rows each shingle of instructions is (`boilerplate`)
    boilerplate   by shingle range    the shingles that many rows share, which do not count
    signatures    by shard            keys, sorted: MinHash bands with what must be equal, and one for all words; the
                                      deciding columns and the shingle sets of each field
    merged        by group of shards  only if there are many, as above
    buckets       by band key range   rows that share a band key form a bucket (`buckets`)
    compare-0     by bucket range     rows of a bucket are compared by the exact Jaccard of each field
    forests-N     by groups of files  spanning forests of the pairs are merged until one is left (`components`)
    components    by pairs file       each file of pairs is sorted by connected component
    decide-0      by component range  pairs are decided, component by component (`survivors`)
    compare-1 ..  by bucket files     buckets with rows that need a recheck are compared again
    affected-1 .. once                the components that the new pairs belong to
    decide-1 ..   by component range  affected components are decided again
    shards        by shard            duplicates are removed

The rounds `compare-N`, `affected-N`, `decide-N` end when no task finds a new pair. A corpus whose buckets fit one task
needs none. `dedup.survivors` defines which rows are removed and shows why these pairs suffice.

Files. Tasks exchange data only through committed files. A retried task therefore never sees output of its failed
attempt. Every file between two phases is sorted by a 64-bit key, and a task of the next phase reads one range of keys
from each file, so rows that belong together meet whichever shards they came from. The number of tasks follows from the
number of rows alone (`ranges.TaskSizes`). Hence neither shards, their order, the number of workers, retries nor
restarts change the result. Each task compares its share of the input files with their recorded digests.

Disk, below the step's `work/` folder until it is finished: 16 bytes per row and digest (exact); 16 bytes per row and
key (one per band, and one), 4 bytes per token and about 50 bytes per row of deciding columns (near).

Memory. A by-shard task holds one shard. `repeats` and `buckets` take 4 M keys of 20 bytes, 70 while they are sorted:
300 MB. A comparison takes 1 M bucket members and 4 bytes for each of their tokens. A decision takes 2 M pairs of 24
bytes (two fields) and the deciding columns of their rows. The last merge of forests is the only task that grows with
the corpus: 150 bytes per row that has a near-duplicate.

Earlier runs (`against`). Their rows come before all others in survivor order and are never dropped. The new rows that
stay are therefore those that a rebuild of both corpora would keep, if it preferred the earlier rows and found the same
boilerplate.
"""

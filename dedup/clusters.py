"""Which rows go, and which row stays in the place of each.

Let two rows be adjacent when they share a band and their Jaccard is at or above the threshold. Rows are taken in
survivor order, and a row is removed exactly when a row before it that stays is adjacent to it. So every removed row
has a **kept** twin, no two kept rows are adjacent, and no other set of rows has both properties in this order: the
answer depends on the rows alone. (Connected components, which others remove down to one row, chain unlike rows
together.)

All adjacent pairs are too many: 100,000 copies of a template are five thousand million. They are never listed.
`compare` walks one bucket in survivor order and compares each row with the bucket's *representatives* only, which are
those rows that were adjacent to no representative before them. `settle` applies the definition to the pairs found so
far. A row that stays although one of its pairs led to a row that went is a *suspect*: its bucket may hide a pair that
was not looked at. So the buckets of suspects are walked again among the rows that stay, until no pair is new
(`explore`). Then (a) each removed row has an earlier adjacent row that stays, since its pair is in the list, and (b)
no two that stay are adjacent: in a bucket without suspects both were representatives, in the others the last walk made
all of them representatives. (a) and (b) are the definition, whatever order the buckets came in and however they were
divided.

Where a bucket's rows are *not* alike, representatives are many, and each row against each would be quadratic again.
There a row meets only the representatives that share one of its rarest shingles: of two sets with Jaccard t, the len -
ceil(t * len) + 1 first shingles of both, in any one order, have one in common (prefix filter: Chaudhuri, Ganti,
Kaushik 2006), and its two positions bound the overlap (position filter: PPJoin, Xiao et al. 2008). Rarest first, the
template falls out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.growing import doubled
from dedup.kernel import kernel
from dedup.order import HEAP, ascending, insert_in_order, order
from dedup.similarity import Sets, common, overlap_needed

Rows = npt.NDArray[np.int64]

FEW = 32  # representatives up to which a row is compared with each; beyond, they are found through an index
ENOUGH = 8  # representatives that a row is paired with: one makes it go, more let it name a closer twin
REMEMBERED = 1 << 18  # pairs whose comparison is remembered: like rows meet again in other bands


class Buckets(NamedTuple):
    """Groups of rows that share a band key: bucket i has members[offsets[i] : offsets[i + 1]], ascending, distinct,
    two or more.

    members: int64 [total]; offsets: int64 [buckets + 1].
    """

    members: Rows
    offsets: Rows


class Edges(NamedTuple):
    """Verified pairs, `earlier` before `later` in survivor order: int64 [n], int64 [n], Jaccard float64 [n]; each pair
    once."""

    later: Rows
    earlier: Rows
    jaccard: npt.NDArray[np.float64]


class Settled(NamedTuple):
    """twin: int64 [rows], the row that stays in the place of each removed row, or -1 for a row that stays; jaccard:
    float64 [rows] with that twin (0 where there is none); suspect: bool [rows], stays although a pair led it to a row
    that went."""

    twin: Rows
    jaccard: npt.NDArray[np.float64]
    suspect: npt.NDArray[np.bool_]


class Forest(NamedTuple):
    """Connected rows in pairs: int64 [n], int64 [n]. As `merge_forests` makes it, `row` ascends and `root` is none of
    them."""

    row: Rows
    root: Rows


def group(
    keys: npt.NDArray[np.uint64], rows: Rows, codes: npt.NDArray[np.uint32]
) -> tuple[Buckets, npt.NDArray[np.uint32]]:
    """Group rows int64 [n] by band keys uint64 [n]; a row may come often, with several keys or the same.

    codes: uint32 [n], a number of each entry's row. Returns the buckets, equal ones too, and of each bucket the least
    code of its rows: uint32 [buckets]. Equal buckets have equal codes, so that dividing buckets by code brings them
    together.
    """
    by_key = order(keys)
    members, offsets, least = _group(keys[by_key], rows[by_key], codes[by_key])
    return Buckets(members, offsets), least


def distinct(groups: Buckets) -> Buckets:
    """The buckets, each once: near copies share several bands, and so do their buckets."""
    by_hash = order(_bucket_hashes(groups.members, groups.offsets))
    return Buckets(*_distinct(groups.members, groups.offsets, by_hash))


def ranked(groups: Buckets, rank: Rows) -> Buckets:
    """The buckets of rows numbered by `rank` int64 [rows]: each row's place in survivor order."""
    members = rank[groups.members]
    _sort_each(members, groups.offsets)
    return Buckets(members, groups.offsets)


def joined(parts: Sequence[Buckets]) -> Buckets:
    """The buckets of all parts, one after another."""
    members = np.concatenate([np.empty(0, np.int64), *(part.members for part in parts)])
    sizes = np.concatenate([np.empty(0, np.int64), *(np.diff(part.offsets) for part in parts)])
    return Buckets(members, np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]))


def compare(groups: Buckets, sets: Sets, threshold: float, fixed: int = 0) -> tuple[Edges, int]:
    """Walk every bucket once; the pairs at or above `threshold` found, and how many pairs of sets were compared.

    Rows are numbered in survivor order (0 is taken first), in `groups` and in `sets` alike. A pair is of a row and an
    earlier representative of one of its buckets. The first `fixed` rows stay whatever they are like: they are not
    compared with each other.
    """
    later, earlier, found, compared = _compare(
        groups.members, groups.offsets, sets.hash, sets.offsets, threshold, fixed
    )
    return unique_edges(Edges(later, earlier, found)), int(compared)


def unique_edges(edges: Edges) -> Edges:
    """The same pairs, each once, by later and then earlier row. Rows are below 2**31, so that a pair is one number."""
    pairs = (edges.later << 32 | edges.earlier).view(np.uint64)
    by_pair = order(pairs)
    first = np.ones(len(pairs), np.bool_)
    first[1:] = pairs[by_pair][1:] != pairs[by_pair][:-1]
    chosen = by_pair[first]
    return Edges(edges.later[chosen], edges.earlier[chosen], edges.jaccard[chosen])


def settle(rows: int, edges: Edges) -> Settled:
    """Apply the definition to `edges`, as `unique_edges` orders them, among rows 0 .. rows - 1 numbered in survivor
    order.

    The twin is the kept row of highest Jaccard among the edges that led to it, the first in survivor order of equals.
    """
    return Settled(*_settle(np.searchsorted(edges.later, np.arange(rows + 1)), edges.earlier, edges.jaccard))


def survivors(
    pairs: npt.NDArray[np.int64], similarity: npt.NDArray[np.float64], rank: Rows, threshold: float
) -> Settled:
    """`settle` for a complete list of pairs int64 [n, 2] with their Jaccard float64 [n], among rows with a rank int64
    [rows].

    rank: distinct; smaller is preferred. Pairs below the threshold do not count. Rows in the answer are the caller's.
    """
    by_rank = np.argsort(rank)
    place = np.empty(len(rank), np.int64)
    place[by_rank] = np.arange(len(rank))
    alike = (similarity >= threshold) & (pairs[:, 0] != pairs[:, 1])
    one, other = place[pairs[alike, 0]], place[pairs[alike, 1]]
    edges = unique_edges(Edges(np.maximum(one, other), np.minimum(one, other), similarity[alike]))
    settled = settle(len(rank), edges)
    twin = np.where(settled.twin >= 0, by_rank[settled.twin], -1)
    return Settled(twin[place], settled.jaccard[place], settled.suspect[place])


def explore(groups: Buckets, sets: Sets, threshold: float, fixed: int = 0) -> tuple[Edges, int]:
    """`compare` and `settle` in turn until no pair is new: pairs enough to settle these buckets, and how many were
    compared.

    Rows are numbered in survivor order. Where the buckets of a corpus are divided among tasks, the pairs of all tasks
    are settled together, and the tasks explore what is then `suspicious` again until none finds a pair.
    """
    edges, compared = compare(groups, sets, threshold, fixed)
    while True:
        settled = settle(len(sets.offsets) - 1, edges)
        more, again = compare(suspicious(groups, settled.twin >= 0, settled.suspect), sets, threshold, fixed)
        compared += again
        if not len(more.later):
            return edges, compared
        edges = unique_edges(Edges(*(np.concatenate(columns) for columns in zip(edges, more, strict=True))))


def suspicious(groups: Buckets, removed: npt.NDArray[np.bool_], suspect: npt.NDArray[np.bool_]) -> Buckets:
    """What to walk again: the rows that stay of the buckets that hold a suspect. removed, suspect: bool [rows]."""
    return Buckets(*_suspicious(groups.members, groups.offsets, removed, suspect))


def holding(groups: Buckets, rows: Rows) -> Buckets:
    """Those buckets that hold one of `rows` int64 [n], ascending."""
    return Buckets(*_holding(groups.members, groups.offsets, rows))


def without(groups: Buckets, removed: npt.NDArray[np.bool_]) -> Buckets:
    """The buckets without the rows that are removed, bool [rows], where two or more are left."""
    return Buckets(*_suspicious(groups.members, groups.offsets, removed, ~removed))


def merge_forests(forests: Sequence[Forest]) -> Forest:
    """One spanning forest of the union of several; its rows ascend, and a root is the least row of its component.

    Each may be any list of connected pairs. Merging is associative and commutative, so it can go up a tree. Forests of
    this function's making are sorted, and then what is held beside them is some 30 bytes per connected row: its number,
    its parent's place, and the answer.
    """
    rows = np.empty(0, np.int64)
    for forest in forests:
        for end in (forest.root, forest.row):
            rows = _joined(rows, end if _is_sorted(end) else ascending(end))
    parent = np.arange(len(rows), dtype=np.int32 if len(rows) < 1 << 31 else np.int64)
    for forest in forests:
        _unite(rows, parent, forest.row, forest.root)
    return Forest(*_hanging(rows, parent))


@kernel
def _is_sorted(values):  # type: ignore[no-untyped-def]
    ascends = True
    for i in range(1, len(values)):
        ascends &= values[i] > values[i - 1]
    return ascends


@kernel
def _joined(one, other):  # type: ignore[no-untyped-def]
    """The union of two ascending runs."""
    count, i, j = 0, 0, 0
    while i < len(one) or j < len(other):
        least = one[i] if j >= len(other) or (i < len(one) and one[i] <= other[j]) else other[j]
        i += i < len(one) and one[i] == least
        j += j < len(other) and other[j] == least
        count += 1
    out = np.empty(count, np.int64)
    i, j = 0, 0
    for n in range(count):
        least = one[i] if j >= len(other) or (i < len(one) and one[i] <= other[j]) else other[j]
        i += i < len(one) and one[i] == least
        j += j < len(other) and other[j] == least
        out[n] = least
    return out


@kernel
def _group(keys, rows, codes):  # type: ignore[no-untyped-def]
    """Runs of equal keys with two or more distinct rows, and the least code of each."""
    members = np.empty(len(keys), np.int64)
    offsets = np.empty(len(keys) // 2 + 2, np.int64)
    least = np.empty(len(keys) // 2 + 1, np.uint32)
    offsets[0] = 0
    count, at, i = 0, 0, 0
    while i < len(keys):
        j, ascending, code = i + 1, True, codes[i]
        while j < len(keys) and keys[j] == keys[i]:
            ascending &= rows[j] > rows[j - 1]
            code = min(code, codes[j])
            j += 1
        if j - i >= 2:
            run = rows[i:j] if ascending else np.unique(rows[i:j])
            if len(run) >= 2:
                members[at : at + len(run)] = run
                at += len(run)
                least[count] = code
                count += 1
                offsets[count] = at
        i = j
    return members[:at].copy(), offsets[: count + 1].copy(), least[:count].copy()


@kernel
def _sort_each(members, offsets):  # type: ignore[no-untyped-def]
    for n in range(len(offsets) - 1):
        bucket = members[offsets[n] : offsets[n + 1]]
        if len(bucket) > HEAP:
            bucket.sort()
        else:
            insert_in_order(bucket)


@kernel
def _bucket_hashes(members, offsets):  # type: ignore[no-untyped-def]
    out = np.empty(len(offsets) - 1, np.uint64)
    for n in range(len(out)):
        h = np.uint64(offsets[n + 1] - offsets[n])
        for i in range(offsets[n], offsets[n + 1]):
            h = (h ^ np.uint64(members[i])) * np.uint64(0x9FB21C651E98DF25)
            h ^= h >> np.uint64(32)
        out[n] = h
    return out


@kernel
def _distinct(members, offsets, order):  # type: ignore[no-untyped-def]
    """Drop buckets that equal another: near copies share several bands, and so do their buckets."""
    keep = np.ones(len(order), np.bool_)
    total, count = 0, 0
    for n in range(len(order)):
        this = order[n]
        size = offsets[this + 1] - offsets[this]
        if n > 0:
            before = order[n - 1]
            same = offsets[before + 1] - offsets[before] == size
            i = 0
            while same and i < size:
                same = members[offsets[before] + i] == members[offsets[this] + i]
                i += 1
            keep[this] = not same
        if keep[this]:
            total += size
            count += 1
    out, borders = np.empty(total, np.int64), np.empty(count + 1, np.int64)
    borders[0] = 0
    at, n = 0, 0
    for this in range(len(order)):
        if keep[this]:
            for i in range(offsets[this], offsets[this + 1]):
                out[at] = members[i]
                at += 1
            n += 1
            borders[n] = at
    return out, borders


@kernel
def _similar(hashes, offsets, x, y, threshold, fixed, memory, answers):  # type: ignore[no-untyped-def]
    """The Jaccard of rows x and y < x, or -1 where it is below the threshold or both are fixed; and whether the sets
    had to be compared."""
    if x < fixed:
        return -1.0, False
    n, m = offsets[x + 1] - offsets[x], offsets[y + 1] - offsets[y]
    needed = overlap_needed(threshold, n, m)
    if needed > min(n, m):
        return -1.0, False
    pair = np.uint64(x) << np.uint64(32) | np.uint64(y)
    slot = np.int64((pair * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(46))
    if memory[slot] == pair:
        return answers[slot], False
    shared = common(hashes, offsets[x], offsets[x + 1], offsets[y], offsets[y + 1], needed)
    answer = shared / (n + m - shared) if shared >= 0 and n + m > 0 else -1.0
    memory[slot] = pair
    answers[slot] = answer
    return answer, True


@kernel
def _compare(members, offsets, hashes, borders, threshold, fixed):  # type: ignore[no-untyped-def]
    pairs, values = np.empty((64, 2), np.int64), np.empty(64, np.float64)
    memory, answers = np.zeros(REMEMBERED, np.uint64), np.empty(REMEMBERED, np.float64)  # pair 0 is row 0 with itself
    edges, compared = 0, 0
    chosen = np.empty(FEW, np.int64)
    for n in range(len(offsets) - 1):
        bucket = members[offsets[n] : offsets[n + 1]]
        count, at = 0, 0
        while at < len(bucket) and count < FEW:
            x = bucket[at]
            before = edges
            if edges + FEW > len(values):
                pairs, values = doubled(pairs), doubled(values)
            for c in range(count):
                value, read = _similar(hashes, borders, x, chosen[c], threshold, fixed, memory, answers)
                compared += read
                if value >= 0:
                    pairs[edges, 0], pairs[edges, 1], values[edges] = x, chosen[c], value
                    edges += 1
                    if edges - before == ENOUGH:
                        break
            if edges == before:
                chosen[count] = x
                count += 1
            at += 1
        if at < len(bucket):
            found, likeness, more = _walk_indexed(
                bucket, at, chosen, hashes, borders, threshold, fixed, memory, answers
            )
            compared += more
            while edges + len(likeness) > len(values):
                pairs, values = doubled(pairs), doubled(values)
            for i in range(len(likeness)):
                pairs[edges, 0], pairs[edges, 1], values[edges] = found[i, 0], found[i, 1], likeness[i]
                edges += 1
    return pairs[:edges, 0].copy(), pairs[:edges, 1].copy(), values[:edges].copy(), compared


@kernel
def _size_class(size):  # type: ignore[no-untyped-def]
    """Sets of about one size: below 64 the size itself, above in steps of 1.5 %."""
    return size if size < 64 else 64 + int(np.log(size / 64.0) / np.log(1.015))


@kernel
def _slot(token, size_class, mask):  # type: ignore[no-untyped-def]
    mixed = np.uint64(token) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(size_class) * np.uint64(0xD6E8FEB86659FD93)
    return mixed >> np.uint64(20) & mask


@kernel
def _walk_indexed(bucket, begin, first, hashes, borders, threshold, fixed, memory, answers):  # type: ignore[no-untyped-def]
    """The rest of a bucket from index `begin`, after its `first` representatives: further ones are found through an
    index of their rarest shingles, kept apart by size, since sets of two sizes need an overlap that follows from
    both.
    """
    total, room, longest = 0, 0, 0
    for x in bucket:
        size = borders[x + 1] - borders[x]
        total += size
        room += size - int(np.ceil(threshold * size - 1e-9)) + 1
        longest = max(longest, size)
    slots = 1 << 10
    while slots < total and slots < 1 << 24:
        slots *= 2
    mask = np.uint64(slots - 1)
    # How common a shingle is in the bucket, up to collisions: any one order of shingles is right, rarest first is fast.
    counts = np.zeros(slots, np.uint32)
    for x in bucket:
        for i in range(borders[x], borders[x + 1]):
            counts[np.uint64(hashes[i]) & mask] += np.uint32(1)
    head = np.full(slots, -1, np.int64)
    link, token = np.empty(room, np.int64), np.empty(room, np.uint32)
    owner, place, group = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    entries = 0
    shortest = np.full(_size_class(longest) + 1, longest + 1, np.int64)  # representative of each size class
    chosen, seen = np.empty(len(bucket), np.int64), np.full(len(bucket), -1, np.int64)  # by representative
    ordered = np.empty(longest, np.uint64)
    count, compared = 0, 0
    pairs, values, edges = np.empty((64, 2), np.int64), np.empty(64, np.float64), 0
    for turn in range(len(first) + len(bucket) - begin):
        given = turn < len(first)
        x = first[turn] if given else bucket[begin + turn - len(first)]
        size = borders[x + 1] - borders[x]
        for i in range(size):
            h = hashes[borders[x] + i]
            ordered[i] = np.uint64(counts[np.uint64(h) & mask]) << np.uint64(32) | np.uint64(h)
        ordered[:size].sort()
        prefix = size - int(np.ceil(threshold * size - 1e-9)) + 1
        before = edges
        if edges + ENOUGH > len(values):
            pairs, values = doubled(pairs), doubled(values)
        smallest = _size_class(int(np.ceil(threshold * size - 1e-9)))
        largest = _size_class(int(size / threshold + 1e-9))
        for k in range(smallest, min(largest, len(shortest) - 1) + 1):
            if given or shortest[k] > longest or edges - before == ENOUGH:
                continue
            # A first shared shingle further back leaves too little even for the shortest of the class.
            scan = min(prefix, size - overlap_needed(threshold, size, shortest[k]) + 1)
            i = 0
            while i < scan and edges - before < ENOUGH:
                h = np.uint32(ordered[i] & np.uint64(0xFFFFFFFF))
                e = head[_slot(h, k, mask)]
                while e >= 0 and edges - before < ENOUGH:
                    c = owner[e]
                    if token[e] == h and group[e] == k and seen[c] != x:
                        seen[c] = x
                        y = chosen[c]
                        other = borders[y + 1] - borders[y]
                        if min(size - i, other - place[e]) >= overlap_needed(threshold, size, other):
                            value, read = _similar(hashes, borders, x, y, threshold, fixed, memory, answers)
                            compared += read
                            if value >= 0:
                                pairs[edges, 0], pairs[edges, 1], values[edges] = x, y, value
                                edges += 1
                    e = link[e]
                i += 1
        if edges > before:
            continue
        k = _size_class(size)
        shortest[k] = min(shortest[k], size)
        for i in range(prefix):
            h = np.uint32(ordered[i] & np.uint64(0xFFFFFFFF))
            slot = _slot(h, k, mask)
            token[entries], owner[entries], place[entries], group[entries], link[entries] = h, count, i, k, head[slot]
            head[slot] = entries
            entries += 1
        chosen[count] = x
        count += 1
    return pairs[:edges], values[:edges], compared


@kernel
def _settle(starts, earlier, similarity):  # type: ignore[no-untyped-def]
    rows = len(starts) - 1
    twin, value, suspect = np.full(rows, -1, np.int64), np.zeros(rows, np.float64), np.zeros(rows, np.bool_)
    for x in range(rows):
        for e in range(starts[x], starts[x + 1]):
            if twin[earlier[e]] < 0 and similarity[e] > value[x]:
                twin[x], value[x] = earlier[e], similarity[e]
        suspect[x] = twin[x] < 0 and starts[x + 1] > starts[x]
    return twin, value, suspect


@kernel
def _holding(members, offsets, rows):  # type: ignore[no-untyped-def]
    # Most members are none of the rows: a filter of one bit in 16 answers them without a search.
    bits = 10
    while 1 << bits < 16 * len(rows):
        bits += 1
    shift = np.uint64(64 - bits)
    seen = np.zeros(1 << bits, np.bool_)
    for row in rows:
        seen[np.uint64(row) * np.uint64(0x9E3779B97F4A7C15) >> shift] = True
    chosen = np.zeros(len(offsets) - 1, np.bool_)
    total, count = 0, 0
    for n in range(len(offsets) - 1):
        for i in range(offsets[n], offsets[n + 1]):
            member = members[i]
            if seen[np.uint64(member) * np.uint64(0x9E3779B97F4A7C15) >> shift]:
                at = np.searchsorted(rows, member)
                if at < len(rows) and rows[at] == member:
                    chosen[n] = True
                    total += offsets[n + 1] - offsets[n]
                    count += 1
                    break
    out, borders = np.empty(total, np.int64), np.empty(count + 1, np.int64)
    borders[0] = 0
    at, found = 0, 0
    for n in range(len(offsets) - 1):
        if chosen[n]:
            for i in range(offsets[n], offsets[n + 1]):
                out[at] = members[i]
                at += 1
            found += 1
            borders[found] = at
    return out, borders


@kernel
def _suspicious(members, offsets, removed, suspect):  # type: ignore[no-untyped-def]
    out, borders = np.empty(len(members), np.int64), np.empty(len(offsets), np.int64)
    borders[0] = 0
    at, count = 0, 0
    for n in range(len(offsets) - 1):
        begin, doubtful = at, False
        for i in range(offsets[n], offsets[n + 1]):
            if not removed[members[i]]:
                out[at] = members[i]
                at += 1
                doubtful |= suspect[members[i]]
        if doubtful and at - begin >= 2:
            count += 1
            borders[count] = at
        else:
            at = begin
    return out[:at].copy(), borders[: count + 1].copy()


@kernel
def _root(parent, x):  # type: ignore[no-untyped-def]
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@kernel
def _unite(rows, parent, ends, others):  # type: ignore[no-untyped-def]
    """Join the ends of pairs, whose places in `rows` are searched: an array of places would be as large as all else."""
    for n in range(len(ends)):
        a = _root(parent, np.searchsorted(rows, ends[n]))
        b = _root(parent, np.searchsorted(rows, others[n]))
        if a < b:
            parent[b] = a
        else:
            parent[a] = b


@kernel
def _hanging(rows, parent):  # type: ignore[no-untyped-def]
    """Every row that is no root, and its root."""
    count = 0
    for x in range(len(rows)):
        parent[x] = _root(parent, x)
        count += parent[x] != x
    hanging, roots = np.empty(count, np.int64), np.empty(count, np.int64)
    at = 0
    for x in range(len(rows)):
        if parent[x] != x:
            hanging[at], roots[at] = rows[x], rows[parent[x]]
            at += 1
    return hanging, roots

"""What of a text is prose? Programs, formulas, tables and data repeat by their nature and are measured apart from it.

Recognised once for all filters, by lines and words:

- A fence is a run of at least three backticks or tildes at the beginning of a line, behind block quotes and list
  markers (CommonMark 0.31, 4.5). A run of backticks with another one behind it on the line is a code span. A longer run
  of the same character closes it. Beyond CommonMark, a fence may open behind text on its line ("Answer: ```json"), and
  close behind it. Indented fences are fences at any depth, since lists indent them.
- A line in a fence, in a block quote or in a table (it begins with a bar) is not prose.
- A word of letters is a run between white space of letters, with apostrophes or hyphens between them and punctuation
  at its ends. `x^2`, `f(x)`, `$p$`, `+=` and `15` are none. A line is prose if it has MIN_WORDS such words (or twice
  as many characters of scripts that may have no spaces), and most of its characters are in
  them. Programs, formulas, rows of data, options and labels are therefore no prose. Nor is a line that begins as
  comments of programs do.
- A line of prose that recurs between different ones is structure: the options of a quiz, the steps of recipes, the
  lessons of a week, stage directions. A run of repeated lines is structure if the text has several such runs and each
  is shorter than the longest run of new lines, as every part then begins with something new. Lines that come again and
  again without anything new make longer runs. The furniture of web pages ("Read more about this story") has that form
  too, but is none: lines that are neither items (with a mark, number or label at their beginning) nor sentences (with a
  mark at their end), behind a line of prose with such a mark.
- Items in one pattern are structure at their beginning: the words with which lines begin (behind a label, "Tigon: ...")
  that the beginning of another line has too, where both go on with other words ("In ten years, who is most likely to").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.hashing import FNV_BASIS, fnv1a
from dedup.kernel import borrowing_kernel, buffers, kernel
from filters.text import is_letter, is_space, starts_character, strings

MIN_WORDS = 4
"""Words of letters in a line of prose. Shorter lines are headings, labels, options, answers."""
MIN_LETTERS_RATIO = 0.6
"""Share of a prose line's bytes (without white space) in words of letters, 0 to 1."""

MAX_LABEL_BYTES = 30
"""Bytes before the colon of a label ("Anna: ...")."""

MIN_SHARED, MAX_SHARED, MIN_OWN = 3, 24, 2
"""Words that lines in one pattern begin with alike, at least, and at most as many as are compared; words of letters
behind them that each has of its own."""
MAX_PATTERN_LINES = 20
"""Lines in one pattern. More are no list that somebody asked for, but one that does not end."""

CUT = 0
"""The first byte of what is not prose. A kernel takes a line or word that begins with it for equal to no other."""


def prose_of(texts: pa.StringArray, words_alone: bool = False) -> pa.StringArray:
    """The texts with the byte CUT at the beginning of what is not prose or a repeated line of structure: string [rows].

    words_alone: of every word that is not of letters, of every word of such a line, and of the words with which items
    in one pattern begin; else of every such line. All else is as in the text, so shares of the text can be measured.
    What repeats in the result repeats in the text: a filter measures the text first, and the prose of what it would
    drop.
    """
    data, offsets = buffers(texts)
    base = int(offsets[0])
    given = data[base : offsets[-1]]
    offsets = offsets - base
    lines = given.copy()
    _mark_lines(lines, offsets)
    _mark_structure(given, lines, offsets)
    if words_alone:
        content = given.copy()
        _mark_words(content, lines, offsets)
        _mark_beginnings(content, offsets)
        lines = content
    return strings(lines, offsets.astype(np.int32))


def open_fences(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """The line, from 1, of the fence that is open at the end of each text, else 0: int64 [rows]."""
    return np.asarray(_open_fences(*buffers(texts)))


def letters_ratio(texts: pa.StringArray) -> npt.NDArray[np.float64]:
    """The share of each text's bytes (without white space) in words of letters, 0 to 1: float64 [rows]."""
    return np.asarray(_letters_ratio(*buffers(texts)))


@borrowing_kernel
def _line_end(data, at, end):  # type: ignore[no-untyped-def]
    while at < end and data[at] != 10:
        at += 1
    return at


@borrowing_kernel
def _run(data, at, end):  # type: ignore[no-untyped-def]
    """The length of the run of the byte at `at`."""
    stop = at
    while stop < end and data[stop] == data[at]:
        stop += 1
    return stop - at


@borrowing_kernel
def _content(data, at, end, lists):  # type: ignore[no-untyped-def]
    """Where the content of a line begins, behind white space, marks of block quotes and, if `lists`, of list items."""
    while at < end:
        byte = data[at]
        if byte == 32 or byte == 9 or byte == 62:  # space, tab, >
            at += 1
        elif lists and (byte == 45 or byte == 42 or byte == 43) and at + 1 < end and data[at + 1] == 32:  # - * +
            at += 2
        elif lists and 48 <= byte <= 57:
            stop = at
            while stop < end and 48 <= data[stop] <= 57:
                stop += 1
            if stop + 1 < end and (data[stop] == 46 or data[stop] == 41) and data[stop + 1] == 32:  # "1. " or "1) "
                at = stop + 2
            else:
                break
        else:
            break
    return at


@borrowing_kernel
def _fence(data, begin, end, mark, length):  # type: ignore[no-untyped-def]
    """The fence that is open after the line data[begin:end], if `length` of `mark` are open before it.

    Returns (mark, length); length 0: none is open.
    """
    while end > begin and is_space(data[end - 1]):
        end -= 1
    at = _content(data, begin, end, length == 0)
    if at == end:
        return mark, length
    if length > 0:
        run = _run(data, at, end) if data[at] == mark else 0
        if run >= length and at + run == end:
            return mark, 0
        # A fence that closes behind text.
        first = end
        while first > at and data[first - 1] == mark:
            first -= 1
        alone = True
        for i in range(at, first):
            alone &= data[i] != mark
        if mark == 96 and alone and end - first == length and first > at and data[first - 1] != 32:
            return mark, 0
        return mark, length
    if data[at] == 126:  # ~
        run = _run(data, at, end)
        return (np.uint8(126), run) if run >= 3 else (mark, 0)
    # The only run of three backticks on the line, with a word behind it at most.
    found, runs, words = -1, 0, 0
    i = at
    while i < end:
        if data[i] == 96:
            run = _run(data, i, end)
            if run >= 3:
                runs += 1
                found = i
            i += run
        else:
            i += 1
    if runs != 1:
        return mark, 0
    run = _run(data, found, end)
    for i in range(found + run, end):
        words += data[i] == 96
        words += found > at and is_space(data[i])
    return (np.uint8(96), run) if words == 0 else (mark, 0)


@kernel
def _open_fences(data, offsets):  # type: ignore[no-untyped-def]
    rows = len(offsets) - 1
    result = np.zeros(rows, np.int64)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        mark, length, line, opened = np.uint8(0), 0, 0, 0
        while at < end:
            stop = _line_end(data, at, end)
            line += 1
            before = length
            mark, length = _fence(data, at, stop, mark, length)
            if length > 0 and before == 0:
                opened = line
            at = stop + 1
        result[row] = opened if length > 0 else 0
    return result


@borrowing_kernel
def _is_word(data, begin, end):  # type: ignore[no-untyped-def]
    """Whether data[begin:end], without white space, is a word of letters.

    Outside ASCII all but signs and emoji counts as letters.
    """
    if end - begin > 1 and data[end - 1] == 58 and data[end - 2] == 34:  # a key of JSON ends with ":
        return False
    while begin < end and (data[begin] == 34 or data[begin] == 39 or data[begin] == 40 or data[begin] == 42):  # " ' ( *
        begin += 1
    while end > begin:
        byte = data[end - 1]
        # . , ; : ! ? " ' ) *
        if not (
            byte == 46 or byte == 44 or byte == 59 or byte == 58 or byte == 33 or byte == 63
            or byte == 34 or byte == 39 or byte == 41 or byte == 42
        ):  # fmt: skip
            break
        end -= 1
    if begin == end:
        return False
    for at in range(begin, end):
        byte = data[at]
        inner = (byte == 39 or byte == 45) and begin < at < end - 1
        if not (is_letter(byte) or byte >= 128 or inner):
            return False
        # Signs (from U+2040 on, but not quotation marks and dashes) and emoji.
        if at + 1 < end and ((byte == 0xE2 and data[at + 1] > 0x80) or (byte == 0xF0 and data[at + 1] == 0x9F)):
            return False
    return True


@borrowing_kernel
def _cut(data, at, end):  # type: ignore[no-untyped-def]
    """Write CUT over the character at `at`. The rest of a longer one becomes letters, so that it stays valid UTF-8."""
    data[at] = CUT
    at += 1
    while at < end and not starts_character(data[at]):
        data[at] = 120
        at += 1


@borrowing_kernel
def _count(data, at, end):  # type: ignore[no-untyped-def]
    """Words of letters, their bytes, all bytes that are no white space, and characters of scripts without spaces."""
    words, letters, size, wide = 0, 0, 0, 0
    while at < end:
        while at < end and is_space(data[at]):
            at += 1
        begin = at
        while at < end and not is_space(data[at]):
            # The first bytes of U+0800 to U+1FFF and U+3000 to U+FFFF: neither punctuation nor signs.
            wide += 0xE0 <= data[at] <= 0xEF and data[at] != 0xE2
            at += 1
        if at > begin:
            size += at - begin
            if _is_word(data, begin, at):
                words += 1
                letters += at - begin
    return words, letters, size, wide


@kernel
def _letters_ratio(data, offsets):  # type: ignore[no-untyped-def]
    result = np.zeros(len(offsets) - 1, np.float64)
    for row in range(len(result)):
        _, letters, size, _ = _count(data, offsets[row], offsets[row + 1])
        result[row] = letters / max(size, 1)
    return result


@borrowing_kernel
def _is_comment(data, at, end):  # type: ignore[no-untyped-def]
    """Whether a line begins as comments of programs and headings of Markdown do."""
    byte = data[at]
    if byte == 35 or byte == 37:  # # %
        return True
    if at + 2 >= end:
        return False
    after, third = data[at + 1], data[at + 2]
    if byte == 47:  # // and /*
        return after == 47 or after == 42
    if byte == 34 or byte == 39:  # three quotation marks
        return after == byte and third == byte
    return (byte == 60 and after == 33) or (byte == 45 and after == 45 and third == 32)  # <! and --


@borrowing_kernel
def _is_prose(data, at, end):  # type: ignore[no-untyped-def]
    """Whether the line data[at:end], which begins with no white space and is in no fence, is prose."""
    if data[at] == 124 or data[at] == 62 or _is_comment(data, at, end):  # | >
        return False
    words, letters, size, wide = _count(data, at, end)
    return (words >= MIN_WORDS or wide >= 2 * MIN_WORDS) and letters >= MIN_LETTERS_RATIO * size


@borrowing_kernel
def _mark_lines(data, offsets):  # type: ignore[no-untyped-def]
    """Write CUT over the beginning of every line that is not prose."""
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        mark, length = np.uint8(0), 0
        while at < end:
            stop = _line_end(data, at, end)
            while at < stop and is_space(data[at]):
                at += 1
            if at < stop:
                before = length
                mark, length = _fence(data, at, stop, mark, length)
                if before > 0 or length > 0 or not _is_prose(data, at, stop):
                    _cut(data, at, stop)
            at = stop + 1


@borrowing_kernel
def _mark_words(data, lines, offsets):  # type: ignore[no-untyped-def]
    """Write CUT over the beginning of every word of the lines that are cut in `lines`, and of words not of letters."""
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            stop = _line_end(data, at, end)
            while at < stop and is_space(data[at]):
                at += 1
            is_prose = at < stop and lines[at] != CUT
            while at < stop:
                begin = at
                while at < stop and not is_space(data[at]):
                    at += 1
                if not (is_prose and _is_word(data, begin, at)):
                    _cut(data, begin, at)
                while at < stop and is_space(data[at]):
                    at += 1
            at = stop + 1


@kernel
def _mark_beginnings(data, offsets):  # type: ignore[no-untyped-def]
    """Write CUT over the beginning of the words that a line shares with another one from its first word on, where both
    go on with words of their own. Words that are cut already are no words."""
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        most = 1
        for at in range(begin, end):
            most += data[at] == 10
        starts, hashes = np.empty((most, MAX_SHARED), np.int64), np.zeros((most, MAX_SHARED), np.uint64)
        sizes, words, whole = np.zeros(most, np.int64), np.zeros(most, np.int64), np.zeros(most, np.uint64)
        count, at = 0, begin
        while at < end:
            stop = _line_end(data, at, end)
            first, line = at, FNV_BASIS
            while at < stop:
                while at < stop and is_space(data[at]):
                    at += 1
                word = at
                while at < stop and not is_space(data[at]):
                    at += 1
                if at == word or data[word] == CUT:
                    continue
                if data[at - 1] == 58 and at - first <= MAX_LABEL_BYTES:  # the words of a label
                    sizes[count], words[count], line = 0, 0, FNV_BASIS
                    continue
                words[count] += 1
                for i in range(word, at):
                    line = fnv1a(line, data[i])
                line = fnv1a(line, 32)
                whole[count] = line
                if sizes[count] < MAX_SHARED:
                    starts[count, sizes[count]], hashes[count, sizes[count]] = word, line
                    sizes[count] += 1
            count += words[count] >= MIN_SHARED + MIN_OWN
            if count < most and at >= stop:
                sizes[count], words[count] = 0, 0
            at = stop + 1
        # Lines that are equal to their end are repeated, and in no pattern.
        order = np.argsort(whole[:count], kind="mergesort")
        for i in range(1, count):
            if whole[order[i]] == whole[order[i - 1]]:
                sizes[order[i - 1]], sizes[order[i]] = 0, 0
        shared = np.zeros(count, np.int64)
        for size in range(MIN_SHARED, MAX_SHARED + 1):
            of_size = hashes[:count, size - 1].copy()
            order = np.argsort(of_size, kind="mergesort")
            if size == MIN_SHARED:
                first = 0
                for i in range(1, count + 1):
                    if i == count or of_size[order[i]] != of_size[order[first]]:
                        if i - first > MAX_PATTERN_LINES:
                            sizes[order[first:i]] = 0
                        first = i
            for i in range(1, count):
                a, b = order[i - 1], order[i]
                if of_size[a] == of_size[b] and sizes[a] >= size and sizes[b] >= size:
                    for line_number in (a, b):
                        if words[line_number] >= size + MIN_OWN:
                            shared[line_number] = size
        for number in range(count):
            for i in range(shared[number]):
                _cut(data, starts[number, i], end)


@borrowing_kernel
def _is_item(data, begin, end):  # type: ignore[no-untyped-def]
    """Whether a line begins with a mark, a digit, a letter behind which a mark stands, or a label ("Anna: ...")."""
    if not (is_letter(data[begin]) or data[begin] >= 128):
        return True
    if begin + 1 < end and (data[begin + 1] == 46 or data[begin + 1] == 41):  # "A." or "A)"
        return True
    for at in range(begin, min(begin + MAX_LABEL_BYTES, end - 1)):
        if data[at] == 58 and is_space(data[at + 1]):
            return True
        if data[at] == 46 or data[at] == 63 or data[at] == 33:
            break
    return False


@borrowing_kernel
def _is_ended(data, begin, end):  # type: ignore[no-untyped-def]
    """Whether a line ends in a mark, before quotation marks, brackets and emphasis: . ! ? : or none of ASCII."""
    while end > begin + 1:
        byte = data[end - 1]
        if not (is_space(byte) or byte == 34 or byte == 39 or byte == 41 or byte == 42 or byte == 95):
            break
        end -= 1
    byte = data[end - 1]
    return byte == 46 or byte == 33 or byte == 63 or byte == 58 or byte >= 128


@kernel
def _mark_structure(data, lines, offsets):  # type: ignore[no-untyped-def]
    """Write CUT in `lines` over the beginning of the repeated lines of `data` that are structure."""
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        most = 1
        for at in range(begin, end):
            most += data[at] == 10
        hashes, starts, stops = np.empty(most, np.uint64), np.empty(most, np.int64), np.empty(most, np.int64)
        count, at = 0, begin
        while at < end:
            stop = _line_end(data, at, end)
            while at < stop and is_space(data[at]):
                at += 1
            if at < stop:
                line, spaced = FNV_BASIS, False
                for i in range(at, stop):
                    if is_space(data[i]):
                        spaced = True
                    else:
                        if spaced:
                            line = fnv1a(line, 32)
                            spaced = False
                        line = fnv1a(line, data[i])
                hashes[count], starts[count], stops[count] = line, at, stop
                count += 1
            at = stop + 1
        seen = np.zeros(count, np.bool_)
        order = np.argsort(hashes[:count], kind="mergesort")  # equal lines in their order
        for i in range(1, count):
            seen[order[i]] = hashes[order[i]] == hashes[order[i - 1]]
        longest, run, runs = 0, 0, 0
        for i in range(count):
            run = 0 if seen[i] else run + 1
            longest = max(longest, run)
            runs += seen[i] and not seen[i - 1]
        i = 0
        while runs > 1 and i < count:
            if not seen[i]:
                i += 1
                continue
            first = i
            while i < count and seen[i]:
                i += 1
            if i - first >= longest:
                continue
            # The line before the run has something new: the article, where the run is furniture.
            at, stop = starts[first - 1], stops[first - 1]
            article = lines[at] != CUT and _is_ended(data, at, stop) and not _is_item(data, at, stop)
            for j in range(first, i):
                at, stop = starts[j], stops[j]
                furniture = article and not _is_ended(data, at, stop) and not _is_item(data, at, stop)
                if lines[at] != CUT and not furniture:
                    _cut(lines, at, stop)

"""Personal data: e-mail addresses, telephone numbers, IP addresses, payment cards and bank accounts (IBAN).

`pii` drops records that hold some, `mask_pii` replaces it by a token for its kind. Both search with `find`, which asks
for precision: numbers have check digits (Luhn for cards, mod 97 for IBANs), valid ranges (the phonenumbers library,
which holds the numbering plans of all countries) or the word for what they are beside them. Dates, versions, ISBNs and
arithmetic have none of these.

A kernel selects the texts with an @ or with enough digits in a row. Regular expressions search only those.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dedup.columns import as_array
from dedup.kernel import buffers, kernel
from filters.stage import Filter, Transform, with_column, with_texts
from filters.text import On, fields, next_digit
from filters.verdict import Check, first_failure

Kind = Literal["email", "phone", "ip", "card", "iban"]
KINDS: tuple[Kind, ...] = ("email", "iban", "card", "ip", "phone")
"""In the order of the search. A number is of the first kind that fits."""

MIN_DIGITS = 9
"""Digits in a row, with single separators between them, from which a number is looked at."""


class Finding(NamedTuple):
    """Personal data in a text: its kind, and where it starts and ends, in characters."""

    kind: Kind
    start: int
    end: int


class Pii(Filter):
    """Drop records that hold personal data.

    on: the fields that are searched. kinds: what is looked for. keep_examples: whether addresses that are reserved for
    examples (example.com, 192.0.2.1), private and local networks do not count.
    """

    kind: Literal["pii"] = "pii"
    on: On = "both"
    kinds: tuple[Kind, ...] = ("email", "phone", "ip", "card", "iban")
    keep_examples: bool = True

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `email`, `phone`, `ip`, `card`, `iban`. The value is how many there are."""
        counts = {kind: np.zeros(records.num_rows, np.int64) for kind in KINDS}
        for field in fields(self.on):
            for row, _, findings in _search(as_array(records[field]), self.kinds, self.keep_examples):
                for finding in findings:
                    counts[finding.kind][row] += 1
        return first_failure([Check(kind, counts[kind] > 0, counts[kind], 0) for kind in KINDS])


class MaskPii(Transform):
    """Replace personal data by `[email]`, `[phone]`, `[ip]`, `[card]` or `[iban]`.

    on: the fields that are searched. kinds: what is masked. keep_examples: whether addresses that are reserved for
    examples (example.com, 192.0.2.1), private and local networks stay.

    Appends `score_pii` (float32): minus the number of replacements in the record, so
    that among duplicates the one with fewer is kept.
    """

    kind: Literal["mask_pii"] = "mask_pii"
    on: On = "both"
    kinds: tuple[Kind, ...] = ("email", "phone", "ip", "card", "iban")
    keep_examples: bool = True

    def rewrite(self, records: pa.Table) -> pa.Table:
        """Rewrite `instruction` and `response`, and `digest` where there is one."""
        score = np.zeros(records.num_rows, np.float32)
        changed: dict[str, tuple[npt.NDArray[np.int64], list[str]]] = {}
        for field in fields(self.on):
            rows, masked = [], []
            for row, text, findings in _search(as_array(records[field]), self.kinds, self.keep_examples):
                rows.append(row)
                masked.append(mask(text, findings))
                score[row] -= len(findings)
            changed[field] = np.array(rows, np.int64), masked
        return with_column(with_texts(records, changed), pa.field("score_pii", pa.float32(), False), pa.array(score))


def mask(text: str, findings: list[Finding]) -> str:
    """The text with a token in the place of each finding. findings: ascending, apart from each other."""
    pieces, at = [], 0
    for finding in findings:
        pieces += [text[at : finding.start], f"[{finding.kind}]"]
        at = finding.end
    return "".join([*pieces, text[at:]])


def _search(
    texts: pa.StringArray, kinds: tuple[Kind, ...], keep_examples: bool
) -> Iterator[tuple[int, str, list[Finding]]]:
    """Row, text and findings of each text that has some, ascending."""
    with_at = pl.Series(texts).str.contains("@", literal=True).to_numpy()
    rows = np.flatnonzero(_may_hold_number(*buffers(texts)) | with_at)
    for row, text in zip(rows.tolist(), texts.take(pa.array(rows)).to_pylist(), strict=True):
        findings = find(text, kinds, keep_examples)
        if findings:
            yield row, text, findings


def find(text: str, kinds: tuple[Kind, ...] = KINDS, keep_examples: bool = True) -> list[Finding]:
    """Personal data in `text`, ascending, apart from each other."""
    source = _Source(text, [match.span() for match in _NUMBER.finditer(text)], keep_examples)
    found: list[Finding] = []
    for kind in KINDS:
        if kind in kinds:
            for start, end in _FINDERS[kind](source):
                if all(end <= other.start or start >= other.end for other in found):
                    found.append(Finding(kind, start, end))
    return sorted(found, key=lambda finding: finding.start)


class _Source(NamedTuple):
    """A text, where its numbers are (start and end), and whether examples do not count.

    The expressions below are slow where they may begin at any character. They search only around what is rare: an @, or
    a digit with others behind it.
    """

    text: str
    numbers: list[tuple[int, int]]
    keep_examples: bool

    def around_numbers(self, pattern: re.Pattern[str], min_chars: int) -> Iterator[re.Match[str]]:
        """The matches of `pattern` in and around numbers of at least `min_chars` characters."""
        for start, end in self.numbers:
            if end - start >= min_chars:
                yield from pattern.finditer(self.text, max(0, start - _BEFORE), end + _BEHIND)


_NUMBER = re.compile(r"[0-9][0-9 ().:/-]{5,}")
_BEFORE, _BEHIND = 4, 8  # characters around such a number that belong to it or are looked at


# E-mail: RFC 5322's dot-atom, shortened to what providers allow. RFC 2606 reserves domains for examples; the others
# stand in documentation just as often.
_MAX_LOCAL_PART, _MAX_DOMAIN = 64, 255  # characters
_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9][\w.+%-]{0,63}@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24})(?![\w@-])"
)
_EXAMPLE_DOMAIN = re.compile(
    r"(?i)(?:^|\.)(?:(?:example|test|invalid|localhost|local|internal|lan)|"
    r"(?:example|sample|test|domain|mydomain|yourdomain|email|company|yourcompany|mycompany|website|host|server|site|"
    r"acme|foo|bar|abc|xyz)\.[a-z.]{2,6})$"
)
_NO_MAILBOX = re.compile(r"(?i)^(?:git|no-?reply|do-?not-?reply)@")
_NO_DOMAIN = re.compile(
    r"(?i)\.(?:jsx?|tsx?|json|ya?ml|txt|md|html?|css|xml|png|jpe?g|gif|svg|pdf|csv|exe|dll|jar|java|conf)$"
)


def _emails(source: _Source) -> Iterator[tuple[int, int]]:
    for at in re.finditer("@", source.text):
        first, last = max(0, at.start() - _MAX_LOCAL_PART), at.end() + _MAX_DOMAIN
        for match in _EMAIL.finditer(source.text, first, last):
            if match.start() < at.start() < match.end() and _is_personal(match[0], match[1], source.keep_examples):
                yield match.span()


def _is_personal(address: str, domain: str, keep_examples: bool) -> bool:
    if _NO_MAILBOX.search(address) or _NO_DOMAIN.search(domain):
        return False
    return not (keep_examples and _EXAMPLE_DOMAIN.search(domain))


# IBAN: ISO 13616. Length by country, from the registry of SWIFT.
_IBAN = re.compile(
    r"[A-Z](?<![A-Za-z0-9].)[A-Z][0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"
)
_IBAN_LENGTHS: dict[str, int] = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


def _ibans(source: _Source) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(source.text):
        account = re.sub(r"[ -]", "", match[0])
        digits = "".join(str(int(character, 36)) for character in account[4:] + account[:4])
        if len(account) == _IBAN_LENGTHS.get(account[:2], 0) and int(digits) % 97 == 1:
            yield match.span()


# Payment cards: ISO/IEC 7812. A number without groups is one only where the text says so: a tenth of all integers
# passes Luhn's test.
_CARD = re.compile(
    r"(?<![\w.,+*/^-])(?<![0-9][ ])"
    r"(?:[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,3})?|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5}|([0-9]{13,19}))"
    r"(?![\w*/^-])(?![.,][0-9])(?! [0-9])"
)
_CARD_WORDS = re.compile(
    r"(?i)\b(?:card|visa|master ?card|amex|american express|discover|maestro|cvv|cvc|debit|credit)\b"
)
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d+|3[47]\d{13}|"
    r"(?:6011|65|64[4-9])\d+|(?:36|38|30[0-5])\d+|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}|(?:50|5[6-9]|6[37])\d+"
)


def _cards(source: _Source) -> Iterator[tuple[int, int]]:
    for match in source.around_numbers(_CARD, 13):
        number = re.sub(r"[ -]", "", match[0])
        if _ISSUERS.fullmatch(number) and _luhn(number) and (not match[3] or _CARD_WORDS.search(source.text)):
            yield match.span()


def _luhn(number: str) -> bool:
    """Whether the last digit is the check digit of the others (Luhn 1954)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(number))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


# IP addresses that are routed on the internet. Section numbers and versions look like them.
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IP4 = re.compile(rf"(?<![\w.:-])(?:{_OCTET}\.){{3}}{_OCTET}(?![\w-])(?!\.[0-9])(?!/[0-9])")
_IP6 = re.compile(r"[23](?<![\w:.].)[0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{1,4}:|:){1,6}[0-9A-Fa-f]{1,4}(?![\w:])(?!/[0-9])")
_TWO_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_VERSION_WORDS = re.compile(
    r"(?i)(?:versions?|ver\.?|v|releases?|builds?|sections?|chapters?|firmware|oid|§|[=<>~!]=|[~^]) ?$"
)
_IP_WORDS = re.compile(r"(?i)\b(?:ip|ipv[46]|address|host|ping|server|login|client|ssh)\b")
_PUBLIC_SERVICES = {"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220"}
_MAX_VERSION_PART = 30


def _ips(source: _Source) -> Iterator[tuple[int, int]]:
    for match in source.around_numbers(_IP4, 7):
        address = ipaddress.IPv4Address(match[0])
        before = source.text[max(0, match.start() - 40) : match.start()]
        if _VERSION_WORDS.search(before) or (max(address.packed) < _MAX_VERSION_PART and not _IP_WORDS.search(before)):
            continue
        if not source.keep_examples or (address.is_global and match[0] not in _PUBLIC_SERVICES):
            yield match.span()
    for match in _IP6.finditer(source.text) if _TWO_COLONS.search(source.text) else ():
        try:
            global_address = ipaddress.IPv6Address(match[0]).is_global
        except ValueError:
            continue
        if global_address or not source.keep_examples:
            yield match.span()


# Telephone numbers: in international form, in the groups of North America, and any with the word for it before it.
_PHONE = re.compile(
    r"(?<![\w+*/=^.,:$-])(?<![0-9)] )(?:"
    r"(?P<world>\+[1-9][0-9]{0,2}[ .\-/]?(?:\([0-9]{1,5}\)[ .\-/]?)?(?:[0-9]{1,14}[ .\-/]?){1,5}[0-9])"
    r"|(?P<america>(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}([.-]))[2-9][0-9]{2}[.-][0-9]{4})"
    r"|(?P<local>\(?0[0-9]{1,5}\)?(?:[ ./-][0-9]{2,8}){1,4}|0[0-9]{8,11})"
    r")(?![\w/-])(?![.,][0-9])(?! ?[=+*^])"
)
_PHONE_WORDS = re.compile(
    r"(?i)\b(?:tel|tél|telephone|telefon\w*|téléphone|teléfono|telefono|phone|mobile|mobil|handy|cell|fax|whatsapp|call|"
    r"dial|sms|contact|hotline)\b[^\n0-9]{0,20}$"
)
_WORLD_DIGITS = 8


def _phones(source: _Source) -> Iterator[tuple[int, int]]:
    for match in source.around_numbers(_PHONE, 8):
        number = match[0].rstrip(" .-/")
        before = source.text[max(0, match.start() - 40) : match.start()]
        if match["local"]:
            digits = sum(character.isdigit() for character in number)
            if not 9 <= digits <= 12 or not _PHONE_WORDS.search(before):
                continue
        elif not _is_phone_number(number, None if match["world"] else "US"):
            continue
        yield match.start(), match.start() + len(number)


@functools.lru_cache(maxsize=4096)
def _is_phone_number(number: str, region: str | None) -> bool:
    """Whether the numbering plan of its country has the number."""
    import phonenumbers  # here, since it takes a while to load

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


_FINDERS: Mapping[Kind, Callable[[_Source], Iterator[tuple[int, int]]]] = {
    "email": _emails, "iban": _ibans, "card": _cards, "ip": _ips, "phone": _phones,
}  # fmt: skip


# Classes of bytes: 0 other, 1 hexadecimal letter, 2 digit, 3 dot, 4 colon, 5 other separator within numbers.
_CLASSES = np.zeros(256, np.uint8)
for _class, _bytes in enumerate((b"", b"ABCDEFabcdef", b"0123456789", b".", b":", b" -/()")):
    _CLASSES[np.frombuffer(_bytes, np.uint8)] = _class


@kernel
def _may_hold_number(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which texts hold MIN_DIGITS digits with at most two separators between them, four numbers with dots, or five with
    colons: bool [rows]."""
    rows = len(offsets) - 1
    result = np.zeros(rows, np.bool_)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        while not result[row]:
            at = next_digit(data, at, end)
            if at == end:
                break
            digits, gap, dots, colons = 0, 0, 0, 0
            while at < end:
                which = _CLASSES[data[at]]
                if which == 2:
                    digits, gap = digits + 1, 0
                    if digits >= MIN_DIGITS or dots == 3:
                        result[row] = True
                        break
                elif which == 4 and colons == 3:
                    result[row] = True
                    break
                elif which == 0 or gap == 2:
                    break
                elif which == 1:  # hexadecimal: part of an address with colons
                    digits, dots = 0, 0
                else:
                    gap += 1
                    dots = dots + 1 if which == 3 and gap == 1 else 0
                    colons = colons + 1 if which == 4 else 0
                at += 1
    return result

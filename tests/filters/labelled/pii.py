# ruff: noqa: E501
"""Personal data of each kind, and what looks like it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import texts
from tests.filters.labelled.rows import Row

_NAMES = ("anna.meyer", "bob_77", "c.dupont", "jsmith", "li.wei", "maria-jose", "o.yilmaz", "team+sales", "x9")
_HOSTS = ("gmail.com", "uni-koeln.de", "mail.ru", "orange.fr", "yahoo.co.jp", "bbc.co.uk", "posteo.net", "qq.com")
_FRAMES = (
    "Write to {} for more.", "{}", "Contact: {}", "She left {} on the desk, and nobody asked.", "Schreiben Sie an {}.",
    "Son contact est {}, merci.", "name: Eva, contact: {}, city: Rome", "| Eva | {} |", "So the answer is 5.\n{}",
    "Escríbeme a {} mañana.", "Его контакт: {}.", "联系方式：{}。", "<a href='#'>{}</a>", "({})", "\"{}\"",
)  # fmt: skip
_PHONE_FRAMES = (
    "Call {} for more.", "Phone: {}", "Tel. {}", "Telefon: {}", "Tél : {}", "WhatsApp {}", "Fax {}, please.", "Mobile {}",
)  # fmt: skip
_NO_DATA = (
    "user@example.com is an example, as is ann@example.org.", "git clone git@github.com:owner/repo.git", "Version 1.2.3.4 fixes it.",
    "Listen on 127.0.0.1 or 192.168.0.17, with mask 255.255.255.0.", "ISBN 978-0-306-40615-7 and 0-306-40615-2",
    "From 2019-03-24 10:15:00 to 2021-12-31 23:59:59", "pi = 3.14159265358979323846", "The number 1234567890123456 is not prime.",
    "2^53 = 9007199254740992", "4 8 15 16 23 42 108 200 300", "1 000 000 000 000", "123-456-7890 is made up.", "x = +1234567890123",
    "Section 3.2.1.4 of the manual", "See 10.1000/182 and 10.1145/3292500.3330701", "@app.route('/')\ndef f(): pass", "p@ssw0rd!",
    "lodash@4.17.21 and react@18", "00:1A:2B:3C:4D:5E", "{500 \\choose 250} = 116744315788277682920934734762176619659230081180311446124100284957811112673608473715666417775521605376810865902709989580160",
    "2 + 4155552671 = 4155552673", "200-300-4000 = -4100", "0123456789", "1990 1991 1992 1993 1994 1995", "Call me at noon.",
    "Lat 52.5200, long 13.4050", "#FF5733 0xDEADBEEF 550e8400-e29b-41d4-a716-446655440000", "8.8.8.8 is a public name server.",
    "std::vector<int>::iterator a::b::c", "1.5 2.5 3.5 4.5", "Score: 21-19, 18-21, 21-23", "$4,111,111,111,111,111", "fe80::1 and ::1",
    "GB12 is a postcode; DE89 a motor.", "@grace and @alan met.", "5:4:3:2:1", "12/31/1999 11/30/2000 01/02/2003", "a@b", "10.0.0.0/8",
    "The odds are 1:1000000, or 0.000001.", "Row 1: 4532 8821 7710", "SELECT 4242424242424243;", "IP of the host: 198.51.100.7",
)  # fmt: skip


def _card(random: Random) -> str:
    prefix, size = random.choice(
        (("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("6011", 16))
    )
    number = prefix + "".join(str(random.randint(0, 9)) for _ in range(size - 1 - len(prefix)))
    total = sum(d if i % 2 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(map(int, reversed(number))))
    number += str(-total % 10)
    separator = random.choice(" -")
    groups = (4, 10, 15) if size == 15 else (4, 8, 12, 16)
    return separator.join(number[a:b] for a, b in zip((0, *groups), groups, strict=False))


def _iban(random: Random) -> str:
    country, length = random.choice((("DE", 22), ("NL", 18), ("FR", 27), ("ES", 24), ("AT", 20), ("PL", 28)))
    account = "".join(str(random.randint(0, 9)) for _ in range(length - 4))
    if country == "NL":
        account = "ABNA" + account[4:]
    digits = "".join(str(int(c, 36)) for c in f"{account}{country}00")
    number = f"{country}{98 - int(digits) % 97:02}{account}"
    return " ".join(number[i : i + 4] for i in range(0, length, 4)) if random.random() < 0.6 else number


def _phone(random: Random) -> str:
    d = [str(random.randint(0, 9)) for _ in range(12)]
    return random.choice(
        (
            f"+44 20 7946 0{d[0]}{d[1]}{d[2]}", f"+1 415-555-2{d[0]}{d[1]}{d[2]}", f"+1 (212) 736-5{d[0]}{d[1]}{d[2]}",
            f"(415) 555-2{d[0]}{d[1]}{d[2]}", f"212-736-5{d[0]}{d[1]}{d[2]}", f"+33 1 42 68 5{d[0]} {d[1]}{d[2]}",
            f"+49 30 9018{d[0]}{d[1]}{d[2]}{d[3]}", f"+49 (0)89 2180{d[0]}{d[1]}{d[2]}{d[3]}", f"+34 91 523 {d[0]}{d[1]} {d[2]}{d[3]}",
            f"+91 98765 4{d[0]}{d[1]}{d[2]}{d[3]}", f"+81 3-3581-{d[0]}{d[1]}{d[2]}{d[3]}", f"+61 2 9374 4{d[0]}{d[1]}{d[2]}",
            f"+7 495 123-4{d[0]}-{d[1]}{d[2]}", f"+86 10 6552 9{d[0]}{d[1]}{d[2]}", f"+447911123{d[0]}{d[1]}{d[2]}",
            f"030 9018{d[0]}{d[1]}{d[2]}{d[3]}", f"0171/12345{d[0]}{d[1]}", f"01 42 68 5{d[0]} {d[1]}{d[2]}", f"020 7946 0{d[0]}{d[1]}{d[2]}",
        )
    )  # fmt: skip


def _ip(random: Random) -> str:
    first = random.choice((5, 23, 46, 81, 93, 142, 151, 185, 212))
    if random.random() < 0.2:
        return f"2a00:1450:4001:{random.randint(0x800, 0xFFF):x}::{random.randint(0x2000, 0xFFFF):x}"
    return f"{first}.{random.randint(31, 255)}.{random.randint(0, 255)}.{random.randint(1, 254)}"


def good(data: Path | None) -> Iterator[Row]:
    """Numbers and addresses that belong to nobody."""
    for n in range(160):
        random = Random(f"pii good {n}")
        sample = _NO_DATA[n % len(_NO_DATA)]
        yield Row("no personal data", str(n), "Say it.", f"{sample} {texts.sentence(random)}" if n % 2 else sample)
        numbers = [random.randint(1, 10 ** random.randint(1, 16)) for _ in range(6)]
        yield Row(
            "numbers",
            str(n),
            "Give some numbers.",
            random.choice((" ", ", ", "-", "\n", " + ")).join(map(str, numbers)),
        )


def bad(data: Path | None) -> Iterator[Row]:
    """One of each kind, in frames of several languages."""
    for n in range(60):
        random = Random(f"pii bad {n}")
        yield Row(
            "email", str(n), "Go on.", random.choice(_FRAMES).format(f"{random.choice(_NAMES)}@{random.choice(_HOSTS)}")
        )
        yield Row("phone", str(n), "Go on.", random.choice(_PHONE_FRAMES).format(_phone(random)))
        yield Row("ip", str(n), "Go on.", random.choice(_FRAMES).format(_ip(random)))
        yield Row("card", str(n), "Go on.", random.choice(_FRAMES).format(_card(random)))
        yield Row("iban", str(n), "Go on.", random.choice(_FRAMES).format(_iban(random)))

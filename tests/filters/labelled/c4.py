"""Web boilerplate, and texts about it or that were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import texts
from tests.filters.labelled.rows import Row

_LOREM = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore.",
    "Lorem ipsum dolor sit amet.",
    "LOREM IPSUM DOLOR SIT AMET, CONSECTETUR ADIPISCING ELIT.",
)
_NOTICES = (
    "Please enable JavaScript to view this page.",
    "JavaScript is disabled in your browser. Please turn it on to continue.",
    "This site requires JavaScript to work properly.",
    "Your browser does not support JavaScript.",
    "You need to enable JavaScript to run this app.",
    "We use cookies. By continuing to browse this site you agree to our use of cookies.",
    "This website uses cookies to improve your experience.",
    "By using our site, you agree to our terms of service and privacy policy.",
    "By continuing to use this website you accept our use of cookies.",
    "Our site uses cookies to serve you better. Accept all cookies?",
    "This site uses cookies from Example to deliver its services and to analyze traffic.",
    "By clicking Accept, you consent to the use of cookies.",
)
_ASKS_NOTICE = (
    "Write a cookie banner text for a shop.", "Write the cookie notice of our web site.", "Write a noscript message.",
    "What does a page show when JavaScript is disabled?", "Draft the privacy policy of a blog.",
    "Write a consent text about cookies.", "Which message asks visitors to turn on JavaScript?",
    "Write terms of service for a small site.", "Give an example of what a GDPR banner says.",
)  # fmt: skip
_ASKS_FILLER = (
    "Generate an HTML page with placeholder text.", "Give me some dummy text of two sentences.",
    "Fill the mockup with filler text.", "Give an example of lorem ipsum.", "Insert sample text into the template.",
    "Count the words of: Lorem ipsum dolor sit amet", "Write a CSS layout with a long paragraph.",
)  # fmt: skip
_OTHERS = (
    "Summarise the article.", "What happened in the harbour?", "Explain how tides work.", "Write a poem about autumn.",
    "How do I bake bread?", "Describe Rome.", "Who wrote the novel?", "Tell me about whales.", "Translate the text.",
    "What is the main idea of the passage?", "Give advice for a job interview.", "Continue the story.",
)  # fmt: skip
_ABOUT = (
    "A privacy policy says what a site does with data. JavaScript is a language that browsers run.",
    "Cookies are small files that a site stores in the browser; they were invented in 1994.",
    "To bake cookies you need flour, butter and sugar. Use the middle of the oven.",
    "Set `javascript.enabled` to true in about:config, then restart the browser.",
    "The filler text of typesetters is a garbled passage of Cicero.",
)


def good(data: Path | None) -> Iterator[Row]:
    """Boilerplate that was asked for, and texts about it."""
    for n in range(160):
        random = Random(f"c4 good {n}")
        notice, filler = random.choice(_NOTICES), random.choice(_LOREM)
        yield Row("notice that was asked for", str(n), random.choice(_ASKS_NOTICE), notice)
        yield Row("filler that was asked for", str(n), random.choice(_ASKS_FILLER), f"<p>{filler}</p>")
        about = random.choice(_ABOUT)
        yield Row("about boilerplate", str(n), random.choice(_OTHERS), f"{about} {texts.sentence(random)}")


def bad(data: Path | None) -> Iterator[Row]:
    """Boilerplate in place of an answer, and around one."""
    for n in range(240):
        random = Random(f"c4 bad {n}")
        notice = random.choice((*_NOTICES, *_NOTICES, *_LOREM))
        shape = random.choice(("{notice}", "{text} {notice}", "{notice} {text}", "{text}\n\n{notice}\n\n{text}"))
        made = shape.format(notice=notice, text=texts.prose(random, random.randint(1, 4)))
        yield Row("boilerplate", str(n), random.choice(_OTHERS), made)

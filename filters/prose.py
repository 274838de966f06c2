"""Prose: what is left of a text without code, formulas, addresses and markup; and requests about other languages.

`language` and `script` judge natural language, so they read only this part, and only of texts that they would judge
otherwise.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

_MARKUP = (
    # Fenced code and code spans.
    r"(?s:```.*?(?:```|\z)|~~~.*?(?:~~~|\z))|`[^`\n]+`"
    # TeX: displays, inline formulas, environments, commands. One that never ends reaches to the end of the text.
    r"|(?s:\$\$.*?(?:\$\$|\z)|\\\[.*?(?:\\\]|\z)|\\\(.*?(?:\\\)|\z))|\$[^$\n]+\$"
    r"|(?s:\\begin\{\w+\*?\}.*?(?:\\end\{\w+\*?\}|\z)|\[asy\].*?(?:\[/asy\]|\z))|\\[A-Za-z]+"
    # Keys of data, tags and addresses.
    r"|\"[^\"\n]*\"\s*:|</?[A-Za-z!][^<>\n]*>|&#?\w+;|(?:https?://|www\.)[!-~]+|[\w.+-]+@[\w-]+\.[\w.]+"
)
# A run of ASCII with a digit, a sign of formulas and programs, a call, or camel case is no word. Runs end at other
# characters, because text in Han or kana has no spaces.
_NO_WORD = r"[!-~]*(?:[0-9_=<>{}\\^|+*/#@~$%&]|[A-Za-z]\(|[a-z][A-Z]|;\s)[!-~]*"


def prose(texts: pa.StringArray) -> pa.StringArray:
    """The texts [rows] without code, formulas, tags, addresses, and words that hold digits or signs of programs."""
    series = pl.Series(texts, dtype=pl.String)
    return series.str.replace_all(_MARKUP, " ").str.replace_all(_NO_WORD, " ").to_arrow().cast(pa.string())


_NAMES = {
    "af": "afrikaans", "am": "amharic", "ar": "arabic", "az": "azerbaijani", "be": "belarusian", "bg": "bulgarian",
    "bn": "bengali|bangla", "bs": "bosnian", "ca": "catalan", "ceb": "cebuano", "cs": "czech", "cy": "welsh",
    "da": "danish", "de": "german|deutsch", "el": "greek", "en": "english", "eo": "esperanto", "es": "spanish",
    "et": "estonian", "eu": "basque", "fa": "persian|farsi", "fi": "finnish", "fr": "french", "ga": "irish|gaelic",
    "gl": "galician", "gu": "gujarati", "ha": "hausa", "haw": "hawaiian", "he": "hebrew", "hi": "hindi",
    "hr": "croatian", "hu": "hungarian", "hy": "armenian", "id": "indonesian", "ig": "igbo", "is": "icelandic",
    "it": "italian", "ja": "japanese", "jv": "javanese", "ka": "georgian", "kk": "kazakh", "km": "khmer",
    "kn": "kannada", "ko": "korean", "ku": "kurdish", "la": "latin", "lo": "lao", "lt": "lithuanian", "lv": "latvian",
    "mi": "maori", "mk": "macedonian", "ml": "malayalam", "mn": "mongolian", "mr": "marathi", "ms": "malay",
    "mt": "maltese", "my": "burmese", "ne": "nepali", "nl": "dutch|flemish", "no": "norwegian|bokm.l|nynorsk",
    "pa": "punjabi", "pl": "polish", "ps": "pashto", "pt": "portuguese|brazilian", "ro": "romanian", "ru": "russian",
    "sa": "sanskrit", "sd": "sindhi", "si": "sinhala", "sk": "slovak", "sl": "slovene|slovenian", "so": "somali",
    "sq": "albanian", "sr": "serbian", "sv": "swedish", "sw": "swahili", "ta": "tamil", "te": "telugu", "tg": "tajik",
    "th": "thai", "tl": "tagalog|filipino", "tr": "turkish", "uk": "ukrainian", "ur": "urdu", "uz": "uzbek",
    "vi": "vietnamese", "xh": "xhosa", "yi": "yiddish", "yo": "yoruba", "zh": "chinese|mandarin|cantonese",
    "zu": "zulu",
}  # fmt: skip
"""English names of languages by their ISO 639-1 code, else 639-3."""

_TRANSLATE = {
    "en": r"\btranslat|\btranslit|\bromani[sz]e", "de": "übersetz",
    "fr": r"\btradui|\btraduction", "es": r"\btradu[cz]",
    "it": r"\btradu[cz]", "pt": r"\btradu[zç]", "ro": r"\btradu", "nl": r"\bvertaa?l", "pl": "tłumacz", "cs": "přelož",
    "sv": "översätt", "da": "oversæt", "no": "oversett", "tr": "çevir", "vi": r"\bdịch\b", "id": "terjemah",
    "ru": "перев[её]д|перевод", "uk": "переклад", "zh": "翻译|翻譯", "ja": "翻訳|訳し", "ko": "번역", "ar": "ترجم",
    "hi": "अनुवाद", "el": "μετάφρα|μετέφρα|μεταφρά",
}  # fmt: skip
"""Words for translation in languages that a recipe may want."""

LANGUAGES_OF_SCRIPT = {
    "cyrillic": ("ru", "uk"), "han": ("zh", "ja"), "kana": ("ja",), "hangul": ("ko",), "arabic": ("ar",),
    "indic": ("hi",), "greek": ("el",),
    "latin": ("en", "de", "fr", "es", "it", "pt", "ro", "nl", "pl", "cs", "sv", "da", "no", "tr", "vi", "id"),
}  # fmt: skip
"""Languages with words for translation, by script."""

_ABOUT_WORDS = (
    r"\b(?:foreign|native|original|another|other|which|what|mother) (?:language|tongue)|lingual\b|\balphabet|\bkanji\b|"
    r"\bhiragana|\bkatakana|\bpinyin|\bhangul|\bcyrillic|\bdevanagari|\bpronounc|\bpronunciation|\bhaiku\b|"
    r"\b(?:word|phrase|sentence|expression|saying|idiom|proverb|motto|title|lyrics?) [\"'“‘«「`*]|"
    r"\bwhat (?:does|is|do|are|did) (?:the )?(?:word |phrase |sign |text )?[\"'“‘«「`*]|\bwhat does .{1,80} mean\b|"
    r"\bmeaning of\b"
)
_WHAT = (
    r"words?|phrases?|names?|terms?|for|translations?|letters?|characters?|language|texts?|scripts?|sentences?|poems?|"
    r"poetry|poets?|songs?|lyrics|proverbs?|idioms?|sayings?|expressions?|verbs?|nouns?|grammar|spelling|equivalents?|"
    r"versions?|titles?|quotes?|slang|dish(?:es)?|cuisine|food|literature|greetings?|article|review|passage|paragraph"
)


_PARTS = re.compile(r"[\n:：=|]+|(?:(?<=[\s(（])|\A)[\"“„«‹『「'‘`]|[\"”»›』」'’`](?=[\s.,;?!)）]|\Z)")
"""What stands between a task and the text that it is about: line ends, colons, quotation marks."""
_ENGLISH_TASK = re.compile(
    r"\A\W*(?:please |can you |could you |would you )?(?:summari[sz]e|classify|detect|identify|proofread|answer|"
    r"explain|paraphrase|count|extract|give|list|rewrite|translate|describe|analy[sz]e|find|tell|write|read|determine|"
    r"what|which|does|do you|is (?:this|the|it|there)|are (?:these|there)|who|how (?:many|is|are|does|would)|based on|"
    r"given the|would you|should)\W+[a-z]+|"
    r"\b(?:the|this|these|that) [a-z]+(?: [a-z]+)* (?:is|are|was|in|of|below|above|positive|negative|expresse[sd])\b|"
    r"\A\W*(?:summari[sz]e|classify|detect|identify|proofread|paraphrase|rewrite|translate|describe|explain)\W*\Z|"
    r"\bin english\b",
    re.IGNORECASE,
)
"""A task in English: an imperative or a question with a word behind it, or a sentence that is left open."""


class LanguageRequests(NamedTuple):
    """What instructions say about languages, bool [rows].

    other: they ask for another language than the wanted ones, for a translation, or about a foreign word, in a wanted
    language. answer_wanted: the answer is to be in a wanted language all the same ("translate into English").
    foreign_text: they ask for a translation in any language, or have a task in English about a text in another. Such an
    instruction may be foreign itself, if the answer is in a wanted language.
    """

    other: npt.NDArray[np.bool_]
    answer_wanted: npt.NDArray[np.bool_]
    foreign_text: npt.NDArray[np.bool_]


def code_of(name: str) -> str:
    """The ISO 639 code of a language that is named otherwise: `English`, `en-US`, `EN`; "" if the name is unknown."""
    word = name.casefold().strip()
    code = next((code for code, names in _NAMES.items() if re.fullmatch(names, word)), "")
    return code or re.split("[-_]", word)[0]


def language_requests(instructions: pa.StringArray, wanted: tuple[str, ...]) -> LanguageRequests:
    """Read what `instructions` [rows] say about languages. wanted: ISO 639 codes."""
    others, own = (
        "|".join(names for code, names in _NAMES.items() if (code in wanted) is inside) or r"\b\B"
        for inside in (False, True)
    )
    translate = "|".join(words for code, words in _TRANSLATE.items() if code in wanted) or r"\b\B"
    target = rf"(?i)\b(?:in|into|to|as) (?:{others})\b"
    about = (
        rf"(?i){translate}|{_ABOUT_WORDS}|\b(?:from|speak|write) (?:{others})\b"
        rf"|\b(?:{others}) (?:\w+ ){{0,2}}(?:{_WHAT})\b"
    )
    into_other, about_other, into_own = (
        np.asarray(pc.match_substring_regex(instructions, pattern))
        for pattern in (target, about, rf"(?i)\b(?:in|into|to) (?:{own})\b")
    )
    foreign = np.asarray(pc.match_substring_regex(instructions, f"(?i){'|'.join(_TRANSLATE.values())}"), np.bool_)
    if "en" in wanted:
        foreign |= np.fromiter(map(_has_english_task, instructions.to_pylist()), np.bool_, len(instructions))  # few
    return LanguageRequests(into_other | about_other, into_own & ~into_other, foreign)


def _has_english_task(instruction: str) -> bool:
    """Whether the first or the last part of an instruction, outside of quotations, is a task in English."""
    parts = [part for part in _PARTS.split(instruction) if re.search(r"[^\W\d_]{2}", part)]
    return any(_ENGLISH_TASK.search(part) is not None for part in (*parts[:2], *parts[-2:]))

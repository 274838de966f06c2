"""Notations: reasoning that is marked by phrases, headings, HTML or JSON instead of tags is written as tags.

Each notation has a cheap test over the column, and rewrites only the rows that pass. `filters.thinking.strip` gives a
row back as it was if nothing is cut from what is written here.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_HERE = r"here(?:'s|’s| is| are) my "
_LEAD, _COLON = r"(?:#{1,6} |\*\*|__)?", r"(?::(?:\*\*|__)?|(?:\*\*|__):)"  # a heading, or in bold
_PHRASE = rf"{_LEAD}{_HERE}(?:thought|thinking|reasoning) process{_COLON}"
_NAME = (
    r"(?:my |internal |inner )?(?:thinking|thoughts?|chain[ -]of[ -]thought|scratchpad|internal monologue)(?: process)?"
)
_ANSWER = r"(?:the |my )?(?:final )?(?:answer|response|output|solution|result|reply)"
_CERTAIN = r"(?:thinking(?: process)?|thought process|chain[ -]of[ -]thought|internal monologue)"


def _heading(name: str) -> str:
    """`## NAME` on a line of its own, or `**NAME:**`."""
    return rf"(?:#{{1,6}}[ \t]+(?:\*\*)?{name}:?(?:\*\*)?:?[ \t]*\n|(?:\*\*|__){name}:?(?:\*\*|__):?)"


_ANSWER_HEADING = (
    rf"\n[ \t]*(?:#{{1,6}}[ \t]+(?:\*\*)?{_ANSWER}:?(?:\*\*)?:?|(?:\*\*|__){_ANSWER}:?(?:\*\*|__):?|{_ANSWER}:)"
)


def _tags(family: str, inner: str = r"\1") -> str:
    return f"<|winnow:{family}|>{inner}<|/winnow:{family}|>"


# Family, a pattern that tells the rows, the pattern that is replaced, what replaces it, and a pattern that must not be
# there. Patterns begin with ^, so that the first test reads the beginning of a text only.
_OPENINGS = (
    # gpt-oss, where decoding left only the names of the channels.
    (r"^analysis", r"(?s)^analysis(.*)assistantfinal", r"<|channel|>analysis<|message|>\1<|end|>", None),
    (r"^analysis(?:The |We |I |User |Let |Need |They |It |This |So |Okay|OK)", r"^analysis", "<|winnow:phrase|>", None),
    # Granite
    (
        rf"(?i)^\s*{_PHRASE}",
        rf"(?is)^\s*{_PHRASE}(.*?)(?:{_LEAD}{_HERE}(?:final )?(?:response|answer){_COLON}|\z)",
        _tags("phrase"),
        None,
    ),
    # What `ollama run` prints
    (
        r"(?i)^\s*thinking(?:\.\.\.|…)[ \t]*\r?\n",
        r"(?is)^\s*thinking(?:\.\.\.|…)[ \t]*\r?\n(.*?)\n[ \t]*(?:\.\.\.|…)[ \t]*done thinking\.?[ \t]*(?:\r?\n|\z)",
        _tags("phrase"),
        None,
    ),
    (
        rf"(?i)^\s*{_heading(_NAME)}",
        rf"(?is)^\s*{_heading(_NAME)}(.*?){_ANSWER_HEADING}",
        _tags("heading"),
        None,
    ),
    # No heading of an answer, and no other heading either, as a document would have.
    (
        rf"(?i)^\s*{_heading(_CERTAIN)}",
        rf"(?i)^\s*{_heading(_CERTAIN)}",
        "<|winnow:heading|>",
        r"\n[ \t]*(?:#{1,6} |\*\*[^*\n]+\*\*:?[ \t]*\n|__)",
    ),
    (
        r"(?i)^\s*thinking(?: process)?:",
        rf"(?is)^\s*thinking(?: process)?:(.*?)\n[ \t]*{_ANSWER}:",
        _tags("heading"),
        None,
    ),
    # The name of a channel alone on the first line, and then sentences: the tokens around it were lost in decoding.
    (
        r"^\s*(?:thought|thinking|think|analysis)[ \t]*\r?\n\s*[^a-z\s]\S*(?:[ \t]+\S+){3}",
        r"^\s*(?:thought|thinking|think|analysis)[ \t]*\r?\n",
        "<|winnow:word|>",
        None,
    ),
)
_SUMMARY = r"(?:[^<]|</?[a-z]+>)*"
_DETAILS = (
    r"(?is)<details\b(?:[^<>]*\btype=.?reasoning[^<>]*>(?:\s*<summary>.*?</summary>)?|[^<>]*>\s*<summary>"
    rf"{_SUMMARY}\b(?:thoughts?|thinking|reasoning|chain of thought)\b{_SUMMARY}</summary>)(.*?)(?:</details>|\z)"
)
_COMMENT = (
    r"(?is)<!--\s*(?:thinking|thoughts?|reasoning|chain of thought|scratchpad|internal monologue)\s*[:\n]"
    r"(.*?)(?:-->|\z)"
)
# A code fence that is the whole response and holds reasoning and an answer.
_FENCE = (
    r"(?is)^\s*```(?:xml|html|text|txt|markdown|md|plaintext)?[ \t]*\n"
    r"(\s*<(?:think|thinking|thoughts?|reasoning|scratchpad)>[^`]*</[a-z_]+>\s*[^\s`][^`]*)\n```\s*$"
)

_KEYS = [
    "reasoning",
    "thinking",
    "thought",
    "thoughts",
    "reasoning_content",
    "chain_of_thought",
    "cot",
    "rationale",
    "scratchpad",
    "thought_process",
    "reasoning_steps",
    "thinking_process",
    "reasoning_process",
    "inner_monologue",
]
_ANSWER_KEYS = [
    "answer",
    "final_answer",
    "response",
    "final_response",
    "output",
    "result",
    "solution",
    "content",
    "text",
    "reply",
]
_JSON_HINT = r'(?i)^\s*(?:```(?:json)?\s*)?[\{\[][\s\{]*"[^"]{1,40}"\s*:'
_JSON_KEY = rf'(?i)"(?:{"|".join(_KEYS)})"\s*:'


_OPENING_HINT = r"(?i)^\s*(?:#|\*\*|__|```|\{|\[|<details|<!--|here(?:'s|’s| is| are) my |analysis|thought|think)"


def write_as_tags(texts: pa.StringArray) -> pa.StringArray:
    """The texts, with the reasoning that a notation marks at their beginning between the tags of its family.

    Returns the same object if there is none.
    """
    rows = _places(pc.match_substring_regex(texts, _OPENING_HINT))
    if not len(rows):
        return texts
    given = texts.take(pa.array(rows))
    written = _write_openings(given)
    new = _places(pc.not_equal(written, given))
    return _put(texts, rows[new], written.take(pa.array(new))) if len(new) else texts


def _write_openings(texts: pa.StringArray) -> pa.StringArray:
    """The notations that begin a text, in texts that may have one."""
    for hint, pattern, written, unless in _OPENINGS:
        rows = pc.match_substring_regex(texts, hint)
        if unless is not None and pc.any(rows).as_py():
            rows = pc.and_not(rows, pc.match_substring_regex(texts, unless))
        texts = _replace(texts, _places(rows), pattern, written)
    texts = _replace(texts, _places(pc.match_substring_regex(texts, r"(?i)^\s*<details")), _DETAILS, _tags("details"))
    texts = _replace(texts, _places(pc.match_substring_regex(texts, r"^\s*<!--")), _COMMENT, _tags("comment"))
    texts = _replace(texts, _places(pc.match_substring_regex(texts, r"^\s*```")), _FENCE, r"\1")
    rows = _places(pc.match_substring_regex(texts, _JSON_HINT))
    if len(rows):
        rows = rows[_places(pc.match_substring_regex(texts.take(pa.array(rows)), _JSON_KEY))]
    if len(rows):
        # A loop over responses that are JSON with a key of reasoning.
        texts = _put(
            texts, rows, pa.array([_from_json(text) for text in texts.take(pa.array(rows)).to_pylist()], pa.string())
        )
    return texts


def _places(mask: pa.BooleanArray) -> npt.NDArray[np.int64]:
    return np.flatnonzero(mask.to_numpy(zero_copy_only=False))


def _replace(texts: pa.StringArray, rows: npt.NDArray[np.int64], pattern: str, written: str) -> pa.StringArray:
    if not len(rows):
        return texts
    return _put(texts, rows, pc.replace_substring_regex(texts.take(pa.array(rows)), pattern, written))


def _put(texts: pa.StringArray, rows: npt.NDArray[np.int64], new: pa.StringArray) -> pa.StringArray:
    mask = np.zeros(len(texts), np.bool_)
    mask[rows] = True
    return pc.replace_with_mask(texts, pa.array(mask), new)


def _from_json(text: str) -> str:
    """A JSON object with a member of reasoning and one of an answer: the reasoning as a block, then the answer.

    The answer is the text of its member if nothing else is left of the object, and the rest of the object otherwise. A
    list of parts (`[{"type": "thinking", ...}, {"type": "text", ...}]`) is read in the same way. Other text is returned
    as it is.
    """
    inner = text.strip()
    if inner.startswith("```"):
        inner = inner.removeprefix("```").removeprefix("json").removeprefix("JSON").strip().removesuffix("```").strip()
    try:
        value = json.loads(inner, strict=False)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, list):
        parts = [part for part in value if isinstance(part, dict) and isinstance(part.get("type"), str)]
        if len(parts) != len(value):
            return text
        value = {}
        for part in parts:
            name = part["type"].lower()
            value.setdefault(name, [])
            value[name].append(str(part.get(part["type"], part.get("text", part.get("content", "")))))
        value = {name: "\n".join(said) for name, said in value.items()}
    if not isinstance(value, dict):
        return text
    reasons = [key for key in value if key.lower() in _KEYS]
    rest: dict[str, Any] = {key: said for key, said in value.items() if key not in reasons}
    answers = [key for key in rest if key.lower() in _ANSWER_KEYS]
    if not reasons or not answers:
        return text
    said = rest[answers[0]] if len(rest) == 1 else rest
    answer = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    why = "\n".join(_text(value[key]) for key in reasons).replace("<|", "< |")
    return _tags("json", "").replace("><", ">" + why + "<") + answer


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

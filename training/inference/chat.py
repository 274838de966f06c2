"""Chat messages as a request: HRM-Text answers single instructions.

HRM-Text is trained on pairs of an instruction and its response. A chat is therefore one user message. Its instruction
is the text of that message, unchanged. A system message may name the condition and nothing else, because no system
prompt occurs in training. Conversations of several turns are refused: no row of a corpus holds one.

`chat_template` is the same rules in Jinja, for transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.errors import WinnowError
from training.inference.language_model import Request

DEFAULT_CONDITION = "direct"

CONDITIONS = ("direct", "cot", "noisy", "synth")
"""The condition tags of HRM-Text."""

ONE_TURN = (
    "the model is trained on single instructions; send one user message (a system message may name the condition)"
)
NO_SYSTEM_PROMPT = (
    "the model has no system prompt; a system message names a condition: direct, cot, noisy, synth, or several joined "
    "by commas. Put instructions into the user message"
)
TEXT_ONLY = "the content of a message must be text"


def read_messages(
    messages: Sequence[Mapping[str, Any]], condition: str | None = None, default: str = DEFAULT_CONDITION
) -> Request:
    """The request of a chat. condition: overrides the system message. default: if neither names one.

    Raises:
        WinnowError: if the messages are anything but an optional condition and one instruction.
    """
    roles = [message.get("role") for message in messages]
    named: str | None = None
    if roles[:1] in (["system"], ["developer"]):
        named, messages, roles = text_of(messages[0]).strip(), messages[1:], roles[1:]
        if any(tag not in CONDITIONS for tag in named.split(",")):
            raise WinnowError(f"messages: {NO_SYSTEM_PROMPT}")
    if roles != ["user"]:
        given = ", ".join(str(role) for role in roles) or "none"
        raise WinnowError(f"messages: {ONE_TURN}; roles given: {given}")
    return Request(condition or named or default, text_of(messages[0]))


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content is a string or a list of text parts.

    Raises:
        WinnowError: if it holds something else.
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content and all(_is_text(part) for part in content):
        return "".join(part["text"] for part in content)
    raise WinnowError(f"messages: {TEXT_ONLY}")


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def chat_template(tokens: Mapping[str, str], replacements: Sequence[tuple[str, str]]) -> str:
    """A chat template of transformers: BOQ, the condition's tokens, the instruction, EOQ.

    tokens: of `boq`, `eoq` and the conditions. replacements: applied to the instruction in order, so that it spells no
    control token.
    """
    tags = ", ".join(f"{_quoted(tag)}: {_quoted(tokens[tag])}" for tag in CONDITIONS if tag in tokens)
    escaped = "".join(f" | replace({_quoted(old)}, {_quoted(new)})" for old, new in replacements)
    return f"""\
{{%- set tokens = {{{tags}}} -%}}
{{%- macro text_of(message) -%}}
{{%- if message.content is string -%}}
{{{{- message.content -}}}}
{{%- else -%}}
{{%- for part in message.content -%}}
{{%- if part.type != 'text' -%}}{{{{- raise_exception({_quoted(TEXT_ONLY)}) -}}}}{{%- endif -%}}
{{{{- part.text -}}}}
{{%- endfor -%}}
{{%- endif -%}}
{{%- endmacro -%}}
{{%- set state = namespace(condition={_quoted(DEFAULT_CONDITION)}, messages=messages) -%}}
{{%- if messages[0].role in ('system', 'developer') -%}}
{{%- set state.condition = text_of(messages[0]).strip() -%}}
{{%- set state.messages = messages[1:] -%}}
{{%- for tag in state.condition.split(',') if tag not in tokens -%}}
{{{{- raise_exception({_quoted(NO_SYSTEM_PROMPT)}) -}}}}
{{%- endfor -%}}
{{%- endif -%}}
{{%- if condition is defined and condition -%}}{{%- set state.condition = condition -%}}{{%- endif -%}}
{{%- if state.messages | length != 1 or state.messages[0].role != 'user' -%}}
{{{{- raise_exception({_quoted(ONE_TURN)}) -}}}}
{{%- endif -%}}
{{{{- {_quoted(tokens["boq"])} -}}}}
{{%- for tag in state.condition.split(',') -%}}
{{%- if tag not in tokens -%}}
{{{{- raise_exception('condition: ' ~ tag ~ ' is not one of ' ~ tokens | join(', ')) -}}}}
{{%- endif -%}}
{{{{- tokens[tag] -}}}}
{{%- endfor -%}}
{{{{- text_of(state.messages[0]){escaped} -}}}}
{{{{- {_quoted(tokens["eoq"])} -}}}}
"""


def _quoted(text: str) -> str:
    assert "'" not in text and "\\" not in text, text
    return f"'{text}'"

"""What does the reason of a dropped row mean? By stage, in the order in which a build comes to them.

`docs/reasons.md` has the same list. A test compares both with the reasons that the code gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

REASONS: Mapping[str, Mapping[str, str]] = {
    "conform": {
        "broken_json": "The row is not valid JSON.",
        "not_an_object": "The row is valid JSON, but not an object.",
        "repeated_key": "The row has a requested key twice.",
        "wrong_type": "A list or an object stands where text was requested.",
        "non_text_part": "A message has a part that is not text, such as an image.",
        "wrong_columns": "The row has more or fewer fields than the file has columns.",
        "invalid_utf8": "The row is not valid UTF-8.",
        "oversize": "The row is longer than 256 MiB, or its texts have more than 8 MiB.",
        "no_messages": "The conversation has no messages.",
        "unknown_role": "A message before the first answer has a role other than system, user, assistant or tool.",
        "tool_turns": "The conversation uses a tool before or right after the first answer.",
        "no_user_turn": "No user message comes before the first answer.",
        "no_assistant_turn": "The conversation has no answer.",
        "no_instances": "The seed task has no instances.",
        "null_instruction": "The instruction is null, or the user's message has no `content`.",
        "null_response": "The response is null, or the answer has no `content`.",
        "unknown_condition": "The condition has a tag that HRM-Text does not have.",
    },
    "source": {
        "proof": "The problem asks for a proof, so no short answer can be checked.",
        "code": "The row is about code; HRM-Text leaves these rows of the data set out.",
        "synthetic": "The data set marks the problem as synthetic.",
        "invalid": "The data set marks the problem or its solution as invalid.",
        "no_answer": "The problem, its solution or its answer is empty or missing.",
        "no_solution": "The question has no explained solution.",
        "link": "The problem or its solution has a link.",
        "translation": "The solution ends with a request to translate it, which was left in the data set.",
        "original_problem": "The problem is one of MATH or GSM8K, and the corpus has those sets themselves.",
        "not_mathematics": "The row is not about mathematics.",
        "in_acereason": "The row is also in the source `acereason`.",
        "not_81_cells": "The puzzle or its solution does not have 81 cells.",
        "needs_picture": "The question cannot be answered without its picture.",
        "unlisted_task": "The task is none of those that HRM-Text lists.",
        "other_language": "The row is not in English.",
        "self_knowledge": "The row is about the assistant itself.",
        "cooking": "The exercise is about cooking; HRM-Text leaves it out.",
        "unknown_exercise": "The exercise is of a kind that has no condition, or is incomplete.",
    },
    "forgotten": {
        "forgotten": "The row, its source or its file was forgotten. Its texts are not kept.",
    },
    "thinking": {
        "thinking_tangled": "Tags of thinking stand within tags, too deep to remove.",
        "answer_unmarked": "A word or heading begins reasoning, and nothing shows where it ends.",
        "thinking_unclosed": "A block of thinking never ends: what followed it was cut off.",
        "thinking_without_answer": "Nothing is left beside the thinking.",
        "answer_unclosed": "The solution after the thinking begins with a control mark and never ends.",
        "thinking_present": "The response has thinking, and the recipe drops such rows.",
    },
    "strip_thinking": {
        "bare_answer": "A row of condition `cot` has only a bare answer left, and the recipe drops such rows.",
        "thinking_left": "A second scanner still finds a block of thinking in the row.",
        "empty_response": "Nothing is left of the response once its thinking is removed.",
    },
    "strip_signature": {"empty_response": "Nothing is left of the response once its signature is removed."},
    "repair": {"empty_response": "Nothing is left of the response once its characters are repaired."},
    "mask_pii": {"empty_response": "Nothing is left of the response once personal data are masked."},
    "rewrite": {
        "not_verified": "The model's final answer is another than expected, or missing.",
        "no_answer": "The model gave no text, or the prompt was too long for it.",
        "cut_off": "The model's answer is longer than `max_tokens`.",
    },
    "pii": {
        "email": "The text has an e-mail address.",
        "phone": "The text has a telephone number.",
        "ip": "The text has an IP address.",
        "card": "The text has the number of a payment card.",
        "iban": "The text has an IBAN.",
    },
    "placeholder": {
        "empty_instruction": "The instruction is blank.",
        "empty_response": "The response is blank.",
        "placeholder": "The response stands for one that was never written, such as `NaN` or `[Insert answer here]`.",
    },
    "length": {
        "too_short": "The text has fewer characters than `min_chars`.",
        "too_long": "The text has more characters than `max_chars`.",
    },
    "control": {
        "control_characters": "The text has control characters.",
        "replacement_characters": "The text has U+FFFD: bytes that could not be decoded.",
        "private_characters": "The text has characters of a private use area.",
        "mojibake": "The text was decoded with a wrong encoding.",
        "invisible_characters": "The text has characters that hide something, or too many invisible ones.",
    },
    "script": {"wrong_script": "Too large a share of the letters is of another writing system."},
    "language": {"other_language": "The text is certainly in another language."},
    "refusal": {
        "refusal": "The response declines the request.",
        "ai_disclaimer": "The response speaks of being a language model.",
    },
    "truncated": {
        "open_code": "A block of code never ends.",
        "open_environment": "A LaTeX environment never ends.",
        "open_formula": "A formula never ends.",
        "open_element": "An element of HTML never ends.",
        "open_bracket": "A bracket of a structure never closes.",
        "open_item": "The last item of a list or table is unfinished.",
        "open_ending": "The text ends with a comma or another sign that something follows.",
        "dangling_word": "The text ends with a word that cannot be the last.",
        "open_sentence": "The last sentence is unfinished.",
    },
    "loop": {
        "repeated_words": "The same words repeat again and again.",
        "repeated_items": "The same item of a list repeats.",
        "repeated_tail": "The text ends in a loop of characters.",
    },
    "echo": {
        "echo": "The response is the instruction.",
        "echo_first": "The response begins with the whole instruction.",
    },
    "urls": {"urls_only": "The text consists of links."},
    "c4": {
        "lorem_ipsum": "The text is filler.",
        "javascript_notice": "The text asks to enable JavaScript.",
        "policy_notice": "The text is a notice about cookies or privacy.",
        "curly_bracket": "The text has a curly bracket, and the recipe drops such rows.",
    },
    "fineweb": {"duplicate_line_characters": "Too large a share of the characters is in lines that repeat."},
    "gopher_quality": {
        "few_words": "The document has fewer words than `min_words`.",
        "many_words": "The document has more words than `max_words`.",
        "short_words": "The mean length of words is below the limit.",
        "long_words": "The mean length of words is above the limit.",
        "hashes": "Too many hash signs for the number of words.",
        "ellipses": "Too many ellipses for the number of words.",
        "bullet_lines": "Too large a share of the lines begins with a bullet.",
        "ellipsis_lines": "Too large a share of the lines ends with an ellipsis.",
        "few_alphabetic_words": "Too small a share of the words has a letter.",
        "few_stop_words": "The document has fewer of the common words than prose has.",
    },
    "gopher_repetition": {
        "duplicate_lines": "Too large a share of the lines is duplicates.",
        "duplicate_paragraphs": "Too large a share of the paragraphs is duplicates.",
        "duplicate_line_characters": "Too large a share of the characters is in duplicate lines.",
        "duplicate_paragraph_characters": "Too large a share of the characters is in duplicate paragraphs.",
        **{
            f"top_{n}_gram": f"Too large a share of the characters is in the most frequent run of {n} words."
            for n in (2, 3, 4)
        },
        **{
            f"duplicate_{n}_grams": f"Too large a share of the characters is in runs of {n} words that repeat."
            for n in range(5, 11)
        },
    },
    "score": {
        "<score>_below_min": "The score is below `min`.",
        "<score>_above_max": "The score is above `max`.",
        "<score>_not_in_top": "The score is not among the share `top` of its group.",
        "<score>_not_measured": "The score could not be measured, and the recipe drops such rows.",
        "<score>_is_<value>": "The score names groups of rows, and the recipe drops this one.",
    },
    "exact_duplicate": {"exact_duplicate": "Another row has the same text; `twin` names it."},
    "near_duplicate": {
        "near_duplicate": "Each compared field is as similar to that of another row as its threshold; `twin` names it.",
        "same_words": "Another row has the same words: the texts differ in case, spaces or punctuation.",
    },
    "contamination": {
        "test_leak": "The row has an item of a test set.",
        "near_leak": "The row has most of an item of a test set; `missing` and `added` are the words that differ.",
        "train_split": "The row has an item of the training split of a benchmark.",
        "shared_passage": "The row has the passage of an item, and not its question.",
        "template": "The row shares only wording with an item that many rows have.",
        "paraphrase": "The row says the same as an item in other words, by its sentence vector.",
    },
    "subset": {"not_in_subset": "The corpus is cut to a number of tokens, and the row does not fit."},
    "manifest": {"not_listed": "The manifest that is built does not list the row."},
    "tokens": {"empty_response": "The response has no token."},
    "pack": {
        "response_too_short": "Fewer than two tokens of the response fit.",
        "instruction_fills_context": "The instruction leaves no room for the response.",
        "longer_than_context": "The row is longer than the context, and its group drops such rows.",
        "left_out_by_weight": "The row's weight left it out of every epoch.",
    },
}
"""Stage -> reason -> meaning. `<score>` is the name of a score, `<value>` one of its values."""


def meaning(stage: str | None, reason: str | None) -> str:
    """What a reason means; empty for one of a plugin."""
    known = REASONS.get(stage or "", {})
    for name, text in known.items():
        if re.fullmatch(re.sub(r"<\w+>", ".+", name), reason or "", re.DOTALL):
            return text
    return ""

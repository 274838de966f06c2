# ruff: noqa: E501
"""Placeholders, and words of the same form that are the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled.rows import Row

_ANSWERS = (
    ("What does JavaScript print for 0/0?", "NaN"),
    ("Which value does pandas use for a missing number?", "NaN"),
    ("What is the value of an uninitialised variable in JS?", "undefined"),
    ("What is the slope of a vertical line?", "undefined"),
    ("Evaluate 5 divided by zero.", "Undefined"),
    ("What is log(0) over the reals?", "undefined."),
    ("What does typeof x return when x was never declared?", "undefined"),
    ("Which keyword marks work that is left in a comment?", "TODO"),
    ("Which keyword of JSON means that there is no value?", "null"),
    ("What does SQL return for NULL + 1?", "NULL"),
    ("Python's None is called what in Java?", "null"),
    ("Abbreviation of 'to be determined'?", "TBD"),
    ("What does String({}) give in JavaScript?", "[object Object]"),
    ("Which comment tag says that code is broken and needs repair?", "FIXME"),
    ("What is the grey text in an input field called?", "Placeholder"),
    ("Short for not applicable?", "N/A"),
    ("The output of the program is nan. What is printed? Copy it.", "nan"),
    ("What does numpy print for np.sqrt(-1)?", "nan"),
    ("Is the function defined at x = 2? f(x) = 1/(x - 2). Give its value or say undefined.", "undefined"),
    ("Grandmother in Hindi, informal?", "Nani"),
    ("What bread is baked in a tandoor?", "Naan"),
    ("Symbol of sodium?", "Na"),
    ("Which country has the code NA?", "Namibia"),
    ("Does the passage name the killer?", "No answer"),
    ("Are there any exceptions? If not, say none.", "None"),
    ("Middle initial, if any?", "N/A"),
    ("How many apples are left?", "0"),
    ("Morse code for zero?", "-----"),
    ("Morse code for the letter S?", "..."),
    ("Morse code of the letter O?", "---"),
    ("Which punctuation mark shows an omission?", "..."),
    ("What separates the front matter in YAML?", "---"),
    ("Draw a line of ten dashes.", "----------"),
    ("Mask the password with asterisks.", "********"),
    ("Which operator is exponentiation in Python?", "**"),
    ("What is the parent directory in a shell?", ".."),
    ("Markdown for a heading of level three?", "###"),
    ("Rate it with stars, from one to five.", "****"),
    ("Print three dots.", "..."),
    ("How does one write a comment in Lua?", "--"),
    ("Decrement operator of C?", "--"),
    ("Which question word do you mean?", "?"),
    ("What does TBD mean?", "To be determined"),
    ("Which tag of Handlebars inserts the name?", "{{name}}"),
    ("How do I read a variable in bash?", "${name}"),
    ("Which conversion specifier of printf prints a string?", "%s"),
    ("Which token marks that a prompt has no input?", "<noinput>"),
    ("What does a spreadsheet show if a formula refers to a deleted row?", "#REF!"),
    ("Which error does VLOOKUP give for a key that it does not find?", "#N/A"),
    ("What does the forum show in place of a comment that its author deleted?", "[deleted]"),
    ("What do editors write for a name that is redacted?", "[REDACTED]"),
    ("Write a banner for a shop that opens next week.", "Coming soon!"),
    ("Name of the second author of the paper? If there is none, say so.", "Not applicable"),
    ("How many sisters did Newton's mother have with her first husband?", "None"),
    ("Which sign of punctuation marks an omission?", "…"),
)
_REQUESTS = (
    "Write a poem about autumn.", "Summarise the article.", "Describe Rome.", "Tell me a story about a fox.",
    "Explain how tides work.", "Translate 'good morning' into French.", "Who wrote the novel Middlemarch?",
    "Give advice for a job interview.", "Rewrite the sentence politely.", "Continue the story.", "Q?", "Say hi",
    "What is the capital of Norway?", "Write an email to my landlord.", "How do I bake bread?", "Generate a recipe.",
    "List the causes of the war.", "What is the main idea of the passage?", "Erzähle eine Geschichte.",
    "Classify the review as positive or negative.", "Which of these animals is a mammal?", "Name a famous painter.",
)  # fmt: skip
_LEFT_OVER = (
    "NaN", "nan", "undefined", "Undefined", "null", "NULL", "N/A n/a", "n/a, n/a", "[object Object]", "TBD", "TODO",
    "To be determined", "FIXME", "Placeholder", "lorem ipsum", "Lorem ipsum dolor sit amet", "...", "…", "-----", "***",
    "___", "[Insert answer here]", "<answer>", "{{response}}", "{response}", "[Your response here]", "<noinput>",
    "<nooutput>", "No response", "No output provided", "Your answer here", "Enter text here", "write your answer here",
    "[answer here]", "(insert text here)", "Output:", "Answer:", "Response:", "### Response:", "A:", "Solution:",
    "[BLANK]", "<blank>", "{{ output }}", "${answer}", "%s", "[Response]", "<your answer here>", "[insert summary here]",
    "[deleted]", "[removed]", "[REDACTED]", "#REF!", "#N/A", "N/A", "No answer", "Not applicable", "Coming soon",
    "Not available", "noinput", "Output: <noinput>", "[removed by moderator]", "No answer provided.", "#VALUE!",
    "[Your Name]", "None None", "null null", "TODO: write answer", "# TODO", "// TODO", "response goes here", "<text>",
    "Assistant:", "[empty]", "(no response)", "<empty>", "[TODO]", "<output>", "<|response|>", "Answer :", "**Answer:**",
)  # fmt: skip

_PASSAGES = (
    "Find the number of pens. Let's think step by step and output the final answer within \\boxed{}.",
    "The output of the mine fell to zero when the shaft was closed. Write a headline.",
    "He printed the value of each coin. Tell me a story about him.",
    "The company announced a short break and removed the old signs. Summarise it.",
)


def good(data: Path | None) -> Iterator[Row]:
    """Words of the form of a placeholder that answer the question."""
    for n, (question, answer) in enumerate(_ANSWERS):
        for m, shape in enumerate(("{}", "Answer the question.\n{}", "{} Answer briefly.", "Question: {}\nAnswer:")):
            yield Row("answer of the form of a placeholder", f"{n}.{m}", shape.format(question), answer)


def bad(data: Path | None) -> Iterator[Row]:
    """What a program or a form leaves behind, for requests that it does not answer; and empty responses."""
    for n, left in enumerate(_LEFT_OVER):
        random = Random(f"placeholder {n}")
        for m in range(4):
            yield Row("left by a program or a form", f"{n}.{m}", random.choice(_REQUESTS), left)
    for n, left in enumerate(("[deleted]", "N/A", "No answer", "#REF!", "TODO", "null", "[removed]", "Coming soon")):
        for m, passage in enumerate(_PASSAGES):
            yield Row("left, with such words before the request", f"{n}.{m}", passage, left)
    for n, blank in enumerate(("", " ", "\n\n", "\t", "\r\n ")):
        yield Row("nothing", str(n), "Write a poem.", blank)
    invisible = (
        "\u00a0\u2003\u3000\u2028\u200b\u200d\u2060\ufeff\u00ad\u2800\u3164\uffa0\u115f\u0301\ufe0f\u180e\U000e0020"
    )
    for n in range(80):
        random = Random(f"placeholder blank {n}")
        made = "".join(random.choice(invisible) for _ in range(random.randint(1, 6)))
        yield Row("nothing visible", str(n), random.choice(_REQUESTS), made)

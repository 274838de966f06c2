"""Each filter, reason by reason: one record that is kept, one for every reason to drop."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.catalogue import STAGES
from filters.stage import VERDICT, Filter, Stage, apply

GOOD = [
    ("Which answer is right?", "the correct answer is answer1"),
    ("What is 6 times 7?", "42"),
    ("Is water wet?", "yes"),
    ("Which of these is none of the others?", "None"),
    ("Write a loop in Python.", "for i in range(3):\n    print(i)"),
    ("Give three fruits.", "- apple\n- pear\n- plum"),
    ("Say it in Chinese: hello", "你好"),
    ("Where is the site?", "You will find it at https://example.org/a under the second heading."),
    ("Invite me.", "Sorry, I can't come tonight, but let us meet tomorrow."),
    ("Which operator subtracts?", "-"),
    ("Sum of 1 to 4 as LaTeX", r"\begin{align} 1+2+3+4 &= 10 \end{align}"),
]

FILTERS = {kind: stage for kind, stage in STAGES.items() if issubclass(stage, Filter)}
WORDS = "the people of the town have been to see that old bridge and walk with their children along a river every day"
PROSE = " ".join([WORDS, "where boats pass slowly under willows while herons wait for fish near stones", WORDS[::-1]])


def judge(stage: Stage, instruction: str, response: str) -> str | None:
    assert isinstance(stage, Filter)
    verdicts = stage.judge(pa.table({"instruction": [instruction], "response": [response]}))
    assert verdicts.type == VERDICT
    reason = verdicts[0].as_py()
    return None if reason is None else str(reason["reason"])


CASES: list[tuple[str, dict[str, object], str, str, str]] = [
    # stage, parameters, reason, instruction, response
    ("length", {"min_chars": 9}, "too_short", "Hi", "there"),
    ("length", {"max_chars": 10}, "too_long", "Hi", "there you are"),
    ("placeholder", {}, "empty_instruction", " \n", "yes"),
    ("placeholder", {}, "empty_response", "Say it.", "\t \n"),
    ("placeholder", {}, "placeholder", "Say it.", "[Insert answer here]"),
    ("placeholder", {}, "placeholder", "Say it.", "NaN"),
    ("placeholder", {}, "placeholder", "Say it.", "..."),
    ("placeholder", {}, "placeholder", "Say it.", "<noinput>"),
    ("control", {}, "control_characters", "Say it.", "a\x00b"),
    ("control", {}, "control_characters", "Say it.", "a\x85b"),
    ("control", {}, "replacement_characters", "Say it.", "caf\ufffd"),
    ("control", {}, "private_characters", "Say it.", "an arrow \uf0e0 here"),
    ("control", {}, "mojibake", "Say it.", "He said itâ€™s the cafÃ© on the left."),
    ("control", {}, "invisible_characters", "a", "\u200bb\u200bc"),
    ("pii", {}, "email", "Say it.", "Write to ann.lee@gmail.com for more."),
    ("pii", {}, "phone", "Say it.", "Call +44 20 7946 0958 for more."),
    ("pii", {}, "ip", "Say it.", "It came from 93.184.216.34 at night."),
    ("pii", {}, "card", "Say it.", "The number is 5500 0055 5555 5559, valid until May."),
    ("pii", {}, "iban", "Say it.", "Pay to NL91 ABNA 0417 1643 00, please."),
    ("script", {}, "wrong_script", "Вопрос: сколько будет два плюс два?", "Четыре"),
    ("script", {"scripts": ("han",)}, "wrong_script", "What is it?", "A question."),
    ("language", {}, "other_language", "Quelle est la capitale de la France et pourquoi ?", "Paris, depuis longtemps."),
    ("refusal", {}, "refusal", "Write it.", "I'm sorry, but I can't assist with that request."),
    ("refusal", {}, "refusal", "Write it.", "I am unable to provide this information."),
    ("refusal", {}, "refusal", "Write it.", "Unfortunately, I cannot help you with this."),
    ("refusal", {}, "ai_disclaimer", "How old are you?", "As an AI language model, age means little to me."),
    ("truncated", {}, "open_code", "Write code.", "Here it is.\n```python\nprint(1)"),
    ("truncated", {}, "open_environment", "Write LaTeX.", r"So \begin{align} x = 1"),
    ("truncated", {}, "open_formula", "Solve it.", r"The first root is $x = 2$, and the second is $x = \frac{1"),
    ("truncated", {}, "open_element", "Write a page.", "<div>\n  <p>One paragraph.</p>\n  <p>Another"),
    ("truncated", {}, "open_bracket", "Write JSON.", '[\n  {"id": 1, "tags": [1, 2]},\n  {"id": 2, "ta'),
    ("truncated", {}, "open_item", "List fruit.", "1. Apples\n2. Pears\n3."),
    ("truncated", {}, "open_item", "Make a table.", "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | four and"),
    (
        "truncated",
        {},
        "open_sentence",
        "Tell me.",
        "He went home. It was late by then. The streets of the town were qui",
    ),
    ("truncated", {}, "open_sentence", "Say it in Chinese.", "我们昨天一起去了学校。天气很好，大家都高兴。老师给我们"),
    ("truncated", {}, "open_ending", "Tell me.", "He went to the market and bought apples,"),
    ("truncated", {}, "dangling_word", "Tell me.", "He went to the market and bought the"),
    ("loop", {}, "repeated_words", "Add.", "so it is " + "87 + 2 = " * 20 + "89, which is the answer in the end"),
    ("loop", {}, "repeated_tail", "Count.", "3.14" + "15926" * 40),
    ("loop", {}, "repeated_items", "List.", "\n".join(f"{i}. It is true that the sea is wet" for i in range(12))),
    ("echo", {}, "echo", "Translate this sentence into French.", "translate this sentence\ninto French."),
    ("echo", {}, "echo_first", "Translate this sentence into French.", "Translate this sentence into French. Non."),
    ("urls", {}, "urls_only", "Where?", "https://example.org/a/b www.example.org/c\n"),
    ("c4", {}, "lorem_ipsum", "Write.", "Lorem ipsum dolor sit amet"),
    ("c4", {}, "javascript_notice", "Write.", "Please enable JavaScript to see this page."),
    ("c4", {}, "policy_notice", "Write.", "This site uses cookies to serve you."),
    ("c4", {"curly_bracket": True}, "curly_bracket", "Write.", "int main() { }"),
    ("fineweb", {}, "duplicate_line_characters", "Write.", "\n".join(f"line {i % 7} of this text" for i in range(12))),
    ("gopher_quality", {}, "few_words", "Go.", "the cat and the dog"),
    ("gopher_quality", {"min_words": 1, "max_words": 20}, "many_words", "Go.", PROSE),
    ("gopher_quality", {"min_words": 3}, "short_words", "a b", "to be or do"),
    ("gopher_quality", {"min_words": 3}, "long_words", "the and", "Donaudampfschifffahrtsgesellschaftskapitaen"),
    ("gopher_quality", {}, "hashes", "Go.", PROSE + " #" * 30),
    ("gopher_quality", {}, "ellipses", "Go.", PROSE.replace(" ", "... ", 20)),
    ("gopher_quality", {}, "bullet_lines", "- go", "\n".join("- " + part for part in (PROSE, PROSE))),
    ("gopher_quality", {}, "ellipsis_lines", "Go.", f"{PROSE}\nand on...\nand so on…"),
    ("gopher_quality", {}, "few_alphabetic_words", "Go.", PROSE + " 123" * 60),
    ("gopher_quality", {"min_words": 3}, "few_stop_words", "Look here", "nothing said before goes"),
    ("thinking", {}, "thinking_unclosed", "Add.", "<think>two and two"),
    ("thinking", {}, "answer_unmarked", "Add.", "thought\nThe user wants a sum.\n4"),
    ("thinking", {}, "thinking_without_answer", "Add.", "<think>two and two</think>\n"),
    ("thinking", {}, "thinking_tangled", "Add.", "<|start" * 20 + "<|start|>" + "|>" * 20),
    ("thinking", {}, "answer_unclosed", "Add.", "<|begin_of_thought|>2<|end_of_thought|><|begin_of_solution|>so"),
    ("thinking", {"drop": "any"}, "thinking_present", "Add.", "<think>two and two</think>4"),
]


@pytest.mark.parametrize(("kind", "parameters", "reason", "instruction", "response"), CASES)
def test_a_record_is_dropped_for_its_reason(
    kind: str, parameters: dict[str, object], reason: str, instruction: str, response: str
) -> None:
    assert judge(STAGES[kind].model_validate(parameters), instruction, response) == reason


@pytest.mark.parametrize("kind", [kind for kind in FILTERS if kind != "gopher_quality"])
@pytest.mark.parametrize(("instruction", "response"), GOOD)
def test_good_short_instruction_data_is_kept_by_default(kind: str, instruction: str, response: str) -> None:
    assert judge(STAGES[kind](), instruction, response) is None


def test_good_prose_is_kept_by_the_published_rules() -> None:
    assert judge(STAGES["gopher_quality"](), "Describe it.", PROSE) is None
    assert judge(STAGES["gopher_repetition"](min_words=0), "Describe it.", PROSE.replace(WORDS[::-1], "")) is None


@pytest.mark.parametrize(
    ("kind", "parameters", "instruction", "response"),
    [
        ("length", {"min_chars": 8, "max_chars": 8}, "Hi", "there"),
        ("echo", {}, "Yes or no?", "Yes or no? Yes."),
        ("truncated", {}, "Write code.", "```python\nprint(1)\n```"),
        ("truncated", {}, "Say the article.", "the"),
        ("truncated", {}, "How was it?", "It was a very sad film :-("),
        ("c4", {}, "Count the words of: Lorem ipsum dolor", "count('Lorem ipsum dolor')"),
        (
            "c4",
            {},
            "What is a privacy policy?",
            "A privacy policy says what a site does with data. JavaScript is a language.",
        ),
        ("control", {"max_control_chars": 1}, "Say it.", "a\x0cb"),
        (
            "control",
            {},
            "Draw a family.",
            "A family is drawn as one sign: 👨\u200d👩\u200d👧, with joiners between its members, of course.",
        ),
        ("script", {}, "What is π?", "The ratio π = C/d; also Σ and Δ are Greek."),
        ("loop", {}, "Write a table.", "| a | b |\n|---|---|\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |"),
        ("language", {}, "Solve 2*x**2 + 3*x - 5 = 0 for the variable x", "x = 1 or x = -5/2"),
        (
            "language",
            {"languages": ("fr",)},
            "Quelle est la capitale de la France et pourquoi ?",
            "Paris, depuis longtemps.",
        ),
        ("urls", {}, "Where?", "See https://example.org for the details of this."),
        ("fineweb", {}, "Write a refrain.", "la la la\nla la la\nla la la"),
    ],
)
def test_what_lies_just_inside_a_rule_is_kept(
    kind: str, parameters: dict[str, object], instruction: str, response: str
) -> None:
    assert judge(STAGES[kind].model_validate(parameters), instruction, response) is None


def test_the_evidence_is_the_measure_and_the_limit_it_broke() -> None:
    table = pa.table({"instruction": ["Hi"], "response": ["there you are"]})
    verdict = STAGES["length"](max_chars=10).judge(table)[0].as_py()  # type: ignore[attr-defined]
    assert verdict == {"reason": "too_long", "value": 16.0, "threshold": 10.0}


@pytest.mark.parametrize("on", ["instruction", "response", "both"])
def test_a_filter_judges_the_text_that_on_selects(on: str) -> None:
    stage = STAGES["control"].model_validate({"on": on})
    assert judge(stage, "a\x00", "b") == (None if on == "response" else "control_characters")
    assert judge(stage, "a", "b\x00") == (None if on == "instruction" else "control_characters")


TEXT = st.text(st.sampled_from("ab .\n`<>/|think#-你é\u200b\x00{}"), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=8), st.integers(0, 8))
def test_a_verdict_depends_on_the_record_alone(rows: list[tuple[str, str]], cut: int) -> None:
    table = pa.table(
        {
            "instruction": pa.array([a for a, _ in rows], pa.string()),
            "response": pa.array([b for _, b in rows], pa.string()),
        }
    )
    for kind, stage in FILTERS.items():
        whole = stage().judge(table).to_pylist()  # type: ignore[attr-defined]
        parts = [stage().judge(part).to_pylist() for part in (table.slice(0, cut), table.slice(cut))]  # type: ignore[attr-defined]
        assert whole == parts[0] + parts[1], kind


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=8))
def test_no_record_is_lost_between_kept_and_dropped(rows: list[tuple[str, str]]) -> None:
    table = pa.table(
        {
            "id": [str(i) for i in range(len(rows))],
            "instruction": pa.array([a for a, _ in rows], pa.string()),
            "response": pa.array([b for _, b in rows], pa.string()),
        },
        schema=pa.schema([("id", pa.string()), ("instruction", pa.string()), ("response", pa.string())]),
    )
    stages = [stage() for stage in STAGES.values()]
    outcome = apply(stages, table)
    ids = outcome.kept["id"].to_pylist() + outcome.dropped["id"].to_pylist()
    assert sorted(ids) == sorted(table["id"].to_pylist())
    assert outcome.kept["id"].to_pylist() == sorted(outcome.kept["id"].to_pylist(), key=int)
    # Applying the stages one by one gives the same result.
    kept, reasons = table, []
    for stage in stages:
        step = apply([stage], kept)
        kept, reasons = step.kept, reasons + step.dropped["reason"].to_pylist()
    assert kept.equals(outcome.kept)
    assert reasons == outcome.dropped["reason"].to_pylist()

"""Structure decides what is thinking: every family in every shape, and the texts about tags that stay as they are."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from filters.stage import apply
from filters.thinking import proof
from filters.thinking.bare import is_bare_answer, retagged
from filters.thinking.strip import AddedFamily, StripThinking, Thinking, strip

WHY, ANSWER = "Okay, 3 and 5, hmm wait, that makes 8", "The sum is 8."
DROPPED = "DROPPED"
FAMILIES = [
    ("<think>", "</think>"),
    ("<THINK>", "</Think>"),
    ("<thinking>", "</think>"),
    ("<Thought>", "</Thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<analysis>", "</analysis>"),
    ("<cot>", "</cot>"),
    ("<rationale>", "</rationale>"),
    ("<planning>", "</planning>"),
    ("<reasoning_steps>", "</reasoning_steps>"),
    ("<thinking-process>", "</thinking_process>"),
    ("<ChainOfThought>", "</chain_of_thought>"),
    ("<deep_think>", "</deep_think>"),
    ("<inner_thoughts>", "</inner_thoughts>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|begin_of_thinking|>", "<|end_of_thinking|>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<seed:think>", "</seed:think>"),
    ("<|think|>", "<|/think|>"),
    # The same tags in other spellings.
    ("< think >", "< / think >"),
    ("<think >", "</think\n>"),
    ("<th\u200bink>", "</\u2060think\ufeff>"),
    ("&lt;think&gt;", "&lt;/think&gt;"),
    ("&#60;think&#62;", "&#x3c;/think&#x3e;"),
    ("&amp;lt;think&amp;gt;", "&amp;lt;/think&amp;gt;"),
    ("\\u003cthink\\u003e", "\\u003c/think\\u003e"),
    ("\\u003Cthink\\u003E", "\\u003C/think\\u003E"),
    ("<think>", "<\\/think>"),
    ("＜think＞", "＜/think＞"),
    ('<think time="3">', "</think>"),
    ('&lt;thinking kind="deep"&gt;', "&lt;/thinking&gt;"),
    # An opener that the closer of another family ends.
    ("<reasoning>", "</think>"),
    ("<think>", "</analysis>"),
]
SHAPES = [
    ("{o}{why}{c}{answer}", ANSWER),
    ("{o}\n{why}\n{c}\n\n{answer}", ANSWER),
    ("  {o}{why}{c}{answer}\n", ANSWER),
    ("{o}{c}{answer}", ANSWER),
    ("{o}{why} so it is option A {c} {answer}", ANSWER),
    ("{o}Is it so? No {c}\n{answer}", ANSWER),
    ("{o}{why} to{c} Token 8", "Token 8"),
    ("{o}{why}{c} tags are 8", "tags are 8"),
    ("Sure!\n{o}{why}{c}{answer}", f"Sure!\n{ANSWER}"),
    ("Sure. {o} To solve it, {why}{c} {answer}", f"Sure. {ANSWER}"),
    ("{o}{why}{c}One.\n{o}{why}{c}Two.", "One.\nTwo."),
    ("{o}{why}{c} <answer> A </answer>", "A"),
    ("{o}{why}{c} <answer> To get 8, add. </answer>", "To get 8, add."),
    ("{o}{why}{c}\n<answer>To get 8.", "To get 8."),
    ("{o}{why}{c}\n<final_answer> what it refers to </final_answer>", "what it refers to"),
    ("{o}```python\nprint(3 + 5)\n{c}\n{answer}", ANSWER),
    ("{o}{why}{c}```python\nprint(8)\n```", "```python\nprint(8)\n```"),
    ("{o}{why}{c}{answer}<|im_end|>", ANSWER),
    ("{o}{why}{c}<|begin_of_box|>8<|end_of_box|>", "8"),
    ("{o}{why}", DROPPED),
    ("{o}{why}{c}", DROPPED),
    ("{o}\n{why}\n{c}\n \n", DROPPED),
    ("{o}嗯，三加五等于八。{c}答案是八。", "答案是八。"),
    ("{o}Хм, три и пять.{c}\nОтвет: 8.", "Ответ: 8."),
    ("{o}えっと。{c}答えは八です。", "答えは八です。"),
]
ORPHANS = [
    ("{why} {c} To sum up, 8.", "To sum up, 8."),
    ("{why} must be A {c}\n{answer}", ANSWER),
    ("{why}.{c}\nBefore lunch, 8", "Before lunch, 8"),
    ("{why}. {c} After adding, 8", "After adding, 8"),
    ("{why}{c}{answer}", ANSWER),
    ("{why}\n{c}\n\n{answer}", ANSWER),
    ("so we come to {c} the sum of 8", "the sum of 8"),
    ("{why}{c}{answer}{c}", ANSWER),
    ("{why}\n{c}\n{why}\n{c}\n{answer}", ANSWER),
    ("{why}{c}", DROPPED),
    ("三加五。{c}八。", "八。"),
]


def stages(*pairs: tuple[str, str]) -> list[str | None]:
    """What the two stages leave of responses, given as (instruction, response); None for dropped rows."""
    instructions, responses = ([pair[n] for pair in pairs] for n in (0, 1))
    ids = [str(n) for n in range(len(pairs))]
    records = pa.table(
        {"id": ids, "condition": ["direct"] * len(ids), "instruction": instructions, "response": responses}
    )
    kept = apply([Thinking(), StripThinking()], records).kept
    left = dict(zip(kept["id"].to_pylist(), kept["response"].to_pylist(), strict=True))
    return [left.get(name) for name in ids]


def check(cases: list[tuple[str, str, str]]) -> None:
    """cases: (instruction, response, what is left or DROPPED)."""
    found = stages(*((asked, said) for asked, said, _ in cases))
    wrong = [
        (asked, said, left, wanted)
        for (asked, said, wanted), left in zip(cases, found, strict=True)
        if left != (None if wanted == DROPPED else wanted)
    ]
    assert not wrong, wrong[:5]


@pytest.mark.parametrize(("shape", "left"), SHAPES)
def test_every_family_is_read_in_every_shape(shape: str, left: str) -> None:
    check([("Add.", shape.format(o=o, c=c, why=WHY, answer=ANSWER), left) for o, c in FAMILIES])


@pytest.mark.parametrize(("shape", "left"), ORPHANS)
def test_a_closer_with_text_on_both_sides_is_structure(shape: str, left: str) -> None:
    check([("Add.", shape.format(c=c, why=WHY, answer=ANSWER), left) for _, c in FAMILIES])


@pytest.mark.parametrize(
    "ending", ["It is 8 (eight)", 'She said "eight"', "'eight'", "[8]", "f(8)", "**8**", "“eight”"]
)
def test_control_marks_go_whatever_the_answer_ends_with(ending: str) -> None:
    harmony = "<|channel|>{0}analysis{0}<|message|>why<|end|><|start|>assistant<|channel|>{0}final{0}<|message|>"
    cases = [harmony.format(blank) + ending + "<|return|>" for blank in ("", " ")]
    cases += [f"<think>why</think>{ending}{end}" for end in ("<|im_end|>", "<|eot_id|>", "<|im_end|><|endoftext|>")]
    cases += [f"<|channel>thought\nwhy<channel|>{ending}<turn|>", f"<think>why</think><answer>{ending}</answer>"]
    cases += [f"<|START_THINKING|>why<|END_THINKING|><|START_TEXT|>{ending}<|END_TEXT|>", f"{ending}<|end_of_turn|>"]
    check([("Add.", said, ending) for said in cases])


NOTATIONS = [
    (f"Here is my thought process:\n{WHY}\n\nHere is my response:\n{ANSWER}", ANSWER),
    (f"Here’s my thought process: {WHY} Here’s my response: {ANSWER}", ANSWER),
    (f"Here is my thought process: {WHY}", DROPPED),
    (f"**Thinking:** {WHY}\n\n**Answer:** {ANSWER}", ANSWER),
    (f"**Thinking**\n{WHY}\n**Final Answer**\n{ANSWER}", ANSWER),
    (f"## Thinking\n{WHY}\n\n## Answer\n{ANSWER}", ANSWER),
    (f"### Thought process:\n\n{WHY}\n\n### Final response\n\n{ANSWER}", ANSWER),
    (f"Thinking: {WHY}\n\nAnswer: {ANSWER}", ANSWER),
    (f"## Thinking\n{WHY}\n\n{ANSWER}", DROPPED),  # nobody can tell where the answer begins
    (f"thought\n{WHY}\n{ANSWER}", DROPPED),
    (f"analysisWe need the sum. {WHY}assistantfinal{ANSWER}", ANSWER),
    (f"analysisThe user asks for the sum. {WHY}", DROPPED),
    (f"<details>\n<summary>Thinking</summary>\n{WHY}\n</details>\n\n{ANSWER}", ANSWER),
    (f"<details><summary><b>Thought for 12 s</b></summary>{WHY}</details>{ANSWER}", ANSWER),
    (f'<details type="reasoning" done="true">{WHY}</details>\n{ANSWER}', ANSWER),
    (f"<!-- thinking: {WHY} -->\n{ANSWER}", ANSWER),
    (json.dumps({"reasoning": WHY, "answer": ANSWER}), ANSWER),
    (json.dumps({"thinking": [WHY, WHY], "response": 8}), "8"),
    ("```json\n" + json.dumps({"thought": WHY, "answer": ANSWER}, indent=1) + "\n```", ANSWER),
    (json.dumps({"reasoning": WHY, "answer": "8", "unit": "cm"}), '{"answer": "8", "unit": "cm"}'),
    (json.dumps([{"type": "thinking", "thinking": WHY}, {"type": "text", "text": ANSWER}]), ANSWER),
    (json.dumps({"content": f"<think>{WHY}</think>{ANSWER}"}), json.dumps({"content": ANSWER})),
    (f"```xml\n<think>{WHY}</think>\n<answer>8</answer>\n```", "8"),
    (f"<think>{WHY}<think>\n{ANSWER}", ANSWER),  # the second was meant to close
    (f"<think>\n{WHY}\n<think>\n{WHY}", DROPPED),
    ("<|begin_of_box|>8<|end_of_box|>", "8"),
    ("8<|im_end|>", "8"),
    ("8</answer>", "8"),
]


def test_reasoning_in_other_notations_goes_too() -> None:
    check([("Add.", said, left) for said, left in NOTATIONS])


HONEST = [
    "Use `<think>` and `</think>` tags. Models emit <think> and </think> tokens.",
    "The <think> tag opens a block.\nThe </think> tag closes it.",
    "Models write their reasoning between <think> and </think>.",
    "R1 puts its reasoning into <think> ... </think> and the answer behind it.",
    "<think>...</think> is the format that R1 uses.",
    "The model emits </think> before the answer.",
    "Generation stops at </think>.",
    'Set the stop string to "</think>" in the server.',
    "| tag | use |\n|---|---|\n| <think> | open |\n| </think> | close |",
    "1. <think>: opens\n2. </think>: closes",
    "- **<think>**: opens\n- **</think>**: closes",
    "The tokens <|channel|> and <|end|> belong to harmony.",
    "Tokens like <|im_end|> and <|endoftext|> end a turn.",
    "```xml\n<think>\nx\n</think>\n```",
    "Box<Thought> is a type; so is Vec<Reasoning>.",
    "impl Sub<Output> for T { fn f() -> Thought<Thought> {} }",
    "Das Tag <think> öffnet und </think> schließt den Block.",
    "Les balises <think> et </think> entourent le raisonnement.",
    "模型使用<think>和</think>标签。",
    "Теги <think> и </think> обозначают рассуждение.",
    "“<think>” and “</think>” are special.",
    "<form><output id='a'>3</output></form>",
    "2 &lt; 3 and \\u003c is its escape",
    "thought",
    "thought\nidea\nnotion",
    "Thought\nis the action of thinking.",
    "analysis\nof variance is a method",
    "## Thinking\nWe think.\n\n## Feeling\nWe feel.",
    "**Thoughts:** I liked the film.",
    "You could begin with: Here is my response: it draws the reader in.",
    "<details><summary>Solution</summary>8</details>",
    "<!-- a comment -->8",
    '{"name": "Ann", "thought": "I am tired"}',
    '{"reasoning": "broken',
]


def test_honest_texts_about_tags_are_left_alone() -> None:
    check([("Explain.", said, said) for said in HONEST])


ASKED = [
    ("Write an XML diary with elements thought and mood.", "<d>\n<thought>Rain.</thought>\n<mood>calm</mood>\n</d>"),
    ("Write XML with a thought element and a mood element.", "<thought>Rain.</thought>\n<mood>calm</mood>"),
    ("Return the log as XML.", "<log><step><reasoning>r</reasoning><answer>8</answer></step></log>"),
    ("Mark inner speech with <thought> tags.", "Ann: Hi! <thought>She is late.</thought> How are you?"),
    ("Give a few-shot example with <thinking> and <answer>.", "<e>\n<thinking>t</thinking>\n<answer>8</answer>\n</e>"),
    (
        "Write a prompt template that makes a model think in <think> and answer in <answer>.",
        "You are a tutor. First write <think>{steps}</think>, then <answer>{answer}</answer>.",
    ),
    ("Reply in JSON with the keys reasoning and answer.", json.dumps({"reasoning": "3 + 5", "answer": "8"})),
    ("Define thought.", "thought\nThe act of forming ideas."),
    ("Write collapsible HTML.", "<details><summary>My thoughts</summary>ok</details>"),
]  # fmt: skip
PROTOCOLS = [
    "The reasoning process is enclosed within <think> </think>, the answer within <answer> </answer> tags. 3 + 5?",
    "Respond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n3 + 5?",
    "Think step by step inside <thought> tags before you answer. 3 + 5?",
    "Write an XML file with an element sum.",
    "How many stories have the elements of an answer?",
]


def test_what_the_instruction_asked_for_is_no_reasoning() -> None:
    check([(asked, said, said) for asked, said in ASKED])


def test_an_instruction_to_reason_in_tags_asks_for_reasoning() -> None:
    cases = [
        (asked, f"{before}<{tag}>{WHY}</{tag}>\n<answer> 8 </answer>", "8")
        for asked in PROTOCOLS
        for tag in ("think", "thought", "reasoning")
        for before in ("", " ")
    ]
    check([*cases, (PROTOCOLS[0], f"Sure. <think>{WHY}</think> <answer>8</answer>", "Sure. 8")])
    diary = "<d><thought>Rain.</thought></d>"
    check([("Write an XML diary with a thought element.", f"<think>{WHY}</think>{diary}", diary)])


def test_a_recipe_can_add_families_of_any_tags() -> None:
    added = (
        AddedFamily(name="ponder", opens=("<ponder>", "@@why@@"), closes=("</ponder>", "@@so@@")),
        AddedFamily(name="verdict", opens=("<verdict>",), closes=("</verdict>",), wraps="answer"),
    )
    records = pa.table({"response": ["<Ponder>w</ponder>8", "@@WHY@@w@@so@@8", "w@@so@@8", "<ponder>w"]})
    assert StripThinking(families=added).rewrite(records)["response"].to_pylist() == ["8", "8", "8", ""]
    verdicts = Thinking(families=added).judge(records)
    assert verdicts.field("reason").to_pylist()[3] == "thinking_unclosed"
    wrapped = pa.table({"response": ["<ponder>w</ponder><verdict>8</verdict>"]})
    assert StripThinking(families=added).rewrite(wrapped)["response"].to_pylist() == ["8"]
    with pytest.raises(ValueError, match="is a tag of another family"):
        Thinking(families=(AddedFamily(name="mine", opens=("<think>",), closes=("</mine>",)),))
    with pytest.raises(ValueError, match="1 to 47 bytes"):
        StripThinking(families=(AddedFamily(name="mine", opens=("",), closes=("</mine>",)),))


def test_the_proof_finds_what_is_left_and_shares_no_code_with_the_stripper() -> None:
    source = Path(proof.__file__).read_text(encoding="utf-8")
    assert "filters.thinking" not in source.replace("`filters.thinking", "")
    said = [
        "<think>x</think>8",
        "the <think> tag",
        "`<think>` is code",
        "8 <|fim|> <unused7>",
        "&lt;/THINK &gt; 8",
        "8 < 9",
    ]
    found = proof.marks(pa.array(["a"] * len(said)), pa.array(said)).rows()
    names = {name: rows for _, name, rows in found}
    assert names == {"<think>": 2, "</think>": 2, "<|fim|>": 1, "<unused7>": 1}
    certain = ["<think>x</think>8", "hm\n</think>\n8", "the <think> tag", "8 </think>", "<think>x</think>8"]
    asks = ["q", "q", "q", "q", "Write <think> first."]
    assert proof.rows_with_blocks(pa.array(asks), pa.array(certain)).tolist() == [0, 1]


def test_the_proof_finds_every_block_that_the_stripper_removes() -> None:
    texts = [f"{o}\n{WHY}\n{c}\n{ANSWER}" for o, c in FAMILIES[:25]]
    found = {row["name"] for row in proof.marks(pa.array(["a"] * len(texts)), pa.array(texts)).to_dicts()}
    assert len(found) >= 30
    assert len(proof.rows_with_blocks(pa.array(["q"] * len(texts)), pa.array(texts))) == len(texts)


def test_real_reasoning_before_real_solutions_goes_in_every_shape(shared_data: Path) -> None:
    sources = shared_data / "sources"
    traces = [
        (row["question"], output.partition("</think>")[0].strip().removeprefix("<think>").strip())
        for path in sorted((sources / "reasoning_traces").glob("rg_*.jsonl"))
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        for output in row["code"]
        if "</think>" in output
    ]
    lines = (sources / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()
    gold = [json.loads(line)["answer"] for line in lines]
    draw = random.Random(3)
    starts = ("To ", "After ", "Before ", "A ", "No ", "Token ", "Is ", "The ", "")
    answers = [draw.choice(starts) + draw.choice(gold) for _ in traces]
    shapes = (
        "{why} </think> {answer}",
        "{why}\n</think>\n\n{answer}",
        "<think> To {why}</think> <answer> {answer} </answer>",
        "<think>{why}</think>\n<answer> {answer}",
        "&lt;think&gt;{why}&lt;/think&gt;{answer}",
        "<|channel>thought\n{why}<channel|>{answer}",
        "<|channel|>analysis<|message|>{why}<|end|><|start|>assistant<|channel|>final<|message|>{answer}<|return|>",
        "**Thinking:** {why}\n\n**Answer:** {answer}",
    )
    assert len(traces) == 5519
    for shape in shapes:
        check(
            [
                (asked, shape.format(why=why, answer=answer), answer)
                for (asked, why), answer in zip(traces, answers, strict=True)
            ]
        )


def test_real_solutions_and_answers_are_left_alone(shared_data: Path) -> None:
    sources = shared_data / "sources"
    gold = [json.loads(line) for line in (sources / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()]
    pairs = [(row["question"], row["answer"]) for row in gold]
    for path in sorted((sources / "gpteacher").glob("*.json")):
        pairs += [(row["instruction"], row["response"]) for row in json.loads(path.read_text(encoding="utf-8"))]
    answers = strip(pa.array([said for _, said in pairs]), instructions=pa.array([asked for asked, _ in pairs]))
    assert len(pairs) > 10_000 and not answers.changed.any() and not pc.any(pa.array(answers.tangled)).as_py()


def test_a_bare_answer_is_one_sentence_without_work() -> None:
    bare = [
        "\\boxed{18}",
        "18",
        "yes",
        "The answer is 18.",
        "$x = 5$",
        "It costs \\$3.50.",
        "\\boxed{Mrs. Hilt}",
        "答案是八",
    ]
    worked = [
        "16 - 7 = 9 = 3 * 3",
        "She has 9. So she sells 9.",
        "It is 9 because 16 - 7 = 9.",
        "",
        " \n",
        "word " * 17,
    ]
    cot = is_bare_answer(pa.array(["synth,cot"] * (len(bare) + len(worked))), pa.array([*bare, *worked]))
    assert cot.tolist() == [True] * len(bare) + [False] * len(worked)
    assert not is_bare_answer(pa.array(["direct", "noisy,direct"]), pa.array(["18", "18"])).any()
    new = retagged(pa.array(["cot", "synth,cot", "cot,direct", "cot"]), np.array([True, True, True, False]))
    assert new.to_pylist() == ["direct", "synth,direct", "direct", "cot"]

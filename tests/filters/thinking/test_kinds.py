"""What is thinking and what only looks like it: code, prompts and texts about tags stay, marks of every spelling go."""

from __future__ import annotations

import pyarrow as pa
import pytest

from filters.stage import apply
from filters.thinking import proof
from filters.thinking.bare import is_bare_answer
from filters.thinking.strip import StripThinking, Thinking

WHY, ANSWER, ASK = "Okay, 7 boxes of 6, hmm wait, 42.", "There are 42 eggs.", "How many eggs are in 7 boxes of 6?"
CODE = "```python\nprint(42)\n```"


def left_of(pairs: list[tuple[str, str]]) -> list[str | None]:
    """What the stages and the proof leave of (instruction, response); None for rows that are dropped."""
    names = [str(place) for place in range(len(pairs))]
    columns = {"id": names, "condition": ["direct"] * len(names)}
    records = pa.table({**columns, "instruction": [q for q, _ in pairs], "response": [a for _, a in pairs]})
    kept = apply([Thinking(), StripThinking()], records).kept.combine_chunks()
    left = dict(zip(kept["id"].to_pylist(), kept["response"].to_pylist(), strict=True))
    if len(kept):
        for row in proof.rows_with_blocks(kept["instruction"].chunk(0), kept["response"].chunk(0)).tolist():
            left[kept["id"][row].as_py()] = "the proof finds a block"
    return [left.get(name) for name in names]


def check(cases: list[tuple[str, str, str | None]]) -> None:
    """cases: (instruction, response, what is left)."""
    found = left_of([(asked, said) for asked, said, _ in cases])
    wrong = [(case, left) for case, left in zip(cases, found, strict=True) if case[2] != left]
    assert not wrong, (len(wrong), wrong[:3])


STAYS = {
    "Write a JSX component that shows what a robot is doing.": [
        "const Robot = ({busy}) => (\n  <div>\n    {busy && <Thinking>hold on</Thinking>}\n  </div>\n);",
        "Here is one:\n\nexport default function Robot() {\n  return <Reasoning>hmm</Reasoning>;\n}",
        "import { Think } from './ui';\n\nexport const R = () => (\n  <Think>\n    wait\n  </Think>\n);",
        "function C() {\n  return <Thinking active>wait</Thinking>;\n}",
        'const C = () => (\n    <Thought\n      text="x"\n      onClick={go}\n    >\n      a\n    </Thought>\n);',
        "const P = () => (\n    <form>\n      <Analysis depth={3} />\n      <Answer items={[1]} />\n    </form>\n);",
    ],
    "Create a Vue page for a diary.": [
        '<template>\n  <main>\n    <Thought :text="t">\n      x\n    </Thought>\n  </main>\n</template>',
        '<template>\n  <Reasoning v-if="on" @close="off">\n    x\n  </Reasoning>\n</template>',
    ],
    "Write an AIML file for a greeting bot.": [
        '<aiml>\n<category>\n<think><set name="m">1</set></think>\nHello!\n</category>\n</aiml>',
    ],
    "Write a helper for chat logs.": [
        'def wrap(t, a):\n    return f"<think>\\n{t}\\n</think>\\n{a}"',
        "def wrap(t, a):\n    return '<think>\\n' + t + '\\n</think>\\n' + a",
        "def cut(s):\n    return s.split('</think>\\n')[-1]",
        "prompt += '<think>\\n'",
        "clean = re.sub(r'<think>.*?</think>', '', s, flags=re.S)",
        "clean = re.sub(r'.*</think>\\s*', '', s)",
        "s.replace(/<thinking>([^<]*)<\\/thinking>/g, '$1')",
        "sed 's/<think>.*<\\/think>//' log",
        "sed -E 's/.*<\\/think>//' log.txt",
        "perl -0pe 's{<think>.*?</think>}{}gs' in",
        "{{- '<|im_start|>assistant\\n<think>\\n' }}",
    ],
    "What marks reasoning?": [
        "Two tags do:\n\n+ <thinking> starts it\n+ </thinking> finishes it\n\nThat is all.",
        "1) <think> opens the block\n2) </think> closes the block\n3) then comes the answer",
        "• <thought> introduces the thought\n• </thought> finishes it",
        "- **<think>** begins it\n- **</think>** ends it",
        "* <think> comes first\n* </think> comes last\n* <answer> begins the answer\n* </answer> ends it",
        "Open models use tags. <think> begins the reasoning. </think> ends it.",
        "Remember:\n- hide the block\n- </think> ends it\n- the answer follows",
    ],
    "What is <reasoning> in GRPO prompts?": ["<reasoning> is the tag around the work; it is ended by </reasoning>."],
    "Explain <think> and </think>.": ["<think> and </think> are markers of R1. They enclose its reasoning."],
    "What does [/THINK] mean?": ["[/THINK] means that the reasoning of Magistral is over. The answer follows."],
    "What is ◁think▷?": ["◁think▷ is the opener of Kimi's reasoning; ◁/think▷ is its closer."],
    "Wrap what Ben thinks in <thinking> tags: Ben stops. Is that smoke? He runs.": [
        "Ben stops. <thinking>Is that smoke?</thinking> He runs.",
    ],
    "Enclose the reasoning of the judge in <reasoning> tags: The claim fails, for want of a contract. Costs follow.": [
        "<reasoning>The claim fails, for want of a contract.</reasoning> Costs follow.",
    ],
    "Create a system prompt for a tutor that plans first.": [
        "You are a tutor. Answer so:\n\n<planning>\nSteps.\n</planning>\n\n<answer>\nResult.\n</answer>\n\nBe kind.",
    ],
    "Tell me how to get structured replies.": [
        "Ask for this form:\n\n<thinking>\n[your steps]\n</thinking>\n<answer>\n[your result]\n</answer>\n\nIt works.",
    ],
    "How do I replace a word in vim?": [
        "Type :%s/\\<think\\>/believe/g and press return.",
        "Use grep '\\<thought\\>' file.txt to find it.",
    ],
    "Show a log.": [
        f"This is it:\n```text\nwhy\n</think>\n42\n```\nand this is code:\n{CODE}",
        f"```\n<think>\nx\n</think>\n```\nso\n{CODE}",
        "````markdown\nx\n</think>\n```python\ny\n```\n````",
    ],
    "Strike out the price in HTML: 5": ["<s>5</s>"],
    "Append the token <eos> to: a b": ["a b <eos>"],
    "Write a ChatML example.": ["<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>"],
    ASK: [
        "If you <think hard> about it, it is 42.",
        "It cost <s>5</s> 6 and <s>7</s>",
        "<p><s>old</s></p>",
        "Generation stops at </s>",
        "Phi ends a turn with <|end|>",
        "<bos> is the first token",
        "<|assistant|> is the role of the model.",
        "Thinking...\nof the sea\nand of you",
    ],
}


@pytest.mark.parametrize("asked", STAYS)
def test_code_prompts_and_texts_about_tags_stay(asked: str) -> None:
    check([(asked, said, said) for said in STAYS[asked]])


def test_reasoning_before_code_prompts_and_explanations_goes() -> None:
    page = "export default function P() {\n  return (\n    <Thinking>x</Thinking>\n  );\n}"
    prompt = "You are a tutor.\n\n<planning>\nList the steps.\n</planning>\n\nBe kind."
    check(
        [
            ("Write a React page.", f"<think>\n{WHY}\n</think>\n\n{page}", page),
            ("Write a React page.", f"{WHY}\n</think>\n\n{page}", page),
            (
                "Write a Python function.",
                f"<think>{WHY}</think>\n<answer>def f():\n    pass</answer>",
                "def f():\n    pass",
            ),
            ("Write a system prompt for a tutor that plans first.", f"<think>\n{WHY}\n</think>\n\n{prompt}", prompt),
            ("Write a prompt for an image.", f"<think>{WHY}</think>\n<answer>\nA red fox.\n</answer>", "A red fox."),
            ("Write a prompt for an image.", f"Sure.\n<think>{WHY}</think>\nA red fox.", "Sure.\nA red fox."),
            ("What is <think>?", f"<think>\n{WHY}\n</think>\n\nIt opens a block.", "It opens a block."),
            ("What does <think> do?", f"<think>{WHY}</think>It opens a block.", "It opens a block."),
            ("What does <think> do?", f"{WHY}\n</think>\n\nIt opens a block.", "It opens a block."),
            (ASK, f"1. <think>{WHY}</think> first\n2. <think>{WHY}</think> second", "1. first\n2. second"),
            (ASK, f"- a\n- so 42 </think> {ANSWER}", ANSWER),
            (ASK, f"- a\n- </think> {ANSWER}", ANSWER),
            (ASK, f"<think>[1, 2]</think>{ANSWER}", ANSWER),
            (ASK, f"<think>...</think>{ANSWER}", ANSWER),
            (ASK, f"<think hard>{WHY}</think>{ANSWER}", ANSWER),
            ("How many stories are in the files? Say yes.", f"<answer>{ANSWER}</answer>", ANSWER),
            ("Which directory holds the documents?", f"<final_answer>\n{ANSWER}\n</final_answer>", ANSWER),
        ]
    )


ENDS = [
    *("</s>", "<|end|>", "<eos>", "[|endofturn|]", "<|im_end|>", "<|eot_id|>", "<|eot|>", "<end_of_turn>"),
    *("<|endoftext|>", "</s></s>", "&lt;/s&gt;"),
]
HEADERS = [
    "<|im_start|>assistant\n",
    "<start_of_turn>model\n",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<|assistant|>",
    "<s>",
    "<bos><start_of_turn>model\n",
    "<|begin_of_text|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "<|turn>model\n",
    "[|assistant|]",
    "<｜begin▁of▁sentence｜><｜Assistant｜>",
    "<|start_of_role|>assistant<|end_of_role|>",
    "<|im_start|>assistant<|im_sep|>",
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
]


def test_marks_that_begin_or_end_a_turn_go() -> None:
    cases: list[tuple[str, str, str | None]] = []
    for end in ENDS:
        shapes = [f"{ANSWER}{end}", f"{ANSWER}\n{end}\n", f"<think>{WHY}</think>{ANSWER}{end}"]
        cases += [(ASK, said, ANSWER) for said in (*shapes, f"<think>{WHY}</think><answer>{ANSWER}</answer>{end}")]
    cases += [
        (ASK, f"<think>{WHY}</think>\n\n{end}{ANSWER}{end}", ANSWER) for end in ("<|eot_id|>", "<|im_end|>", "</s>")
    ]
    for head in HEADERS:
        shapes = [f"{head}{ANSWER}", f"{head}<think>\n{WHY}\n</think>\n{ANSWER}</s>", f"{head}{WHY}</think>{ANSWER}"]
        shapes += [f"<think>{WHY}</think>{head}{ANSWER}", f"{head}<thought>{WHY}</thought>{head}{ANSWER}<|im_end|>"]
        cases += [(ASK, said, ANSWER) for said in shapes]
        cases.append(("Explain chat templates.", f"`{head.strip()}` opens a turn.", f"`{head.strip()}` opens a turn."))
    cases += [(f"<s>[INST] {ASK} [/INST]", f"{ANSWER}</s>", ANSWER), (ASK, f"<s> {ANSWER} </s>", ANSWER)]
    check(cases)


SPELLINGS = [
    ("＜think＞", "＜／think＞"),
    ("＜ｔｈｉｎｋ＞", "＜／ｔｈｉｎｋ＞"),
    ("\\<think\\>", "\\</think\\>"),
    ("\\[THINK\\]", "\\[/THINK\\]"),
    ("**<think>**", "**</think>**"),
    ("*<thought>*", "*</thought>*"),
    ("**\\<think\\>**", "**\\</think\\>**"),
    ("\ufeff<think>", "</think>"),
    ("\u200b<think>", "</think>\u200b"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|im_start|>think\n", "\n<|im_start|>answer\n"),
    ("&lt;|begin_of_thought|&gt;", "&lt;|end_of_thought|&gt;"),
]


@pytest.mark.parametrize(("opener", "closer"), SPELLINGS)
def test_tags_are_read_in_every_spelling(opener: str, closer: str) -> None:
    bold = f"**Bold** {ANSWER}"
    cases = [
        (ASK, f"{opener}{WHY}{closer}{ANSWER}", ANSWER),
        (ASK, f"{opener}\n{WHY}\n{closer}\n\n{ANSWER}", ANSWER),
        (ASK, f"{opener}{WHY}{closer} <answer> A </answer>", "A"),
        (ASK, f"{WHY}{closer}{ANSWER}", ANSWER),
        (ASK, f"Sure!\n{opener}{WHY}{closer}{ANSWER}", f"Sure!\n{ANSWER}"),
        (ASK, f"{opener}{WHY}", None),
    ]
    if "*" not in opener:
        cases.append((ASK, f"{opener}**a** {WHY} **b**{closer}{bold}", bold))
    check(cases)


def test_harmony_and_phrases_are_read_in_every_spelling() -> None:
    harmony = (
        f"<|channel|>analysis<|message|>{WHY}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>"
    )
    gemma = f"<|channel>thought\n{WHY}<channel|>{ANSWER}<turn|>"
    brackets = (("&lt;", "&gt;"), ("\\u003c", "\\u003e"), ("＜", "＞"), ("\\<", "\\>"))
    cases: list[tuple[str, str, str | None]] = [
        (ASK, said.replace("<", less).replace(">", greater), ANSWER)
        for said in (harmony, gemma)
        for less, greater in brackets
    ]
    for head in (
        "**Here is my thought process:**",
        "**Here's my thinking process**:",
        "## Here is my thought process:",
    ):
        answers = ("**Here is my response:**", "**Here's my final answer**:", "### Here is my response:")
        cases += [(ASK, f"{head} {WHY}\n\n{then} {ANSWER}", ANSWER) for then in answers]
        cases.append((ASK, f"{head} {WHY}", None))
    for begins, ends in (("Thinking...", "...done thinking."), ("Thinking…", "… done thinking")):
        cases += [(ASK, f"{begins}\n{WHY}\n{ends}\n\n{ANSWER}", ANSWER), (ASK, f"{begins}\n{WHY}\n{ends}\n", None)]
    check(cases)


BODIES = [CODE, "Run:\n~~~\nls\n~~~", "```\na\n```\nand\n```js\nb\n```", "- a\n- `b`", "1. x\n   ```sh\n   ls\n   ```"]


@pytest.mark.parametrize("body", BODIES)
def test_a_wrapper_loses_both_tags_whatever_stands_in_it(body: str) -> None:
    names = (
        "<answer> </answer>",
        "<Output> </Output>",
        "<|begin_of_box|> <|end_of_box|>",
        "<final_answer> </final_answer>",
    )
    draft = f"{WHY}\n```py\nx = 1\n```"
    before = (f"<think>{WHY}</think>", f"<think>{draft}</think>", f"{draft}</think>\n")
    check(
        [
            (ASK, f"{thinking}{opener}{blank}{body}{blank}{closer}", body)
            for opener, closer in map(str.split, names)
            for thinking in before
            for blank in ("", " ", "\n")
        ]
    )


@pytest.mark.parametrize("closer", ["</think>", "</thought>", "◁/think▷", "[/THINK]", "<|end_of_thought|>"])
def test_reasoning_may_leave_a_fence_open(closer: str) -> None:
    check(
        [
            (ASK, f"Draft:\n```python\nprint(4)\nNo.\n{closer}\n\n{CODE}", CODE),
            (ASK, f"Draft:\n```python\nprint(4)\nNo. {closer}\n{CODE}\nDone.", f"{CODE}\nDone."),
            (ASK, f"Draft:\n```\nprint(4)\nNo.\n{closer}\n```\nx\n```", "```\nx\n```"),
            (ASK, f"Draft:\n{CODE}\nand\n```python\nNo.\n{closer}\n{CODE}\nand\n{CODE}", f"{CODE}\nand\n{CODE}"),
        ]
    )


@pytest.mark.parametrize("body", ["    x = l[::2]\n    return x", "\tx = 1\n\treturn x", "  - a\n  - b"])
def test_the_first_line_of_an_answer_keeps_its_indentation(body: str) -> None:
    shapes = [f"<think>{WHY}</think>\n{body}", f"<think>\n{WHY}\n</think>\n\n{body}\n", f"{WHY}\n</think>\n{body}"]
    shapes += [
        f"<think>{WHY}</think>\n<answer>\n{body}\n</answer>",
        f"{body}<|im_end|>",
        f"<think>{WHY}</think>\n  \n{body}</s>",
    ]
    check([("Complete: def f(l):", said, body) for said in shapes])
    check([(ASK, f"<think>{WHY}</think>\n {ANSWER}", ANSWER), (ASK, f" {ANSWER}</s>", ANSWER)])


def test_the_proof_reads_every_spelling_and_past_open_fences() -> None:
    said = [
        "8</s>",
        "8 <eos>",
        "[|endofturn|]8",
        "＜／ｔｈｉｎｋ＞ 8",
        "\\<think\\> 8",
        f"a\n```py\nx\n</think>\n\n{CODE}",
        "`</s>`",
        "a <s>b</s> c",
    ]
    found = {
        (row["source"], row["name"])
        for row in proof.marks(pa.array([str(n) for n in range(8)]), pa.array(said)).to_dicts()
    }
    marks = ("</s>", "<eos>", "[|endofturn|]", "</think>", "<think>", "</think>")
    assert found == {(str(place), name) for place, name in enumerate(marks)}
    blocks = [
        f"a\n```py\nx\n</think>\n\n{CODE}",
        f"a\n```\nx\n</think>\ny\n```\n{CODE}",
        "＜ｔｈｉｎｋ＞x＜／ｔｈｉｎｋ＞8",
    ]
    assert proof.rows_with_blocks(pa.array(["q"] * 3), pa.array(blocks)).tolist() == [0, 2]


def test_unknown_tags_are_suspected_in_every_spelling() -> None:
    said = [
        '<Muse depth="2">x</Muse>8',
        "&lt;ponder&gt;x&lt;/ponder&gt;8",
        "【思考】x【/思考】8",
        '<div class="a">x</div>8',
    ]
    suspects = proof.suspects(pa.array(["a"] * 4), pa.array(said))
    assert suspects["name"].to_list() == ["<Muse>", "<ponder>", "【思考】"]


def test_titles_end_no_sentence_and_programs_are_no_bare_answers() -> None:
    said = ["Mrs. Hilt has 5 cookies.", "3 * 6 = 18, so there are 18 pens.", "def f(x):\n    return x * 2"]
    assert is_bare_answer(pa.array(["cot"] * 3), pa.array(said)).tolist() == [True, False, False]

"""Thinking: no reasoning is left, nothing of the answer is lost, and text about tags stays as it is."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.exact import digest128
from filters.stage import apply
from filters.thinking.families import FAMILIES
from filters.thinking.strip import CENSUS, MAX_PASSES, StripThinking, Thinking, census, rows_with_thinking, strip

STRIPPED = [
    ("<think>a</think>ans", "ans"),
    ("<think>a<think>b</think>c</think>ans", "ans"),
    ("<think>a<think>b</think>ans", "ans"),
    ("a a a</think>ans", "ans"),
    ("so it is 9\n</think>\n\nThe answer is 9.", "The answer is 9."),
    ("so 9 </think> The answer is 9", "The answer is 9"),
    ("<THINK>a</Think >ans", "ans"),
    ("<think></think>\n\nans", "ans"),
    ("<think time=3>x</think>ans", "ans"),
    ("<thinking type=\"deep\" n='2'>\nx\n</thinking>\n\nans", "ans"),
    ("<think>x</thinking>ans", "ans"),
    ("<thinking>a<reflection>b</reflection>c</thinking><output>ans</output>", "ans"),
    ("<scratchpad>1</scratchpad><reasoning>2</reasoning>ans", "ans"),
    ("<think>a</think>x\n<think>b</think>\ny", "x\ny"),
    ("<think>a</think>ans<think>b", "ans"),
    ("Hello <think>x</think> world", "Hello world"),
    ("<think> \nx\n</think> \n<answer> \\boxed{9}", "\\boxed{9}"),
    ("<think>a</think>The result.\n\n<answer>5</answer>", "The result.\n\n5"),
    ("<Thought>\nx\n</Thought>\n<Output>\nyes\n</Output>", "yes"),
    ("<answer>42</answer>", "42"),
    ("<|begin_of_thought|>x<|end_of_thought|>\n<|begin_of_solution|>ans<|end_of_solution|>", "ans"),
    ("<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>final<|message|>ans<|return|>", "ans"),
    (
        "<|channel|>analysis<|message|>x<|end|><|channel|>commentary to=f.g <|constrain|>json<|message|>{}<|call|>"
        "<|start|>assistant<|channel|>final<|message|>ans",
        "ans",
    ),
    ("analysisWe add.assistantfinalans", "ans"),
    ("◁think▷x◁/think▷ans", "ans"),
    ("<reasoning_content>x</reasoning_content>ans", "ans"),
    ("<antThinking>x</antThinking>ans", "ans"),
    # The answer is kept even if the reasoning was never closed, or mentions the tags.
    ("<think>reason <answer>42</answer>", "42"),
    ("<think>I close with `</think>` later</think>ans", "ans"),
    ("<think>I put it in <think> tags, as </think> tags say</think>ans", "ans"),
    ("<think>code:\n```python\nx = 1\n</think>\nans", "ans"),
    ("<think>a</think>The answer is 4.</think>", "The answer is 4."),
    ("<think>a</think>`<think>` is a tag", "`<think>` is a tag"),
    ("<think>a</think><Output>\nfn f<Output>() {}\n</Output>", "fn f<Output>() {}"),
    # The result of one reading is read again.
    ("<th<think>x</think>ink>y</think>ans", "ans"),
    ("reasoning: 9</think>: 9", ": 9"),
]

LEFT_ALONE = [
    "",
    "yes",
    "  white space at both ends \n",
    "`<think>` opens and `</think>` closes a block",
    "The <think> tag opens a block and </think> closes it.",
    "Use <think>...</think> around it.",
    'Both "<think>" and "</think>" are tags.',
    "Models emit <think> first",
    "```\n<think>\nx\n</think>\n```\nis how it looks",
    "~~~xml\n<think>x</think>\n~~~",
    "An HTML form has <output id='a'>3</output> in it.",
    "impl Add<Output = T> for X<Output>",
    "x < y and y > z, a | b, [1, 2], 3 <think",
    "| a | b |\n|---|---|",
    "Tokens like <|end|> and <|im_end|>",
    "Thoughtful <b>bold</b> and <thinker>not a tag</thinker>",
    "analysis of variance has a final assistant",
    "- <think>: opens\n- </think>: closes",
    "2. </thinking>: the closing tag",
    "| tag | meaning |\n|---|---|\n| <think> | opens |\n| </think> | closes |",
]


@pytest.mark.parametrize(("text", "answer"), STRIPPED)
def test_the_answer_is_what_is_left(text: str, answer: str) -> None:
    answers = strip(pa.array([text]))
    assert answers.text.to_pylist() == [answer]
    assert answers.changed.tolist() == [True]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_text_without_thinking_comes_out_as_it_went_in(text: str) -> None:
    answers = strip(pa.array([text]))
    assert answers.text.to_pylist() == [text]
    assert answers.blocks.tolist() == [0]
    assert not answers.changed.any() and not answers.unclosed.any()


NAMED = ("<|channel>", "<|im_start|>", "<unused94>", "<ctrl94>")  # a name belongs to these, and ends before a line feed


def test_every_tag_of_the_table_opens_and_closes() -> None:
    pairs = [
        (
            tag + "<|message|>" * tag.startswith("<|channel|>") + "\n" * tag.startswith(NAMED),
            close + "\n" * close.startswith(NAMED),
        )
        for family in FAMILIES
        if family.wraps == "thinking"
        for tag in family.opens
        for close in family.closes[:: max(1, len(family.closes) - 1)]
    ]
    assert len(pairs) > 100
    closed = strip(pa.array([f"{tag}why{close}ans" for tag, close in pairs]))
    assert closed.text.to_pylist() == ["ans"] * len(pairs) and not closed.unclosed.any()
    assert closed.thinking.to_pylist() == ["why"] * len(pairs)
    opened = strip(pa.array([f"{tag}why" for tag, _ in pairs]))
    assert opened.text.to_pylist() == [""] * len(pairs) and opened.unclosed.all()
    ended = [f"why{close}ans" for tag, close in pairs if not tag.startswith("<|channel|>")]  # harmony always opens
    assert strip(pa.array(ended)).text.to_pylist() == ["ans"] * len(ended)


@pytest.mark.parametrize(
    ("opener", "closer"),
    [
        (o, c)
        for family in FAMILIES
        if family.wraps == "answer"
        for o, c in zip(family.opens, family.closes, strict=False)
    ],
)
def test_every_answer_wrapper_loses_its_tags_and_keeps_its_content(opener: str, closer: str) -> None:
    opener += "<|message|>" * opener.startswith("<|channel|>")
    assert strip(pa.array([f"<think>why</think>\n{opener}ans{closer}"])).text.to_pylist() == ["ans"]


def test_rows_do_not_disturb_each_other() -> None:
    texts = [*(text for text, _ in STRIPPED), *LEFT_ALONE]
    answers = strip(pa.array(["x", *texts]).slice(1))
    assert answers.text.to_pylist() == [*(answer for _, answer in STRIPPED), *LEFT_ALONE]


TAGS = "<think> </think> <thinking> </thinking> <answer> </answer> <Output> </Output> <|channel|>analysis<|message|>"
MARKS = ["<|channel|>final<|message|>", "<|end|>", "<|return|>", "◁think▷", "◁/think▷"]
PIECES = st.sampled_from([*TAGS.split(), *MARKS, "`", "```", "\n", " ", "a", "the", "é", "<", "|", ".", "tag"])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=14).map("".join), min_size=1, max_size=5))
def test_stripping_twice_is_stripping_once_and_invents_nothing(texts: list[str]) -> None:
    once = strip(pa.array(texts, pa.string()))
    twice = strip(once.text)
    assert twice.text.equals(once.text)
    assert twice.blocks.tolist() == [0] * len(texts)
    for text, answer, changed in zip(texts, once.text.to_pylist(), once.changed, strict=True):
        remaining = iter(text)
        assert all(letter in remaining for letter in answer)  # a subsequence
        assert changed == (answer != text)


def test_a_transform_keeps_rows_columns_and_digests_in_step() -> None:
    columns = {"id": ["0", "1", "2"], "condition": ["cot"] * 3, "instruction": ["q"] * 3}
    records = pa.table({**columns, "response": ["<think>w</think>4", "4", "<think>w"]})
    digest = digest128(*(records[name].chunk(0) for name in ("condition", "instruction", "response")))
    records = records.append_column("digest", digest)
    result = StripThinking().rewrite(records)
    assert result["id"].equals(records["id"])
    assert result["response"].to_pylist() == ["4", "4", ""]
    assert result["score_thinking"].to_pylist() == [1.0, 0.0, -1.0]
    assert result.schema.field("score_thinking").type == pa.float32()
    assert result["condition"].to_pylist() == ["direct", "cot", "cot"]
    contents = (result[name].combine_chunks() for name in ("condition", "instruction", "response"))
    assert result["digest"].to_pylist() == digest128(*contents).to_pylist()
    assert result["digest"][1] == records["digest"][1]


def test_keep_keeps_the_reasoning_in_a_column() -> None:
    records = pa.table({"response": ["<think> w\n</think>x\n<think>v</think>y", "z"]})
    result = StripThinking(mode="keep").rewrite(records)
    assert result["thinking"].to_pylist() == ["w\n\nv", ""]
    assert "thinking" not in StripThinking().rewrite(records).column_names


def test_a_dropped_record_shows_the_thinking_that_it_was_dropped_for() -> None:
    records = pa.table({"response": ["<think>cut of", "<think>w</think>4"]})
    outcome = apply([Thinking(), StripThinking()], records)
    assert outcome.dropped["response"].to_pylist() == ["<think>cut of"]
    assert outcome.dropped["reason"].to_pylist() == ["thinking_unclosed"]
    assert outcome.kept["response"].to_pylist() == ["4"]


def tangled(layers: int) -> str:
    """Tags within tags: each reading of the text uncovers the next."""
    return "<think>x</think>ans " + "<|start" * layers + "<|start|>" + "|>" * layers


def test_a_text_that_cannot_be_freed_of_thinking_is_known() -> None:
    answers = strip(pa.array(["plain", tangled(MAX_PASSES - 2), tangled(MAX_PASSES + 2)]))
    assert answers.tangled.tolist() == [False, False, True]
    assert answers.text.to_pylist()[:2] == ["plain", "ans"]  # tags alone, by readings that each uncover one
    assert rows_with_thinking(answers.text).tolist() == [2]
    verdicts = Thinking().judge(pa.table({"response": [tangled(1), tangled(MAX_PASSES + 2)]}))
    assert verdicts.field("reason").to_pylist()[1] == "thinking_tangled" and not verdicts[0].is_valid


def test_a_solution_that_was_cut_off_is_dropped() -> None:
    opening = "<|begin_of_thought|>x<|end_of_thought|><|begin_of_solution|>so"
    responses = [
        opening,
        opening + "<|end_of_solution|>",
        "<think>x</think><answer>4",
        "<|begin_of_solution|> is a tag",
    ]
    verdicts = Thinking().judge(pa.table({"response": responses}))
    assert [verdict["reason"] if verdict else None for verdict in verdicts.to_pylist()] == [
        "answer_unclosed",
        None,
        None,
        None,
    ]


def test_the_census_counts_blocks_by_source_and_family() -> None:
    responses = [
        "<think>1</think>x\n<think>2</think>y",
        "<think>1",
        "<thought>1</thought>x<think>",
        "plain",
        "analysisWe add.assistantfinal4",
    ]
    records = pa.table({"source": ["a", "a", "b", "b", "b"], "response": responses})
    zero = {"unclosed": 0, "dropped": 0}
    assert census(records, np.array([False, True, True, False, False])).to_pylist() == [
        {"source": "a", "family": "think", "rows": 2, "blocks": 3, "unclosed": 1, "dropped": 1},
        {"source": "b", "family": "harmony", "rows": 1, "blocks": 1, **zero},
        {"source": "b", "family": "think", "rows": 1, "blocks": 1, "unclosed": 1, "dropped": 1},
        {"source": "b", "family": "thought", "rows": 1, "blocks": 1, "unclosed": 0, "dropped": 1},
    ]
    nothing = census(records.slice(3, 1), np.zeros(1, np.bool_))
    assert nothing.num_rows == 0 and nothing.schema == CENSUS


@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "</think>",
        "a <think> b ",
        "```x\n",
        "`",
        "``` \n",
        "<answer>",
        "<think><answer>",
        "◁",
        "<|channel|>analysis",
        "</think> a",
    ],
)
@pytest.mark.fault("pathological texts for the thinking stripper", "linear time")
def test_hostile_text_is_read_in_linear_time(piece: str) -> None:
    strip(pa.array([piece * 200_000]))  # quadratic reading would take hours


def compact(text: object) -> str:
    return re.sub(r"[\s\\{},.$]|text|frac|boxed", "", str(text))


def test_real_traces_lose_their_reasoning_and_keep_their_answers(shared_data: Path) -> None:
    closed = unclosed = 0
    for path in sorted((shared_data / "sources" / "reasoning_traces").glob("rg_*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        outputs = [output for row in rows for output in row["code"]]
        predictions = [prediction for row in rows for prediction in row["pred"]]
        answers = strip(pa.array(outputs, pa.string()))
        for output, answer, cut, prediction in zip(
            outputs, answers.text.to_pylist(), answers.unclosed, predictions, strict=True
        ):
            assert not re.search(r"(?i)</?(think|answer)>", answer)
            assert cut == ("</think>" not in output)
            if cut:  # reasoning to the end of the text: there is no answer
                unclosed += 1
                assert answer == ""
            else:
                closed += 1
                rest = output.partition("</think>")[2]
                assert compact(answer) == compact(rest.replace("<answer>", ""))
                # Predictions were stored without spaces and units, a/b as a fraction: letters in order.
                letters = iter(compact(answer))
                assert all(letter in letters for letter in compact(prediction))
    assert (closed, unclosed) == (5519, 15)


def test_real_thoughts_lose_their_reasoning_and_keep_their_answers(shared_data: Path) -> None:
    rows = json.loads((shared_data / "sources" / "marco_o1_thoughts.json").read_text(encoding="utf-8"))
    answers = strip(pa.array([row["response"] for row in rows], pa.string()))
    assert answers.blocks.tolist() == [1] * 125
    for row, answer in zip(rows, answers.text.to_pylist(), strict=True):
        output = row["response"].partition("</Thought>")[2].strip()
        assert answer == output.removeprefix("<Output>").removesuffix("</Output>").strip()


def test_real_texts_without_thinking_are_left_alone(shared_data: Path) -> None:
    sources = shared_data / "sources"
    texts = [line for path in sorted((sources / "gpteacher").glob("*.json")) for line in texts_of(path)]
    with (sources / "mawps_asdiv_svamp_train.csv").open(encoding="utf-8", newline="") as lines:
        texts += [" ".join(row) for row in csv.reader(lines)]
    answers = strip(pa.array(texts, pa.string()))
    assert len(texts) > 5_000 and not answers.changed.any()


def texts_of(path: Path) -> list[str]:
    return [str(row["response"]) for row in json.loads(path.read_text(encoding="utf-8"))]

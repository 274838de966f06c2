"""Samples of the sources that HRM-Text does not have, in the schema of each data set."""

from __future__ import annotations

from tests.pipelines.sources.samples.sample import Sample

SAMPLES = [
    Sample(
        "flan_cot",
        "a.tsv",
        'Say "x"?\\nOptions:\\n- yes\\n- no\tno\tFirst this. \nq\t(C)\tLine.\\nOther line\n',
        [
            (0, "", "cot", 'Say "x"?\nOptions:\n- yes\n- no', "First this.\nThe answer is no."),
            (1, "", "cot", "q", "Line.\nOther line\nThe answer is (C)."),
        ],
    ),
    Sample(
        "t0_p3",
        "a.jsonl",
        [
            {"prompt": "p\n", "completion": "naïve<|endoftext|>"},
            {"prompt": "p", "completion": "<|endoftext|>"},
            {"prompt": "p", "completion": "say <|endoftext|> twice"},
        ],
        [
            (0, "", "direct", "p\n", "naïve"),
            (1, "", "direct", "p", ""),
            (2, "", "direct", "p", "say <|endoftext|> twice"),
        ],
    ),
    Sample(
        "gpteacher",
        "a.json",
        [{"instruction": "i", "input": "", "response": "r"}, {"instruction": "i", "input": "x: 5", "response": "r"}],
        [(0, "", "synth,direct", "i", "r"), (1, "", "synth,direct", "i\n\nx: 5", "r")],
    ),
    Sample(
        "reasoning_gym_eval",
        "a.jsonl",
        [
            {
                "idx": 0,
                "question": "q",
                "gt": "1",
                "code": ["<think>t</think><answer>1"],
                "pred": ["1"],
                "report": [None],
            },
            {"idx": 1, "question": "r", "gt": "1", "code": ["a", "b", "c"], "pred": [], "report": []},
        ],
        [
            (0, "", "synth,cot", "q", "<think>t</think><answer>1"),
            (1, "", "synth,cot", "r", "a"),
            (1, "answer1", "synth,cot", "r", "b"),
            (1, "answer2", "synth,cot", "r", "c"),
        ],
    ),
    Sample(
        "lrm_token_economy",
        "a.json",
        {"results": [{"prompt_id": "p", "prompt": "q", "llm": "m", "output": ["a", "b"], "thinking": ["t", "u"]}]},
        [(0, "", "synth,cot", "q", "a"), (0, "answer1", "synth,cot", "q", "b")],
    ),
    Sample(
        "marco_o1",
        "a.json",
        [{"instruction": "q", "response": "<Thought>t</Thought>\n<Output>\na\n</Output>"}],
        [(0, "", "synth,cot", "q", "<Thought>t</Thought>\n<Output>\na\n</Output>")],
    ),
    *[
        Sample(
            name,
            "a.json",
            [
                {
                    "instruction": "Choose: Answer1: x",
                    "input": "",
                    "output": "the correct answer is answer1",
                    "answer": "answer1",
                }
            ],
            [(0, "", "direct", "Choose: Answer1: x", "the correct answer is answer1")],
        )
        for name in ("arc_challenge", "boolq", "openbookqa")
    ],
    Sample(
        "mawps_asdiv_svamp",
        "a.csv",
        "Question,Numbers,Equation,Answer\n"
        '"He , has number0 books and number1 shelves",56.0 9.5,* number0 number1,532.0\n'
        + " ".join(f"number{i}" for i in (0, 1, 10))
        + ","
        + " ".join(f"{i}.0" for i in range(100, 111))
        + ",+,0.25\n",
        [(0, "", "direct", "He , has 56 books and 9.5 shelves", "532"), (1, "", "direct", "100 101 110", "0.25")],
    ),
    Sample(
        "deepscaler_aime",
        "a.json",
        [{"problem": "q", "solution": "s", "answer": "049", "year": 1983}],
        [(0, "", "noisy,cot", "q", "s"), (0, "direct", "direct", "q", "049")],
    ),
    Sample(
        "self_instruct_seeds",
        "a.jsonl",
        [
            {"instruction": "i", "instances": [{"input": "", "output": "o"}]},
            {"instruction": "j", "instances": [{"input": "x", "output": "o"}, {"input": "y", "output": "p"}]},
        ],
        [(0, "", "direct", "i", "o"), (1, "", "direct", "j\n\nx", "o"), (1, "instance1", "direct", "j\n\ny", "p")],
    ),
]

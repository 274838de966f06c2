"""Samples of the mathematical sources, in the schema of each data set."""

from __future__ import annotations

from typing import Any

from tests.pipelines.sources.samples.sample import RuledSample, Sample

SUFFIX = r"Let's think step by step and output the final answer within \boxed{}."


def ground_truth(question: str, solution: str) -> dict[str, Any]:
    truth = {"question": f"{question} {SUFFIX}", "solution": solution, "target": "?"}
    return {"level": "Level 5", "reward_model": {"ground_truth": truth, "style": "rule"}}


def numina(**changes: Any) -> dict[str, Any]:
    row = {
        "problem": " p ",
        "solution": "s",
        "answer": "1",
        "problem_type": "Algebra",
        "question_type": "math-word-problem",
    }
    return (
        row
        | {"problem_is_valid": "Yes", "solution_is_valid": "Yes", "source": "olympiads", "synthetic": False}
        | changes
    )


def science(**changes: Any) -> dict[str, Any]:
    row = {"question": "Why? ", "choices": ["red", " blue "], "answer": 1, "hint": "", "lecture": "", "solution": ""}
    return row | changes


SAMPLES = [
    Sample(
        "gsm8k",
        "a.jsonl",
        [
            {"question": "q", "answer": "He has <<48/2=24>>24.\n#### 72"},
            {"question": "r", "answer": "x\n#### $1,000 \n"},
        ],
        [(0, "", "direct", "q", "72"), (1, "", "direct", "r", "$1000")],
    ),
    Sample(
        "math",
        "a.parquet",
        [ground_truth("q?", r"So \boxed{\frac{1}{2}}."), ground_truth("r", r"\fbox{3}, that is \boxed 5$")],
        [
            (0, "", "cot", "q?", r"So \boxed{\frac{1}{2}}."),
            (0, "direct", "direct", "q?", r"\frac{1}{2}"),
            (1, "", "cot", "r", r"\fbox{3}, that is \boxed 5$"),
            (1, "direct", "direct", "r", "5"),
        ],
    ),
    Sample(
        "math",
        "a.jsonl",
        [{"problem": "q", "level": "Level 1", "type": "Algebra", "solution": r"\boxed{7}"}],
        [(0, "", "cot", "q", r"\boxed{7}"), (0, "direct", "direct", "q", "7")],
    ),
    Sample(
        "theoremqa",
        "a.json",
        [
            {"Question": f"q{i}", "Answer": answer, "Answer_type": "?", "Picture": None}
            for i, answer in enumerate([11760, 1.0, True, [0.333, 5], "(c)"])
        ],
        [(i, "", "direct", f"q{i}", a) for i, a in enumerate(["11760", "1.0", "True", "[0.333, 5]", "(c)"])],
    ),
    Sample(
        "scibench",
        "a.json",
        [
            {"problem_text": " q", "answer_latex": " 50.7", "answer_number": "50.7", "unit": "$\\mathrm{atm}$ "},
            {"problem_text": "r", "answer_latex": " ", "answer_number": "0.5", "unit": " ", "solution": "\nThus. "},
            {"problem_text": "s", "answer_latex": "7", "answer_number": "7", "unit": "", "solution": ""},
        ],
        [
            (0, "", "direct", "q", "50.7 $\\mathrm{atm}$"),
            (1, "", "direct", "r", "0.5"),
            (1, "cot", "cot", "r", "Thus."),
            (2, "", "direct", "s", "7"),
        ],
    ),
]
RULED = [
    RuledSample(
        "numinamath",
        "train-00000-of-00003.parquet",
        [
            numina(),
            numina(question_type="proof"),
            numina(answer="proof"),
            numina(synthetic=True),
            numina(problem_is_valid="Incomplete"),
            numina(solution_is_valid="Problem not solved"),
            numina(solution=None),
            numina(answer=None),
            numina(problem="see http://x"),
            numina(solution="Translate the text above into English, please"),
            numina(answer=" "),
        ],
        {
            "s/f/0": ("noisy,cot", "p", "s"),
            "s/f/0/direct": ("noisy,direct", "p", "1"),
            "s/f/1": ("noisy,cot", "p", "s"),
            "s/f/2": ("noisy,cot", "p", "s"),
            "s/f/10": ("noisy,cot", "p", "s"),
        },
        {
            "s/f/1/direct": "source/proof",
            "s/f/2/direct": "source/proof",
            "s/f/3": "source/synthetic",
            "s/f/4": "source/invalid",
            "s/f/5": "source/invalid",
            "s/f/6": "source/no_answer",
            "s/f/7": "source/no_answer",
            "s/f/8": "source/link",
            "s/f/9": "source/translation",
            "s/f/10/direct": "source/no_answer",
        },
    ),
    RuledSample(
        "openmathinstruct2",
        "train-00000-of-00032.parquet",
        [
            {"problem": "p", "generated_solution": "s", "expected_answer": "1", "problem_source": "augmented_math"},
            {"problem": "q", "generated_solution": "t", "expected_answer": "2", "problem_source": "gsm8k"},
        ],
        {
            "s/cot/0/f": ("synth,cot", "p", "s"),
            "s/direct/0/f.direct": ("synth,direct", "p", "1"),
            "s/cot/1/f": ("synth,cot", "q", "t"),
        },
        {"s/direct/1/f.direct": "source/original_problem"},
    ),
    RuledSample(
        "principia",
        "numerical/train-00000-of-00001.parquet",
        [{"problem_statement": "q", "answer": "a", "answer_type": "numerical", "topic": "x"}],
        {"s/f/0": ("synth,direct", "q", "a")},
        {},
    ),
    RuledSample(
        "omnimath",
        "test.jsonl",
        [{"domain": ["x"], "difficulty": 8.0, "problem": "q", "solution": "s\n", "answer": " a", "source": "imo"}],
        {"s/f/0": ("cot", "q", "s"), "s/f/0/direct": ("direct", "q", "a")},
        {},
    ),
    RuledSample(
        "arb",
        "law.json",
        [{"instruction": "Who?\nA: x", "response": "A"}],
        {"s/f/0": ("direct", "Choose the correct option letter.\n\nWho?\nA: x", "A")},
        {},
    ),
    RuledSample(
        "arb",
        "physics.json",
        [{"instruction": "Why?", "response": "So."}],
        {"s/f/0": ("cot", "Solve the physics problem.\n\nWhy?", "So.")},
        {},
    ),
    RuledSample(
        "openbookqa",
        "train-00000-of-00001.parquet",
        [
            {
                "id": "7",
                "question_stem": "The sun is",
                "choices": {"text": ["hot", "cold"], "label": ["A", "B"]},
                "answerKey": "A",
                "fact1": "the sun burns",
                "humanScore": 1.0,
            }
        ],
        {
            "s/f/0": (
                "direct",
                "Based on the given fact, which of the following option is the correct answer to the question?\n\n"
                "The sun is \nA: hot\nB: cold\n\nFact: the sun burns",
                "A",
            )
        },
        {},
    ),
    RuledSample(
        "reclor",
        "val.json",
        [{"context": "C.", "question": "Q?", "answers": ["x", "y", "z", "w"], "label": 2, "id_string": "val_0"}],
        {"s/f/0": ("direct", "Q?\n\nC.\n\nOptions:\nA: x\nB: y\nC: z\nD: w", "C")},
        {},
    ),
    RuledSample(
        "scienceqa",
        "train-00000-of-00001.parquet",
        [science(), science(lecture="L", solution="S"), science(solution="S")],
        {
            "s/f/0/direct": ("direct", "Why?\nOptions:\nA: red\nB: blue", "B"),
            "s/f/1": (
                "cot",
                "Solve the following question using the information provided in the lecture.\n\n"
                "Why?\nOptions:\nA: red\nB: blue\n\nLecture: L",
                "S\n\nAnswer: B",
            ),
            "s/f/1/direct": (
                "direct",
                "Choose the correct option letter for the following question based on the information from the "
                "lecture.\n\nWhy?\nOptions:\nA: red\nB: blue\n\nLecture: L",
                "B",
            ),
            "s/f/2": ("cot", "Why?\nOptions:\nA: red\nB: blue", "S\n\nAnswer: B"),
            "s/f/2/direct": ("direct", "Why?\nOptions:\nA: red\nB: blue", "B"),
        },
        {"s/f/0": "source/no_solution"},
    ),
    RuledSample(
        "theoremqa",
        "test-00000-of-00001.parquet",
        [
            {"Question": "q", "Answer": "[1, 2]", "Answer_type": "list of integer", "Picture": None},
            {
                "Question": "q",
                "Answer": "1",
                "Answer_type": "integer",
                "Picture": {"bytes": b"\x89PNG", "path": "x.png"},
            },
        ],
        {"s/f/0": ("direct", "q", "[1, 2]")},
        {"s/f/1": "source/needs_picture"},
    ),
    RuledSample(
        "gsm8k",
        "main/train-00000-of-00001.parquet",
        [{"question": "q", "answer": "<<1+1=2>>2\n#### 2"}, {"question": "r", "answer": "no mark"}],
        {"s/f/0": ("direct", "q", "2")},
        {"s/f/1": "conform/null_response"},
    ),
    RuledSample(
        "math",
        "algebra/train-00000-of-00001.parquet",
        [{"problem": "p", "level": "Level 1", "type": "Algebra", "solution": r"so \boxed{7}"}],
        {"s/f/0": ("cot", "p", r"so \boxed{7}"), "s/f/0/direct": ("direct", "p", "7")},
        {},
    ),
]

"""The adapters: on samples in the upstream schema everywhere, and on the real files where they are present."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli.render import plan_lines
from pipelines import recipe as recipes
from pipelines.errors import InputError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.plan import RATES_FILE, Plan, plan
from pipelines.recipe import Recipe
from pipelines.records import CONDITIONS, RAW, TASK, conform
from pipelines.sources import SOURCES
from pipelines.sources.competition_math import last_boxed
from pipelines.sources.source import RAW_ROWS, RAW_TOKENS
from pipelines.steps.ingest import by_source, ingest, plan_inputs
from pipelines.steps.sampling import ID, rule_of

FILES = [source for source in SOURCES.values() if source.read is not None]
SUFFIX = r"Let's think step by step and output the final answer within \boxed{}."


def write(path: Path, rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path, "w:gz") as archive:
            for name, content in rows.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(rows)
    return path


def read(name: str, path: Path) -> list[dict[str, Any]]:
    source = SOURCES[name]
    assert source.read is not None
    tables = list(source.read(str(path)))
    assert all(table.schema.equals(RAW) or table.schema.equals(RAW.append(TASK)) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def records(name: str, path: Path) -> list[tuple[Any, ...]]:
    keys = ("row", "variant", "condition", "instruction", "response")
    rows = read(name, path)
    assert all(row["fault"] is None for row in rows)
    return [tuple(row[key] for key in keys) for row in rows]


def ground_truth(question: str, solution: str) -> dict[str, Any]:
    truth = {"question": f"{question} {SUFFIX}", "solution": solution, "target": "?"}
    return {"level": "Level 5", "reward_model": {"ground_truth": truth, "style": "rule"}}


SAMPLES: list[tuple[str, str, Any, list[tuple[Any, ...]]]] = [
    (
        "gsm8k",
        "a.jsonl",
        [
            {"question": "q", "answer": "He has <<48/2=24>>24.\n#### 72"},
            {"question": "r", "answer": "x\n#### $1,000 \n"},
        ],
        [(0, "", "direct", "q", "72"), (1, "", "direct", "r", "$1000")],
    ),
    (
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
    (
        "math",
        "a.jsonl",
        [{"problem": "q", "level": "Level 1", "type": "Algebra", "solution": r"\boxed{7}"}],
        [(0, "", "cot", "q", r"\boxed{7}"), (0, "direct", "direct", "q", "7")],
    ),
    (
        "flan_cot",
        "a.tsv",
        'Say "x"?\\nOptions:\\n- yes\\n- no\tno\tFirst this. \nq\t(C)\tLine.\\nOther line\n',
        [
            (0, "", "cot", 'Say "x"?\nOptions:\n- yes\n- no', "First this.\nThe answer is no."),
            (1, "", "cot", "q", "Line.\nOther line\nThe answer is (C)."),
        ],
    ),
    (
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
    (
        "gpteacher",
        "a.json",
        [{"instruction": "i", "input": "", "response": "r"}, {"instruction": "i", "input": "x: 5", "response": "r"}],
        [(0, "", "synth,direct", "i", "r"), (1, "", "synth,direct", "i\n\nx: 5", "r")],
    ),
    (
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
    (
        "lrm_token_economy",
        "a.json",
        {"results": [{"prompt_id": "p", "prompt": "q", "llm": "m", "output": ["a", "b"], "thinking": ["t", "u"]}]},
        [(0, "", "synth,cot", "q", "a"), (0, "answer1", "synth,cot", "q", "b")],
    ),
    (
        "marco_o1",
        "a.json",
        [{"instruction": "q", "response": "<Thought>t</Thought>\n<Output>\na\n</Output>"}],
        [(0, "", "synth,cot", "q", "<Thought>t</Thought>\n<Output>\na\n</Output>")],
    ),
    (
        "theoremqa",
        "a.json",
        [
            {"Question": f"q{i}", "Answer": answer, "Answer_type": "?", "Picture": None}
            for i, answer in enumerate([11760, 1.0, True, [0.333, 5], "(c)"])
        ],
        [(i, "", "direct", f"q{i}", a) for i, a in enumerate(["11760", "1.0", "True", "[0.333, 5]", "(c)"])],
    ),
    (
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
    *[
        (
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
    (
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
    (
        "deepscaler_aime",
        "a.json",
        [{"problem": "q", "solution": "s", "answer": "049", "year": 1983}],
        [(0, "", "noisy,cot", "q", "s"), (0, "direct", "direct", "q", "049")],
    ),
    (
        "self_instruct_seeds",
        "a.jsonl",
        [
            {"instruction": "i", "instances": [{"input": "", "output": "o"}]},
            {"instruction": "j", "instances": [{"input": "x", "output": "o"}, {"input": "y", "output": "p"}]},
        ],
        [(0, "", "direct", "i", "o"), (1, "", "direct", "j\n\nx", "o"), (1, "instance1", "direct", "j\n\ny", "p")],
    ),
]


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


def synth(exercise: str | None, **changes: Any) -> dict[str, Any]:
    row = {
        "synth_id": "x",
        "language": "en",
        "exercise": exercise,
        "query": "q",
        "query_seed_url": "https://en",
        "constraints": " c",
    }
    return row | {"synthetic_reasoning": "secret", "synthetic_answer": "a"} | changes


def talk(asked: str, answered: str, source: str = "openr1_math") -> dict[str, Any]:
    turns = [{"from": "user", "value": asked}, {"from": "assistant", "value": answered}]
    return {"conversations": turns, "question": None, "source": source, "id": 1}


def science(**changes: Any) -> dict[str, Any]:
    row = {"question": "Why? ", "choices": ["red", " blue "], "answer": 1, "hint": "", "lecture": "", "solution": ""}
    return row | changes


RULED: list[tuple[str, str, Any, dict[str, tuple[str, str, str]], dict[str, str]]] = [
    # source, file, rows in the upstream schema, records by id (source `s`, file `f`), reasons of dropped rows by id
    (
        "flan",
        "FLAN/cot_fsopt_data/part.0.parquet",
        [
            {
                "inputs": "q",
                "targets": "a",
                "_template_idx": 0,
                "_task_source": "CoT",
                "_task_name": "cot_gsm8k",
                "_template_type": "fs_opt",
            },
            {
                "inputs": "r",
                "targets": "b",
                "_template_idx": 1,
                "_task_source": "CoT",
                "_task_name": "a/b:1.0.0",
                "_template_type": "fs_opt",
            },
        ],
        {
            "s/cot_fsopt_data__cot_gsm8k/0/f": ("cot", "q", "a"),
            "s/cot_fsopt_data__a_b_1.0.0/1/f": ("cot", "r", "b"),
        },
        {},
    ),
    (
        "flan",
        "FLAN/niv2_zsopt_data/part.11.parquet",
        [
            {"inputs": "q", "targets": "a", "_task_name": "task1"},
            {"inputs": "q", "targets": None, "_task_name": "task2"},
        ],
        {"s/niv2_zsopt_data__task1/0/f": ("direct", "q", "a")},
        {"s/niv2_zsopt_data__task2/1/f": "conform/null_response"},
    ),
    (
        "synth",
        "synth_001.parquet",
        [
            synth("rag"),
            synth("memorization"),
            synth("math mcq"),
            synth("math exercise"),
            synth("cooking"),
            synth("rag", language="fr"),
            synth("mcq", query_seed_url="Pleias self-knowledge base"),
            synth("poetry"),
            synth(None),
        ],
        {
            "s/f/0": ("synth,cot", "q c", "a"),
            "s/f/1": ("synth,cot", "q", "a"),
            "s/f/2": ("synth,direct", "q", "a"),
            "s/f/3": ("synth,noisy,cot", "q", "a"),
        },
        {
            "s/f/4": "source/cooking",
            "s/f/5": "source/other_language",
            "s/f/6": "source/self_knowledge",
            "s/f/7": "source/unknown_exercise",
            "s/f/8": "source/unknown_exercise",
        },
    ),
    (
        "tasksource",
        "train-00000-of-00001.parquet",
        [
            {"inputs": "q", "targets": "entailment.", "task": "WANLI"},
            {"inputs": "q", "targets": "e.g. U.S..", "task": "recast/recast_puns"},
            {"inputs": "q", "targets": "a.", "task": "hh-rlhf"},
        ],
        {"s/WANLI/0/f": ("direct", "q", "entailment"), "s/recast_recast_puns/1/f": ("direct", "q", "e.g. U.S.")},
        {"s/hh-rlhf/2/f": "source/unlisted_task"},
    ),
    (
        "no_robots",
        "train-00000-of-00001.parquet",
        [
            {"prompt": "p", "prompt_id": "1", "category": "Chat", "messages": messages}
            for messages in (
                [
                    {"role": "system", "content": "S"},
                    {"role": "user", "content": "U"},
                    {"role": "assistant", "content": "A"},
                ],
                [
                    {"role": "user", "content": "U"},
                    {"role": "assistant", "content": "A"},
                    {"role": "user", "content": "V"},
                    {"role": "assistant", "content": "B"},
                ],
                [{"role": "user", "content": "U"}],
            )
        ],
        {"s/f/0": ("cot", "S\n\nU", "A"), "s/f/1": ("cot", "U", "A")},
        {"s/f/2": "conform/no_assistant_turn"},
    ),
    (
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
    (
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
    (
        "acereason",
        "train-00000-of-00100.parquet",
        [
            {"category": "math", "source": "x", "input": "q", "output": "<think>t</think>a"},
            {"category": "code", "source": "x", "input": "q", "output": "<think>t</think>a"},
        ],
        {"s/all/0/f": ("synth,cot", "q", "<think>t</think>a")},
        {"s/all/1/f": "source/not_mathematics"},
    ),
    (
        "openthoughts2",
        "train-00000-of-00038.parquet",
        [
            talk("q", "<think>t</think>a"),
            talk("in Python", "a"),
            talk("q", "<think>```</think>a"),
            talk("q", "a", "glaive"),
            talk("q", "a", "nvidia_math"),
            {"conversations": [{"from": "assistant", "value": "a"}], "source": "x"},
        ],
        {"s/all/0/f": ("synth,cot", "q", "<think>t</think>a")},
        {
            "s/all/1/f": "source/code",
            "s/all/2/f": "source/code",
            "s/all/3/f": "source/code",
            "s/all/4/f": "source/in_acereason",
            "s/all/5/f": "conform/no_user_turn",
        },
    ),
    (
        "textbookreasoning",
        "train-00000-of-00001.parquet",
        [
            {"question": "q", "answer": "long", "subject": "physics", "reference_answer": "short"},
            {"question": "Prove it.", "answer": "long", "subject": "math", "reference_answer": "short"},
            {"question": "Show that", "answer": "long", "subject": "math", "reference_answer": "short"},
        ],
        {
            "s/cot/0/f": ("synth,cot", "q", "long"),
            "s/direct/0/f.direct": ("noisy,direct", "q", "short"),
            "s/cot/1/f": ("synth,cot", "Prove it.", "long"),
            "s/cot/2/f": ("synth,cot", "Show that", "long"),
        },
        {"s/direct/1/f.direct": "source/proof", "s/direct/2/f.direct": "source/proof"},
    ),
    (
        "natural_reasoning",
        "full.jsonl",
        [
            {"question": "q", "reference_answer": " 7 ", "responses": [{"response_model": "m", "response": "long"}]},
            {"question": "q", "reference_answer": "", "responses": []},
            {"question": "Show that", "reference_answer": "7", "responses": []},
        ],
        {"s/f/0": ("noisy,direct", "q", "7")},
        {"s/f/1": "source/no_answer", "s/f/2": "source/proof"},
    ),
    (
        "webinstruct_verified",
        "train-00000-of-00001.parquet",
        [
            {
                "id": 1,
                "question": "q",
                "answer": "a",
                "answer_type": "Float",
                "category": "Physics",
                "difficulty": "Senior",
            }
        ],
        {"s/f/0": ("direct", "q", "a")},
        {},
    ),
    (
        "principia",
        "numerical/train-00000-of-00001.parquet",
        [{"problem_statement": "q", "answer": "a", "answer_type": "numerical", "topic": "x"}],
        {"s/f/0": ("synth,direct", "q", "a")},
        {},
    ),
    (
        "omnimath",
        "test.jsonl",
        [{"domain": ["x"], "difficulty": 8.0, "problem": "q", "solution": "s\n", "answer": " a", "source": "imo"}],
        {"s/f/0": ("cot", "q", "s"), "s/f/0/direct": ("direct", "q", "a")},
        {},
    ),
    (
        "dmmath",
        "train-easy/algebra__linear_1d.txt",
        "Solve 2*x = 4 for x.\n2\nSolve 3*x = 9 for x. \n 3\nLeft over?\n",
        {
            "s/train-easy__algebra__linear_1d/0/f": ("direct", "Solve 2*x = 4 for x.", "2"),
            "s/train-easy__algebra__linear_1d/1/f": ("direct", "Solve 3*x = 9 for x.", "3"),
        },
        {"s/train-easy__algebra__linear_1d/2/f": "conform/null_response"},
    ),
    (
        "dmmath",
        "mathematics_dataset-v1.0.tar.gz",
        {
            "mathematics_dataset-v1.0/train-easy/a.txt": b"q\n1\nr\n2\n",
            "mathematics_dataset-v1.0/interpolate/a.txt": b"test\n1\n",
            "mathematics_dataset-v1.0/train-hard/b.txt": b"s\n3\n",
        },
        {
            "s/train-easy__a/0/f": ("direct", "q", "1"),
            "s/train-easy__a/1/f": ("direct", "r", "2"),
            "s/train-hard__b/2/f": ("direct", "s", "3"),
        },
        {},
    ),
    (
        "amps_mathematica",
        "amps.tar.gz",
        {
            "amps/mathematica/algebra/factoring/0.txt": b"Problem:\nFactor it.\nAnswer:\nDone.\n",
            "amps/mathematica/algebra/complete_w_steps/1.txt": b"Problem:\nWhy?\nAnswer:\nStep.\nAnswer: 2",
            "amps/mathematica/algebra/factoring/2.txt": b"no mark",
            "amps/mathematica/algebra/factoring/3.txt": b"Problem:\n \nAnswer: 4",
            "amps/mathematica/algebra/factoring/4.txt": b"Problem: \xff Answer: 5",
            "amps/khan/1/0.json": b"{}",
            "amps/other/algebra/factoring/4.txt": b"Problem:\nx\nAnswer:\ny",
        },
        {
            "s/algebra_factoring/0/f": ("noisy,direct", "Factor it.", "Done."),
            "s/algebra_complete_w_steps/1/f": ("noisy,cot", "Why?", "Step.\nAnswer: 2"),
        },
        {
            "s/algebra_factoring/2/f": "source/no_answer",
            "s/algebra_factoring/3/f": "source/no_answer",
            "s/algebra_factoring/4/f": "conform/invalid_utf8",
        },
    ),
    (
        "amps_khan",
        "amps.tar.gz",
        {
            "amps/khan/504/1.json": json.dumps({"problem": "q", "hints": ["First.", "So 2.\n"]}).encode(),
            "amps/khan/504/2.json": b"{",
            "amps/khan/504/3.json": b'{"problem": "q"}',
            "amps/mathematica/algebra/factoring/0.txt": b"Problem:\nx\nAnswer:\ny",
        },
        {"s/f/0": ("noisy,cot", "q", "First.\nSo 2.")},
        {"s/f/1": "conform/broken_json", "s/f/2": "conform/wrong_type"},
    ),
    (
        "sudoku_extreme",
        "train.csv",
        "source,question,answer,rating\n" + f"kaggle,{'.' * 80}1,{'2' * 81},5\nkaggle,1,2,0\n",
        {"s/all/0/f": ("direct", "Solve the Sudoku\n\n" + "0" * 80 + "1", "2" * 81)},
        {"s/all/1/f": "source/not_81_cells"},
    ),
    (
        "arb",
        "law.json",
        [{"instruction": "Who?\nA: x", "response": "A"}],
        {"s/f/0": ("direct", "Choose the correct option letter.\n\nWho?\nA: x", "A")},
        {},
    ),
    (
        "arb",
        "physics.json",
        [{"instruction": "Why?", "response": "So."}],
        {"s/f/0": ("cot", "Solve the physics problem.\n\nWhy?", "So.")},
        {},
    ),
    (
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
    (
        "reclor",
        "val.json",
        [{"context": "C.", "question": "Q?", "answers": ["x", "y", "z", "w"], "label": 2, "id_string": "val_0"}],
        {"s/f/0": ("direct", "Q?\n\nC.\n\nOptions:\nA: x\nB: y\nC: z\nD: w", "C")},
        {},
    ),
    (
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
    (
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
    (
        "gsm8k",
        "main/train-00000-of-00001.parquet",
        [{"question": "q", "answer": "<<1+1=2>>2\n#### 2"}, {"question": "r", "answer": "no mark"}],
        {"s/f/0": ("direct", "q", "2")},
        {"s/f/1": "conform/null_response"},
    ),
    (
        "math",
        "algebra/train-00000-of-00001.parquet",
        [{"problem": "p", "level": "Level 1", "type": "Algebra", "solution": r"so \boxed{7}"}],
        {"s/f/0": ("cot", "p", r"so \boxed{7}"), "s/f/0/direct": ("direct", "p", "7")},
        {},
    ),
]


@pytest.mark.parametrize(
    ("name", "file", "rows", "kept", "dropped"),
    RULED,
    ids=[f"{sample[0]}:{sample[1].split('/')[-1]}" for sample in RULED],
)
def test_the_rules_of_a_source_on_a_sample_in_the_upstream_schema(
    tmp_path: Path, name: str, file: str, rows: Any, kept: dict[str, Any], dropped: dict[str, str]
) -> None:
    source = SOURCES[name]
    assert source.read is not None
    path = write(tmp_path / file, rows)
    outcomes = [conform(table, "s", "f", "drop") for table in source.read(str(path))]
    records = [row for outcome in outcomes for row in outcome.kept.to_pylist()]
    gone = [row for outcome in outcomes for row in outcome.dropped.to_pylist()]
    assert {row["id"]: (row["condition"], row["instruction"], row["response"]) for row in records} == kept
    assert {row["id"]: f"{row['stage']}/{row['reason']}" for row in gone} == dropped
    assert len(records) + len(gone) == len(kept) + len(dropped)  # no id twice


@pytest.mark.parametrize("name", [source.name for source in SOURCES.values() if source.path])
def test_what_a_rule_leaves_out_is_no_bad_row(tmp_path: Path, name: str) -> None:
    """`on_bad_row: fail` is about rows that are broken, not about rows that nobody wanted."""
    for sample, file, rows, _, dropped in RULED:
        bad = any(reason.startswith("conform/") for reason in dropped.values())
        if sample == name and not bad:
            source = SOURCES[name]
            assert source.read is not None
            for table in source.read(str(write(tmp_path / file, rows))):
                conform(table, "s", "f", "fail")


def test_the_sampler_finds_the_task_in_the_id_of_a_row() -> None:
    ids = [record for sample in RULED for record in sample[3]]
    files = {re.match(ID, record)["file"] for record in ids}  # type: ignore[index]
    assert files >= {
        "s/cot_fsopt_data__cot_gsm8k",
        "s/WANLI",
        "s/direct",
        "s/train-easy__a",
        "s/algebra_factoring",
        "s/f",
    }
    assert not [file for file in files if file.endswith(("/0", "/1", "/f.direct"))]


def test_a_file_of_flan_outside_its_folders_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "FLAN" / "part.0.parquet", [{"inputs": "q", "targets": "a", "_task_name": "t"}])
    with pytest.raises(InputError, match=r"part\.0\.parquet: its folder should be one of FLAN's submixes"):
        list(SOURCES["flan"].read(str(path)))  # type: ignore[misc]


def test_a_truncated_archive_is_an_error_that_names_it(tmp_path: Path) -> None:
    sample = next(sample for sample in RULED if sample[0] == "amps_mathematica")
    path = write(tmp_path / "amps.tar.gz", sample[2] | {f"amps/mathematica/a/b/{n}.txt": bytes(9999) for n in range(9)})
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"amps\.tar\.gz: truncated or damaged"):
        list(SOURCES["amps_mathematica"].read(str(path)))  # type: ignore[misc]


def test_a_batch_of_many_lines_pairs_questions_with_their_own_answers(tmp_path: Path) -> None:
    path = write(tmp_path / "train-medium" / "many.txt", "".join(f"q{n}\na{n}\n" for n in range(100_000)))
    source = SOURCES["dmmath"]
    assert source.read is not None
    tables = list(source.read(str(path)))
    rows = pa.concat_tables(tables)
    assert len(tables) > 1 and rows["row"].to_pylist() == list(range(100_000))
    numbers = [[int(text[1:]) for text in rows[name].to_pylist()] for name in ("instruction", "response")]
    assert numbers == [list(range(100_000))] * 2


@pytest.mark.parametrize(("name", "file", "rows", "expected"), SAMPLES, ids=[sample[0] for sample in SAMPLES])
def test_a_sample_in_the_upstream_schema(
    tmp_path: Path, name: str, file: str, rows: Any, expected: list[tuple[Any, ...]]
) -> None:
    assert records(name, write(tmp_path / file, rows)) == expected


@pytest.mark.parametrize("source", FILES, ids=lambda source: source.name)
def test_every_source_that_reads_files_is_tested_on_a_sample_or_on_real_rows(source: Any) -> None:
    samples = [sample for sample in [*SAMPLES, *RULED] if sample[0] == source.name]
    assert samples, f"add rows in the schema of {source.name!r} to SAMPLES or RULED"
    told = {row[2] for sample in SAMPLES if sample[0] == source.name for row in sample[3]}
    told |= {row[0] for sample in RULED if sample[0] == source.name for row in sample[3].values()}
    assert told == set(source.conditions)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_source_says_where_it_is_from_and_under_which_licence(source: Any) -> None:
    assert source.title and source.home and source.revision and source.licence
    assert (source.read is None) != (source.generate is None)
    assert {tag for condition in source.conditions for tag in condition.split(",")} <= set(CONDITIONS)


@pytest.mark.parametrize("source", [source for source in SOURCES.values() if source.generate], ids=lambda one: one.name)
def test_a_computed_source_has_the_conditions_that_it_says(source: Any) -> None:
    kept = [conform(table, "s", "f").kept for table in source.generate(1000, 0)]
    assert {condition for table in kept for condition in table["condition"].to_pylist()} == set(source.conditions)


@pytest.mark.parametrize("source", FILES, ids=lambda source: source.name)
def test_a_file_of_something_else_is_an_error_that_names_the_columns(tmp_path: Path, source: Any) -> None:
    if source.name in ("theoremqa", "self_instruct_seeds"):
        pytest.skip("reads whole objects: a row without its fields is a dropped row there")
    name = next(sample[1] for sample in [*SAMPLES, *RULED] if sample[0] == source.name)
    if name.endswith((".txt", ".tar.gz")):
        pytest.skip("lines, or files in an archive: there are no columns to miss")
    if name.endswith(".tsv"):
        pytest.skip("a headless file has no columns to miss: its rows are `wrong_columns`")
    path = tmp_path / name
    write(path, "colour,size\nred,1\n" if name.endswith(".csv") else [{"colour": "red", "size": "1"}])
    with pytest.raises(InputError, match=rf"{name}: (no column .*colour|neither columns)"):
        list(source.read(str(path)))


def test_a_row_that_is_not_what_the_source_holds_is_dropped_with_a_reason(tmp_path: Path) -> None:
    samples = {
        "gsm8k": [{"question": "q", "answer": "no mark"}, {"question": "q", "answer": "x #### 1"}],
        "theoremqa": [{"Question": "q", "Answer": 1, "Picture": "images/x.png"}, {"Question": "q", "Answer": None}],
        "self_instruct_seeds": [{"instruction": "i", "instances": []}],
        "reasoning_gym_eval": [
            {"question": "q", "code": []},
            {"question": "q", "code": None},
            {"question": "q", "code": ["a"]},
        ],
        "math": [{"problem": "p", "solution": "no box"}],
    }
    expected = {
        "gsm8k": ["null_response"],
        "theoremqa": ["needs_picture", "null_response"],
        "self_instruct_seeds": ["no_instances"],
        "reasoning_gym_eval": ["null_response", "null_response"],
        "math": ["null_response"],
    }
    for name, rows in samples.items():
        source = SOURCES[name]
        assert source.read is not None
        path = write(tmp_path / f"{name}.jsonl", rows)
        dropped = [conform(table, name, "x").dropped for table in source.read(str(path))]
        assert [reason for table in dropped for reason in table["reason"].to_pylist()] == expected[name]


@pytest.mark.parametrize(
    ("solution", "boxed"),
    [
        (r"\boxed{1} and \boxed{\text{a {b} c}}", r"\text{a {b} c}"),
        (r"\boxed 12$.", "12"),
        (r"\boxed{open", None),
        (r"\boxed", None),
        ("nothing", None),
        (None, None),
        (r"\fbox{x}", "x"),
    ],
)
def test_the_last_box(solution: str | None, boxed: str | None) -> None:
    assert last_boxed(solution) == boxed


# The real files


REAL = {
    "gsm8k": ("gsm8k_train.jsonl", {"direct": 7473}, {}),
    "math": ("math_train.parquet", {"cot": 7500, "direct": 7500}, {}),
    "flan_cot": ("flan_cot/*.tsv", {"cot": 33_443}, {}),
    "t0_p3": ("t0_p3_50k.jsonl.gz", {"direct": 55_185}, {}),
    "gpteacher": ("gpteacher/*.json", {"synth,direct": 4535 + 1923}, {}),
    "reasoning_gym_eval": ("reasoning_traces/rg_*.jsonl", {"synth,cot": 2215 + 1319 + 1000 + 1000}, {}),
    "lrm_token_economy": ("reasoning_traces/lrm_nemotron.json", {"synth,cot": 19 * 5}, {}),
    "marco_o1": ("marco_o1_thoughts.json", {"synth,cot": 125}, {}),
    "theoremqa": ("theoremqa.json", {"direct": 747}, {"needs_picture": 53}),
    "scibench": ("scibench/*.json", {"direct": 692, "cot": 175}, {}),
    "arc_challenge": ("arc_challenge_train.json", {"direct": 1119}, {}),
    "boolq": ("boolq_train.json", {"direct": 9427}, {}),
    "openbookqa": ("openbookqa_train.json", {"direct": 4957}, {}),
    "mawps_asdiv_svamp": ("mawps_asdiv_svamp_train.csv", {"direct": 3138}, {}),
    "deepscaler_aime": ("deepscaler_aime_train.json", {"noisy,cot": 975, "direct": 975}, {}),
    "self_instruct_seeds": ("self_instruct_seed_tasks.jsonl", {"direct": 175}, {}),
}


@pytest.mark.parametrize("name", REAL)
def test_nothing_of_the_real_files_is_lost(shared_data: Path, name: str) -> None:
    pattern, kept, dropped = REAL[name]
    source, reasons, conditions, numbers = SOURCES[name], Counter[str](), Counter[str](), []
    assert source.read is not None
    for path in sorted((shared_data / "sources").glob(pattern)):
        seen = []
        for table in source.read(str(path)):
            outcome = conform(table, name, path.name)
            conditions.update(outcome.kept["condition"].to_pylist())
            reasons.update(outcome.dropped["reason"].to_pylist())
            seen += table["row"].to_pylist()
            for text in (*outcome.kept["instruction"].to_pylist(), *outcome.kept["response"].to_pylist()):
                assert not text.endswith("<|endoftext|>") and "output the final answer within" not in text
        assert seen == sorted(seen) and set(seen) == set(range(max(seen) + 1))
        numbers.append(max(seen) + 1)
    assert (dict(conditions), dict(reasons)) == (kept, dropped)


def test_every_placeholder_is_filled_in(shared_data: Path) -> None:
    rows = read("mawps_asdiv_svamp", shared_data / "sources" / "mawps_asdiv_svamp_train.csv")
    assert not [row for row in rows if re.search(r"number\d", row["instruction"])]
    assert rows[0]["instruction"].startswith(
        "Bryan took a look at his books as well . If Bryan has 56 books in each of his 9 "
    )
    assert rows[0]["response"] == "504"


def test_the_boxed_answers_of_math_are_those_that_the_file_names(shared_data: Path) -> None:
    path = shared_data / "sources" / "math_train.parquet"
    targets = pq.read_table(path)["reward_model"].combine_chunks().field("ground_truth").field("target").to_pylist()
    found = [row["response"] for row in read("math", path) if row["variant"] == "direct"]
    # The file's targets are rewritten for a scorer (`x = 2` is `2`); whole numbers must be there as they are.
    whole = [(ours, theirs) for ours, theirs in zip(found, targets, strict=True) if theirs.isdigit()]
    assert len(whole) > 4000
    assert all(theirs in re.sub(r"[,!\\\s]", "", ours) for ours, theirs in whole)


def test_flan_and_gsm8k_hold_the_same_problems_with_the_same_answers(shared_data: Path) -> None:
    direct = read("gsm8k", shared_data / "sources" / "gsm8k_train.jsonl")
    ours = {"".join(row["instruction"].lower().split()): row["response"] for row in direct}
    for row in read("flan_cot", shared_data / "sources" / "flan_cot" / "gsm8k_train.tsv"):
        answer = ours["".join(row["instruction"].lower().split())]
        assert row["response"].endswith(f"\nThe answer is {answer}.")


def test_the_mini_recipe_reads_every_real_source_and_benchmark(shared_data: Path) -> None:
    path = Path(recipes.__file__).parent / "recipes" / "hrm_text_mini.yaml"
    recipe = recipes.load(str(path))
    if Path(recipe.sources[0].paths[0]).parents[1] != shared_data:
        pytest.skip("the recipe names the folder beside the checkout, and the data lie elsewhere")
    inputs = plan_inputs(recipe)
    assert not [one for one in inputs if one.missing]
    there = {path for path in (shared_data / "sources").rglob("*") if path.is_file()}
    assert {Path(one.path) for one in inputs} == there


# The whole recipe


def hub_of_samples(folder: Path) -> dict[str, str]:
    """Fill a mirror with a sample of each source; return settings for those that have no address."""
    settings = {}
    for name, file, rows, kept, _ in RULED:
        if file.endswith(".txt") or not kept:
            continue
        source = SOURCES[name]
        if name in ("amps_khan", "amps_mathematica"):
            key = name.replace("amps_mathematica", "ampsmathematica")
            settings[f"sources.{key}.path"] = str(write(folder / key / file, rows))
            continue
        pattern = source.path[0]
        if name == "flan":
            pattern = next(path for path in source.path if path.split("/")[-2] == file.split("/")[-2])
        if name == "arb":
            pattern = pattern.replace("*.json", file)
        path = storage.mirrored(pattern, str(folder)).replace("**/", "deep/").replace("*", "00000-of-00001")
        write(Path(path), rows)
    name, file, rows, _ = next(sample for sample in SAMPLES if sample[0] == "scibench")
    settings["sources.platypus_scibench.path"] = str(write(folder / name / file, rows))
    return settings


def whole_recipe(folder: Path) -> Recipe:
    settings = hub_of_samples(folder) | {"mirror": str(folder), "contamination": "false"}
    path = Path(recipes.__file__).parent / "recipes" / "hrm_text.yaml"
    return recipes.load(str(path), [f"{key}={value}" for key, value in settings.items()])


def test_the_whole_recipe_reads_every_source_of_hrm_text_from_a_mirror(tmp_path: Path) -> None:
    recipe = whole_recipe(tmp_path / "hub")
    assert {source.name for source in SOURCES.values() if source.part} == {spec.adapter for spec in recipe.sources}
    answer = plan(recipe)
    # A source of several patterns is missing some of them here.
    assert set(answer.missing) == {"flan", "platypus_openbookqa", "platypus_reclor"}
    there = {one.source: [] for one in plan_inputs(recipe)}
    for one in plan_inputs(recipe):
        if not one.missing:
            there[one.source].append(one.path)
    found = tuple(spec.model_copy(update={"path": tuple(there[spec.name])}) for spec in recipe.sources)
    manifest = ingest(Run(str(tmp_path / "root"), LocalEngine(1)), recipe.model_copy(update={"sources": found}))
    read_by = by_source(manifest)
    assert set(read_by) == {spec.name for spec in recipe.sources}
    assert all(rows >= kept > 0 for rows, kept in read_by.values())
    ids = [id for shard in manifest.shards for id in storage.read_parquet(shard.path, ["id"])["id"].to_pylist()]
    assert len(set(ids)) == len(ids)
    # Every rule of the sampling is about something, and each source is under the rule that upstream has for it.
    files = {re.match(ID, id)["file"] for id in ids}  # type: ignore[index]
    ruled = {file: rule_of(file, recipe.sampling.groups) for file in files}
    assert {rule.prefix for rule in ruled.values()} - {""} == {group.prefix for group in recipe.sampling.groups}
    free = {file.split("/")[0] for file, rule in ruled.items() if not rule.prefix}
    assert free == {"principia", "numinamath", "natural_reasoning", "textbookreasoning", "amps_khan"}
    assert ruled["flan/cot_fsopt_data__cot_gsm8k"].max_per_file is None
    assert ruled["flan/niv2_zsopt_data__task1"].max_per_file == 5000
    assert ruled["openmathinstruct2/direct"].max_per_file == 2_000_000


def test_the_whole_recipe_without_its_inputs_is_priced_and_says_what_is_missing(tmp_path: Path) -> None:
    path = Path(recipes.__file__).parent / "recipes" / "hrm_text.yaml"
    recipe = recipes.load(str(path), [f"mirror={tmp_path}"])
    answer = plan(recipe)
    assert answer.missing == tuple(sorted(spec.name for spec in recipe.sources)) and not answer.unpriced
    assert abs(answer.tokens / RAW_TOKENS - 1) < 0.01 and abs(answer.rows / RAW_ROWS - 1) < 0.01
    assert [step.name for step in answer.steps] == list(json.loads(RATES_FILE.read_text())["steps"])
    assert all(step.core_hours > 0 and step.memory_gb > 0 and step.disk_bytes > 0 for step in answer.steps)
    assert answer.overlaps["omnimath"] == ("omni_math/test",)
    lines = "\n".join(plan_lines(answer))
    assert "warning: source flan contains arc_challenge/train" in lines and "missing: SYNTH" in lines
    # Without one source of a part, nobody can say how much of the part the others are.
    less = recipe.model_copy(update={"sources": tuple(spec for spec in recipe.sources if spec.name != "flan")})
    assert plan(less).unpriced == ("no_robots", "tasksource")


def test_a_price_grows_with_the_inputs_and_has_no_step_that_the_recipe_leaves_out(tmp_path: Path) -> None:
    def priced(rows: int, **more: Any) -> Plan:
        path = write(tmp_path / f"{rows}.jsonl", [{"instruction": "q" * 99, "response": "a" * 99}] * rows)
        sources = [{"name": "mine", "path": str(path), "condition": "direct"}]
        return plan(Recipe.model_validate({"name": "test", "sources": sources, **more}))

    small, large = priced(10_000), priced(40_000)
    for one, other in zip(small.steps, large.steps, strict=True):
        assert 3.5 < other.disk_bytes / one.disk_bytes < 4.5 and other.core_hours >= one.core_hours
    assert not small.missing and not small.unpriced
    bare = priced(10, exact_duplicates=False, near_duplicates=False)
    assert [step.name for step in bare.steps] == ["ingest", "tokenizer", "tokens", "pack"]

"""Samples of the sources of thinking, textbooks and the web, in the schema of each data set."""

from __future__ import annotations

import json
from typing import Any

from tests.pipelines.sources.samples.sample import RuledSample


def talk(asked: str, answered: str, source: str = "openr1_math") -> dict[str, Any]:
    turns = [{"from": "user", "value": asked}, {"from": "assistant", "value": answered}]
    return {"conversations": turns, "question": None, "source": source, "id": 1}


RULED = [
    RuledSample(
        "acereason",
        "train-00000-of-00100.parquet",
        [
            {"category": "math", "source": "x", "input": "q", "output": "<think>t</think>a"},
            {"category": "code", "source": "x", "input": "q", "output": "<think>t</think>a"},
        ],
        {"s/all/0/f": ("synth,cot", "q", "<think>t</think>a")},
        {"s/all/1/f": "source/not_mathematics"},
    ),
    RuledSample(
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
    RuledSample(
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
    RuledSample(
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
    RuledSample(
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
    RuledSample(
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
]

"""Samples of the general sources and of SYNTH, in the schema of each data set."""

from __future__ import annotations

from typing import Any

from tests.pipelines.sources.samples.sample import RuledSample


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


RULED = [
    RuledSample(
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
    RuledSample(
        "flan",
        "FLAN/niv2_zsopt_data/part.11.parquet",
        [
            {"inputs": "q", "targets": "a", "_task_name": "task1"},
            {"inputs": "q", "targets": None, "_task_name": "task2"},
        ],
        {"s/niv2_zsopt_data__task1/0/f": ("direct", "q", "a")},
        {"s/niv2_zsopt_data__task2/1/f": "conform/null_response"},
    ),
    RuledSample(
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
    RuledSample(
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
    RuledSample(
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
]

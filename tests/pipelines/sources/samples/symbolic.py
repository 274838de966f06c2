"""Samples of the symbolic sources, in the schema of each data set."""

from __future__ import annotations

from tests.pipelines.sources.samples.sample import RuledSample

RULED = [
    RuledSample(
        "dmmath",
        "train-easy/algebra__linear_1d.txt",
        "Solve 2*x = 4 for x.\n2\nSolve 3*x = 9 for x. \n 3\nLeft over?\n",
        {
            "s/train-easy__algebra__linear_1d/0/f": ("direct", "Solve 2*x = 4 for x.", "2"),
            "s/train-easy__algebra__linear_1d/1/f": ("direct", "Solve 3*x = 9 for x.", "3"),
        },
        {"s/train-easy__algebra__linear_1d/2/f": "conform/null_response"},
    ),
    RuledSample(
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
    RuledSample(
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
    RuledSample(
        "sudoku_extreme",
        "train.csv",
        "source,question,answer,rating\n" + f"kaggle,{'.' * 80}1,{'2' * 81},5\nkaggle,1,2,0\n",
        {"s/all/0/f": ("direct", "Solve the Sudoku\n\n" + "0" * 80 + "1", "2" * 81)},
        {"s/all/1/f": "source/not_81_cells"},
    ),
]

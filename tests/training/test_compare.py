"""Two evaluations are compared item by item; those that asked something else are refused, and the message says what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.compare import CompareAnswer, compare_evaluations
from pipelines.errors import WinnowError
from training.evaluation.statistics import mcnemar
from training.evaluation.store import Settings, folder_of


def write(
    root: Path,
    model: str,
    scores: Sequence[float],
    benchmark: str = "gsm8k",
    cluster: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    first: int = 0,
    version: str = "1",
    **settings: Any,
) -> str:
    """A stored evaluation: a row per item, as `winnow evaluate` writes it. Returns its folder."""
    n = len(scores)
    ids = [f"{benchmark}/test/{number}" for number in range(first, first + n)]
    about = Settings(
        benchmark=benchmark, task=benchmark, method="generate", model=model, identity=model, step=0, weights="ema",
        device="cpu", precision="fp32", condition="direct", shots=0, strategy="greedy", temperature=0.0,
        max_tokens=None, context=3072, stop=(), seed=0, scorers={"exact": "2", "published": version},
    ).model_copy(update=settings)  # fmt: skip
    folder = Path(folder_of(str(root), about))
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(about.model_dump_json())
    columns = {
        "id": ids,
        "split": ["test"] * n,
        "subset": [["easy", "hard"][number % 2] for number in range(n)],
        "cluster": list(cluster) if cluster is not None else ids,
        "condition": ["direct"] * n,
        "prompt": [f"What is {number} + 1?" for number in range(first, first + n)],
        "answer": [f"{model} says {score:g}" for score in scores],
        "expected": [str(number + 1) for number in range(first, first + n)],
        "class": list(classes) if classes is not None else ["unknown"] * n,
        "score_published": [float(score) for score in scores],
        "score_exact": [float(score == 1) for score in scores],
    }
    pq.write_table(pa.table(columns), folder / "items.parquet")
    return str(folder)


def flips(n: int, improved: int, worsened: int) -> tuple[list[float], list[float]]:
    """Two lists of n scores, about half of them right."""
    a = [0.0] * improved + [1.0] * worsened + [float(number % 2) for number in range(n - improved - worsened)]
    b = [1.0] * improved + [0.0] * worsened + a[improved + worsened :]
    return a, b


def test_evaluations_are_compared_by_id_and_the_flips_are_named(tmp_path: Path) -> None:
    a, b = flips(200, 30, 10)
    one = write(tmp_path, "a", a)
    other = write(tmp_path, "b", b)
    table = pq.read_table(f"{other}/items.parquet")
    pq.write_table(table.take(np.random.default_rng(0).permutation(200)), f"{other}/items.parquet")
    (made,) = compare_evaluations([one, other], rows=3).comparisons
    assert (made.all.n, made.all.difference.difference) == (200, pytest.approx(0.1))
    assert (len(made.improved), len(made.worsened)) == (30, 10) and made.improved[0] == "gsm8k/test/0"
    assert made.all.difference.p_value == mcnemar(30, 10) == made.adjusted_p_value
    assert made.verdict == "B scores higher" and made.classes == {} and made.scorer == "published"
    assert [row.improved for row in made.rows] == [False, True, False]
    assert made.rows[0].answers == ("a says 1", "b says 0") and made.rows[0].expected == "31"
    (mirrored,) = compare_evaluations([other, one]).comparisons
    assert mirrored.verdict == "A scores higher" and {*mirrored.improved} == {*made.worsened}


def test_other_items_are_refused_unless_the_common_ones_are_asked_for(tmp_path: Path) -> None:
    one, other = write(tmp_path, "a", [1.0] * 40), write(tmp_path, "b", [0.0] * 50, first=10)
    with pytest.raises(WinnowError, match=r"10 of 40 items of .* \(gsm8k/test/0, .*20 of 50 items .*--common"):
        compare_evaluations([one, other])
    (made,) = compare_evaluations([one, other], common=True).comparisons
    assert made.all.n == 30 and made.left_out == (10, 20)
    with pytest.raises(WinnowError, match="no item in common"):
        compare_evaluations([one, write(tmp_path, "c", [1.0] * 5, first=900)], common=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"condition": "synth,cot"}, "`condition` differs: 'direct' and 'synth,cot'"),
        ({"shots": 5}, "`shots` differs: 0 and 5"),
        ({"method": "likelihood"}, "`method` differs"),
        ({"version": "3"}, "version 1 and version 3 of 'published'; run `winnow rescore"),
        ({"benchmark": "math"}, "have no evaluation of the same benchmark"),
    ],
)
def test_evaluations_that_asked_or_judged_otherwise_are_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    one, other = write(tmp_path, "a", [1.0] * 9), write(tmp_path, "b", [1.0] * 9, **changed)
    with pytest.raises(WinnowError, match=message):
        compare_evaluations([one, other])


def test_the_same_ids_with_other_questions_are_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path, "a", [1.0] * 9), write(tmp_path, "b", [1.0] * 9)
    table = pq.read_table(f"{other}/items.parquet")
    column = table.schema.get_field_index("prompt")
    pq.write_table(table.set_column(column, "prompt", [["another question"] * 9]), f"{other}/items.parquet")
    with pytest.raises(WinnowError, match="9 of 9 items have another prompt"):
        compare_evaluations([one, other])


def test_another_strategy_is_compared_and_named(tmp_path: Path) -> None:
    one = write(tmp_path, "a", [1.0] * 9)
    other = write(tmp_path, "a", [1.0] * 9, strategy="spiral", temperature=0.7)
    (made,) = compare_evaluations([one, other]).comparisons
    assert made.settings == {"strategy": ("greedy", "spiral"), "temperature": (0.0, 0.7)}
    assert made.verdict == "no difference found" and made.all.difference.interval.high > 0.2


def test_checkpoints_are_compared_on_all_benchmarks_of_both_with_equal_settings_and_p_values_by_holm(
    tmp_path: Path,
) -> None:
    for benchmark, improved, worsened in (("gsm8k", 12, 2), ("math", 9, 2), ("drop", 5, 5)):
        a, b = flips(100, improved, worsened)
        write(tmp_path, "m/a", a, benchmark)
        write(tmp_path, "m/b", b, benchmark)
    write(tmp_path, "m/b", [0.0] * 100, "gsm8k", shots=5)  # the newest, but not with the settings of the other
    write(tmp_path, "m/a", [0.0] * 100, "arc_easy")  # only one has it
    answer = compare_evaluations(["m/a", "m/b"], root=str(tmp_path))
    assert [made.benchmark for made in answer.comparisons] == ["drop", "gsm8k", "math"]
    p = [made.all.difference.p_value for made in answer.comparisons]
    assert [made.adjusted_p_value for made in answer.comparisons] == pytest.approx([p[0], 3 * p[1], 2 * p[2]])
    assert [made.verdict for made in answer.comparisons] == [
        "no difference found", "B scores higher", "no difference found",
    ]  # fmt: skip
    assert any("1 and 2 evaluations; compared are" in note for note in answer.notes)
    only = compare_evaluations(["m/a", "m/b"], ["math"], root=str(tmp_path))
    assert only.comparisons[0].verdict == "no difference found" and p[2] > 0.05
    with pytest.raises(WinnowError, match="--benchmark maths: did you mean 'math'"):
        compare_evaluations(["m/a", "m/b"], ["maths"], root=str(tmp_path))
    with pytest.raises(WinnowError, match="are the same evaluations"):
        compare_evaluations(["m/a", "m/a"], root=str(tmp_path))
    with pytest.raises(WinnowError, match=r"m/c: no evaluation below .* is of this model; evaluated: m/a, m/b"):
        compare_evaluations(["m/a", "m/c"], root=str(tmp_path))


def test_clusters_subsets_and_contamination_classes_are_used(tmp_path: Path) -> None:
    a, b = flips(120, 24, 0)
    passages = [f"passage {number // 6}" for number in range(120)]
    classes = ["found" if number < 30 else "not_found" for number in range(120)]
    one = write(tmp_path, "a", a, "drop", passages, classes)
    other = write(tmp_path, "b", b, "drop", passages, ["not_found"] * 120)
    (made,) = compare_evaluations([one, other]).comparisons
    assert made.all.difference.clustered is not None and made.all.difference.clustered.clusters == 20
    assert made.all.difference.p_value == pytest.approx(0.125)  # four passages
    assert made.all.difference.mcnemar == pytest.approx(2 * 0.5**24)
    assert {name: part.n for name, part in made.classes.items()} == {"not_found": 90, "found": 30}
    assert made.classes["not_found"].difference.difference == 0
    (exact,) = compare_evaluations([one, other], scorer="exact").comparisons
    assert (exact.scorer, exact.version) == ("exact", "2")
    with pytest.raises(WinnowError, match="scorer 'exakt': did you mean 'exact'"):
        compare_evaluations([one, other], scorer="exakt")


def test_the_command_prints_the_comparison_and_draws_it(tmp_path: Path) -> None:
    a, b = flips(60, 15, 3)
    folders = [write(tmp_path, "a", a), write(tmp_path, "b", b), write(tmp_path, "c", a)]
    picture = tmp_path / "compare.png"
    done = CliRunner().invoke(app, ["compare", *folders, "--rows", "2", "--out", str(picture)])
    assert done.exit_code == 0, done.output
    for text in ("gsm8k  B scores higher", "B - A        +20.0 points, 95 % interval",
                 "15 wrong to right, 3 right to wrong", "adjusted for 2 comparisons (Holm)",
                 "gsm8k/test/15  A 1, B 0", "a says 1", "b says 0"):  # fmt: skip
        assert text in done.stdout, done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    done = CliRunner().invoke(app, ["compare", *folders[:2], "--json"])
    answer = CompareAnswer.model_validate_json(done.stdout)
    assert answer.comparisons[0].all.difference.improved == 15 and answer.picture is None

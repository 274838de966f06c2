"""Noise is found where a model can tell instructions apart, how well is estimated without labels, and nowhere else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from training.evaluation.hard_examples import NAMES, Classes, classify
from training.evaluation.losses import LOSSES, OTHERS, other_rows

ROWS = 2000


def losses(
    gain: float, share: float = 0.1, source: str = "s", rows: int = ROWS, seed: int = 0
) -> tuple[pa.Table, np.ndarray]:
    """Losses under a model to which the right instruction gives `gain` nats per token; and which rows are mispaired."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(4, 0.5, rows) + 8
    noise = rng.random(rows) < share
    tokens = rng.integers(4, 40, rows)

    def loss(helped: np.ndarray) -> np.ndarray:
        return np.maximum(base - np.where(helped, gain * rng.gamma(4, 0.25, rows), 0) + rng.normal(0, 0.2, rows), 0.01)

    columns = {"loss": loss(~noise), "alone": loss(np.zeros(rows, bool)) + 0.5}
    columns |= {name: loss(np.zeros(rows, bool)) for name in OTHERS}
    # The model is no surer of other tokens than the loss says, so the margins add nothing.
    columns |= {"margin": columns["loss"] / 2, "other_margin": columns[OTHERS[-1]] / 2}
    columns |= {"worst": columns["loss"] * 2, "other_worst": columns[OTHERS[-1]] * 2}
    arrays = {name: pa.array(values.astype(np.float32)) for name, values in columns.items()}
    arrays |= {
        "id": pa.array([f"{source}/f/{row}" for row in range(rows)]),
        "source": pa.array([source] * rows),
        "tokens": pa.array(tokens.astype(np.int32)),
        "problem": pa.nulls(rows, pa.string()),
    }
    return pa.table([arrays[name] for name in LOSSES.names], schema=LOSSES), noise


def recall_precision(classes: Classes, noise: np.ndarray) -> tuple[float, float]:
    called = np.array([name == "noise" for name in classes.name.to_pylist()])
    return float(called[noise].mean()), float(noise[called].mean())


def test_noise_is_found_where_instructions_help_and_the_estimates_are_near() -> None:
    table, noise = losses(gain=2.5)
    classes = classify(table)
    recall, precision = recall_precision(classes, noise)
    fit = classes.fits["s"]
    assert recall > 0.9 and precision > 0.9
    assert fit.recall == pytest.approx(recall, abs=0.07) and fit.precision == pytest.approx(precision, abs=0.07)
    assert fit.share == pytest.approx(noise.mean(), abs=0.02)


@pytest.mark.parametrize(("gain", "share"), [(0.0, 0.1), (0.0, 0.0), (2.5, 0.0)])
def test_no_row_is_noise_where_instructions_do_not_help_and_few_where_there_is_none(gain: float, share: float) -> None:
    classes = classify(losses(gain, share)[0])
    assert classes.counts["noise"] <= (0 if gain == 0 else 0.02 * ROWS)


def test_a_source_that_the_model_knows_is_judged_beside_one_that_it_does_not_know() -> None:
    (known, noise), (unknown, _) = losses(2.5, source="known"), losses(0.0, source="unknown", seed=1)
    classes = classify(pa.concat_tables([unknown, known]))
    assert classes.fits["known"].called > 0 and classes.fits["unknown"].called == 0
    recall, precision = recall_precision(classes, np.concatenate([np.zeros(ROWS, bool), noise]))
    assert recall > 0.9 and precision > 0.9


def test_hard_rows_have_a_high_loss_that_fell_and_easy_ones_a_low_loss_of_their_length() -> None:
    table, _ = losses(2.5, share=0)
    late = table["loss"].to_numpy()
    rises = np.arange(ROWS) % 2 == 0
    first = table.set_column(
        table.schema.get_field_index("loss"), "loss", pa.array((late + np.where(rises, -0.1, 0.1)).astype(np.float32))
    )
    names = np.array(classify(table, first).name.to_pylist())
    assert not (names[rises] == "hard").any() and (names[~rises] == "hard").mean() > 0.2
    assert late[names == "easy"].max() <= late[names == "hard"].min()
    assert 0.2 < (names == "easy").mean() <= 0.26
    assert "hard" not in classify(table).name.to_pylist()


def test_rows_that_were_not_measured_have_no_class_and_few_rows_are_judged_together() -> None:
    tables = [losses(2.5, source=f"s{number}", rows=60, seed=number)[0] for number in range(4)]
    table = pa.concat_tables(tables)
    mask = np.arange(240) == 7
    for name in ("loss", "alone", "tokens", *OTHERS):
        column = table[name].combine_chunks()
        table = table.set_column(
            table.schema.get_field_index(name), name, pa.array(column.to_numpy(), column.type, mask=mask)
        )
    classes = classify(table)
    assert classes.name[7].as_py() is classes.number[7].as_py() is classes.noise[7].as_py() is None
    assert list(classes.fits) == [""] and classes.fits[""].rows == 239
    numbers = classes.number.to_pylist()
    assert [NAMES[int(one)] if one is not None else None for one in numbers] == classes.name.to_pylist()
    assert sum(classes.counts.values()) == 239
    nothing = classify(LOSSES.empty_table())
    assert len(nothing.name) == 0 and not nothing.fits


def test_other_rows_are_of_the_same_source_and_never_the_row_itself() -> None:
    source = ["a"] * 9 + ["b"] * 3 + ["a"] * 4
    response = [f"r{row}" for row in range(16)]
    rows = pa.table({"source": source, "response": response})
    for partners in other_rows(rows):
        for row, partner in enumerate(partners.tolist()):
            assert (partner == -1) == (source[row] == "b")
            assert partner == -1 or (source[partner] == source[row] and partner != row)


def test_other_rows_have_another_response_if_there_is_one_near() -> None:
    response = ["yes" if row % 3 else "no" for row in range(400)]
    for partners in other_rows(pa.table({"source": ["a"] * 400, "response": response})):
        assert all(response[partner] != response[row] for row, partner in enumerate(partners.tolist()))
    for partners in other_rows(pa.table({"source": ["a"] * 400, "response": ["yes"] * 400})):
        assert (partners == -1).all()


@pytest.mark.parametrize("share", [0.03, 0.1, 0.2])
def test_the_share_of_noise_is_estimated(share: float) -> None:
    table, noise = losses(gain=2.5, share=share, rows=4000, seed=3)
    assert classify(table).fits["s"].share == pytest.approx(noise.mean(), abs=0.02)


@pytest.mark.parametrize("learned", [0.1, 0.4, 1.0])
def test_where_the_model_has_learned_some_of_the_noise_no_other_rows_are_called_noise(learned: float) -> None:
    table, noise = losses(gain=2.5, share=0.1, rows=4000, seed=3)
    own = np.maximum(table["loss"].to_numpy() - np.where(noise, learned, 0), 0.01)
    table = table.set_column(table.schema.get_field_index("loss"), "loss", pa.array(own.astype(np.float32)))
    called = np.array([name == "noise" for name in classify(table).name.to_pylist()])
    assert called[~noise].mean() < 0.01

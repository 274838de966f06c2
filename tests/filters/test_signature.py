"""Signatures: which endings are removed, and which belong to the answer."""

from __future__ import annotations

import pyarrow as pa
import pytest

from filters.signature import StripSignature


def stripped(response: str, instruction: str = "How many are there?") -> str:
    records = pa.table({"instruction": [instruction], "response": [response]})
    result: str = StripSignature().rewrite(records)["response"][0].as_py()
    return result


@pytest.mark.parametrize(
    "signature",
    [
        "\n~solver12",
        " ~solver12",
        "\n ~ Anna B",
        "\n~Anna Berg (Berg School, www.berg.example)",
        "\n~one\n ~two",
        "\n~one, two",
        "\nann@mail.example.org, annie",
        " ann@mail.example.org",
        "\nSolution by solver12",
        "\n(Solution by A. Berg)",
        "\n~x9\n- OTHER",
        "\nSent from my iPhone",
        "\nSent from my Galaxy S9.",
        "\n-- \nAnn Berg\nUniversity of Oslo",
        "\nEdited by solver12",
        "\n\nBest regards,\nAnn Berg\nSenior Developer",
        "\nKind regards, Ann",
        "\n\nCheers,\nAnn",
        "\n~solver12~",
        "\n~Solution by x9",
    ],
)
def test_a_signature_below_an_answer_is_removed(signature: str) -> None:
    answer = "There are $2 + 3 = \\boxed{5}$."
    assert stripped(answer + signature) == answer


@pytest.mark.parametrize(
    "response",
    [
        "About ~5 of them.",
        "x = ~mask",
        "The mass is $3.2 \\mathrm{~kg}$",
        "```c\nint y = x;\n~mask",
        "- apples\n- pears",
        "~name",
        "The address is\nann@mail.example.org",
        "Two of them.\n- Anna",
        "return a;\n// by Ann",
        "It holds.~\\square$",
        "He sent it from my iPhone.",
        "SELECT 1;\n--\nselect 2;",
        "My best regards go to Anna.",
        "Cheers, everyone said, and so it went on for a long while.",
    ],
)
def test_an_ending_that_is_part_of_the_answer_stays(response: str) -> None:
    assert stripped(response) == response


@pytest.mark.parametrize("instruction", ["Write a letter to Ben.", "Draft an email.", "Act as a pirate captain."])
def test_the_ending_of_a_letter_that_was_asked_for_stays(instruction: str) -> None:
    letter = "The ship is late.\n\nBest regards,\nAnn Berg"
    assert stripped(letter, instruction) == letter


def test_a_letter_keeps_its_ending_whatever_the_instruction_says() -> None:
    letter = "Dear Ben,\n\nThe ship is late.\n\nYours sincerely,\nAnn"
    assert stripped(letter) == letter


def test_other_rows_keep_their_bytes() -> None:
    responses = ["One.\n~solver12", "Two. \n", "Three ~ four"]
    records = pa.table({"instruction": ["How many?"] * 3, "response": responses})
    assert StripSignature().rewrite(records)["response"].to_pylist() == ["One.", *responses[1:]]

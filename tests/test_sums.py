"""Sums that code can check: what is found false, what is left alone, and text that means harm."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.judging import labelled_items
from course_lib.sums import false_sums

TRUE_AND_FALSE = [
    ("48 + 67 = {}", "115", "105"),
    ("You need 23 × 4 = {} tiles.", "92", "82"),
    ("15% of 240 is {}.", "36", "42"),
    ("25% of $40 is ${}, so take it off.", "10", "15"),
    ("The discount is 25% of $80, which is ${}.", "20", "25"),
    ("A day has 24 × 3,600 = {} seconds.", "86,400", "64,800"),
    ("10 ÷ 4 = {}", "2.5", "2.4"),
    ("48+67={}", "115", "105"),
    ("10 / 4 = {}", "2.5", "2.4"),
    ("2 + 3 × 4 = {}", "14", "20"),
    ("17 times 6 is {}", "102", "96"),
    ("100 - 36 = {}, then halve it", "64", "74"),
    ("0.02 * 0.02 = {}", "0.0004", "0.04"),
]


@pytest.mark.parametrize(("text", "right", "wrong"), TRUE_AND_FALSE)
def test_a_sum_that_does_not_come_out_is_found_and_one_that_does_is_not(text, right, wrong):
    assert false_sums("", text.format(right)) == []
    (said,) = false_sums("", text.format(wrong))
    assert said.endswith("is false") and said.removesuffix(" is false") in text.format(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "10 / 3 = 3.33",
        "20 ÷ 3 = 6 remainder 2",
        "20 ÷ 3 = 6.67",
        "7 + 12 = 7 on a clock",
        "9 + 5 = 2 o'clock",
        "1914 – 1918 = 4 years",
        "3/4 ÷ 1/2 = 3/2",
        "3 + 4 = 7 + 5 = 12",
        "(3 + 4) × 2 = 14",
        "2 × (3 + 4) = 14",
        "2^3 × 4 = 32",
        "At 14:30 + 45 = 15:15 it ends.",
        "24/7 is 2 words",
        "2x = 10",
        "3 m × 4 m = 12",
        "5 / 0 = 0",
        "Chapters 3-5 is 40 pages",
        "v1.2 + 3 = 7",
        "10 - 3 is 7%",
    ],
)
def test_what_is_not_a_plain_case_is_left_alone(text):
    assert false_sums("", text) == []


@pytest.mark.parametrize(
    ("instruction", "text", "said"),
    [
        ("What is 17 × 6?", "It is 102.", []),
        ("What is 17 × 6?", "It is 96.", ["no answer to 17 × 6"]),
        ("What's 15% of 240? Just the number.", "38", ["no answer to 15% of 240"]),
        ("17 × 6 = ? Just the number.", "96", ["no answer to 17 × 6"]),
        ("17 × 6 = ? Just the number.", "102", []),
        ("What is 17 times 6?", "A hundred and two.", []),
        ("What is 1/2 + 1/3?", "5/6", []),
        ("What is 2 + 3 × (4 + 1)?", "17", []),
        ("What is 24/7 support?", "Help at 3 a.m.", []),
        ("Is 7 × 8 = 54 right?", "No: 7 × 8 = 54 is wrong, it is 56.", []),
    ],
)
def test_a_sum_that_is_asked_for_wants_its_number(instruction, text, said):
    assert false_sums(instruction, text) == said


def test_no_good_answer_of_the_labelled_items_is_accused_and_some_wrong_ones_are():
    items = labelled_items("fit")
    assert [item["id"] for item in items if false_sums(item["instruction"], item["good"])] == []
    accused = [item for item in items if false_sums(item["instruction"], item["worse"])]
    assert len(accused) >= 7 and {item["worse_kind"] for item in accused} <= {"wrong", "ignores_format"}


@settings(max_examples=300, deadline=None)
@given(st.text(), st.text(alphabet="0123456789 +-×x*÷/=.,%$() is of\n"))
def test_any_text_is_taken(instruction, text):
    for one in (text, instruction):
        assert all(isinstance(said, str) for said in false_sums(one, text))


@pytest.mark.parametrize("part", ["1+", "1 + ", "11111", "1 = ", "1 + 1 = ", "5% of ", "1,111", ",111", " "])
def test_long_hostile_text_is_read_in_a_moment(part):
    text = part * (20_000 // len(part))
    started = time.process_time()
    false_sums(text, text)
    assert time.process_time() - started < 1

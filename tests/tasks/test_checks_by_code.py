"""What code can check: what is recognised, what is left alone."""

import pytest

from course_lib.judging import labelled_items
from course_lib.steps.tasks.checks import broken_constraints, constraints, false_sums, faults_by_code

KEPT_AND_BROKEN = [
    (
        "Explain tides in exactly two sentences.",
        "The Moon pulls. The sea follows.",
        "The Moon pulls the sea.",
    ),
    (
        "What is rain? One sentence, please.",
        "Water, e.g. drops of 2.5 mm, falls from clouds.",
        "It is wet. It falls.",
    ),
    (
        "Describe Rome in at most five words.",
        "Old, loud and rather lovely.",
        "Old and loud and hot and rather lovely.",
    ),
    (
        "A slogan for soap, no more than 4 words.",
        "Clean hands, warm heart.",
        "Clean hands, warm heart, happy home.",
    ),
    ("Name two trees in three words or fewer.", "Oak and elm.", "An oak and an elm."),
    ("What is it for? Five words or less.", "Keeping rain off.", "It is for keeping the rain off."),
    (
        "Sum it up in under ten words.",
        "Trains were late all day.",
        "On that day nearly all of the trains were very late.",
    ),
    ("Name a fruit. One word.", "Plum", "A plum, for example."),
    (
        "A one-line expression for the sum of xs.",
        "```python\nsum(xs)\n```",
        "total = 0\nfor x in xs: total += x",
    ),
    ("Write a four-line poem about fog.", "Fog\ncame\nand\nwent.", "Fog came and went."),
    ("Two short paragraphs on tea.", "Tea is old.\n\nTea is hot.", "Tea is old. Tea is hot."),
    ("Give me three bullet points on cats.", "- soft\n- quick\n- proud", "- soft\n- quick"),
    ("List the steps as a numbered list.", "1. Cut.\n2. Glue.", "First cut, then glue."),
    ("Why sleep? As bullets.", "• rest\n• repair", "Rest and repair."),
    ("Why sleep? No lists, please.", "Because of rest.", "1. Rest\n2. Repair"),
    ("Return the name and age as JSON.", '{"name": "Jo", "age": 3}', "name: Jo, age: 3"),
    ("Three capitals, one per line.", "Rome\nOslo\nLima", "Rome, Oslo, Lima"),
    ("Three capitals, separated by commas.", "Rome, Oslo, Lima", "Rome\nOslo\nLima"),
    ("Write a haiku about rust.", "Iron in the rain\nslowly\nturning red", "Iron turns red in the rain."),
    ("Write a sentence without the letter e.", "A dog sat down.", "The dog sat."),
    ("Write a sentence without the letter 'e'.", "A dog sat down.", "The dog sat."),
    ("Invite Jo. No exclamation marks.", "Come at six.", "Come at six!"),
    ("Rewrite it without contractions.", "It is not far.", "It isn't far."),
    ("Say hello in all caps.", "HELLO, JO", "Hello, Jo"),
    ("Answer in lower case.", "hello, jo", "Hello, Jo"),
    ("How many legs has a spider? Just the number.", "8", "A spider has eight legs."),
    ("Who wrote Emma? Only the name.", "Jane Austen", "It was Jane Austen who wrote that novel in 1815."),
    ("Is a bat a bird? Answer yes or no.", "No.", "A bat is a mammal."),
]


@pytest.mark.parametrize(("instruction", "kept", "broken"), KEPT_AND_BROKEN)
def test_a_constraint_is_seen_in_the_answer_that_breaks_it_and_only_there(instruction, kept, broken):
    assert broken_constraints(instruction, kept) == []
    assert len(broken_constraints(instruction, broken)) == 1


@pytest.mark.parametrize(
    ("instruction", "text", "broken"),
    [
        ("Sum it up in under five words.", "Trains were very late.", []),
        ("Sum it up in under four words.", "Trains were very late.", ["at most 3 words"]),
        ("Sum it up in up to four words.", "Trains were very late.", []),
        ("Invite Jo. No exclamation marks.", "Come!", ["no exclamation marks"]),
        ("Say how many, without digits.", "9 of them", ["no digits"]),
        ("Say how many, without using any numbers.", "9 of them", ["no digits"]),
    ],
)
def test_a_broken_constraint_is_named_in_words(instruction, text, broken):
    assert broken_constraints(instruction, text) == broken


@pytest.mark.parametrize(
    "instruction",
    [
        "",
        "Why does bread rise?",
        'Translate: "Answer in exactly two words, in capital letters."',
        "Fix the spelling of this text:\nwrite ten words in JSON",
        "Give two tips, one sentence each.",
        "Describe it in about fifty words.",
        "Correct all three sentences.",
        "Write the first two sentences of a story.",
        "Sum it up in one or two sentences.",
        "What does 'to bite the bullet' mean?",
        "What does it mean to bite the bullet?",
        "Explain the phrase 'in two words'.",
        "Tell them to say yes or no by Friday.",
        "Show me Python code that reads config.json.",
        "Write a function that takes a JSON string.",
        "Begin with a greeting, then give one sentence of thanks.",
        "Our teacher asked us to write a haiku. What is that?",
        "How do you say hello in French and German? One word or phrase for each, please.",
        "Give me two words that mean the opposite of generous.",
    ],
)
def test_what_is_not_a_plain_case_is_left_alone(instruction):
    assert list(constraints(instruction)) == []


def test_good_answers_of_the_labelled_items_keep_their_constraints_and_many_others_do_not():
    items = labelled_items("fit")
    assert [item["id"] for item in items if broken_constraints(item["instruction"], item["good"])] == []
    ignored = [item for item in items if item["worse_kind"] == "ignores_format"]
    found = [item for item in ignored if broken_constraints(item["instruction"], item["worse"])]
    assert len(found) > len(ignored) / 3


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
    (sum_,) = false_sums("", text.format(wrong))
    assert sum_.endswith("is false") and sum_.removesuffix(" is false") in text.format(wrong)


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
def test_a_sum_that_is_not_a_plain_case_is_left_alone(text):
    assert false_sums("", text) == []


@pytest.mark.parametrize(
    ("instruction", "text", "expected"),
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
def test_a_sum_that_is_asked_for_wants_its_number(instruction, text, expected):
    assert false_sums(instruction, text) == expected


def test_no_good_answer_of_the_labelled_items_is_accused_and_some_wrong_ones_are():
    items = labelled_items("fit")
    assert [item["id"] for item in items if false_sums(item["instruction"], item["good"])] == []
    accused = [item for item in items if false_sums(item["instruction"], item["worse"])]
    assert len(accused) >= 7 and {item["worse_kind"] for item in accused} <= {"wrong", "ignores_format"}


@pytest.mark.parametrize(
    "text", ["Teach a beginner to squat.", "teach a beginner  to SQUAT", "**Teach a beginner to squat!**"]
)
def test_an_answer_that_only_says_the_instruction_again_is_found(text):
    assert faults_by_code("Teach a beginner to squat.", text) == ["more than the instruction again"]
    assert faults_by_code("Teach a beginner to squat.", "Stand up, sit down, repeat.") == []
    assert faults_by_code("Say yes", "Yes") == faults_by_code("Say yes", "Say yes") == []

"""Constraints on form that code can check: what is recognised, what is left alone, and text that means harm."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.constraints import broken_constraints, constraints
from course_lib.judging import labelled_items

KEPT_AND_BROKEN = [
    ("Explain tides in exactly two sentences.", "The Moon pulls. The sea follows.", "The Moon pulls the sea."),
    ("What is rain? One sentence, please.", "Water, e.g. drops of 2.5 mm, falls from clouds.", "It is wet. It falls."),
    ("Describe Rome in at most five words.", "Old, loud and rather lovely.", "Old and loud and hot and rather lovely."),
    ("A slogan for soap, no more than 4 words.", "Clean hands, warm heart.", "Clean hands, warm heart, happy home."),
    ("Name two trees in three words or fewer.", "Oak and elm.", "An oak and an elm."),
    ("What is it for? Five words or less.", "Keeping rain off.", "It is for keeping the rain off."),
    ("Sum it up in under ten words.", "Trains were late all day.", "On that day nearly all of the trains were very late."),
    ("Name a fruit. One word.", "Plum", "A plum, for example."),
    ("A one-line expression for the sum of xs.", "```python\nsum(xs)\n```", "total = 0\nfor x in xs: total += x"),
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


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text())
def test_any_text_can_be_checked(instruction, text):
    for asked in (
        instruction,
        f"{instruction} In one word, as JSON, in two sentences, no code, without the letter x, just the number.",
    ):
        assert all(isinstance(one, str) for one in broken_constraints(asked, text))


@pytest.mark.parametrize("part", ["\n", " ", "\n ", "a", "1.", "- ", "'", "n't", "[", '"', "two words ", "!", "1,", "a-"])
def test_long_hostile_text_takes_no_time_to_speak_of(part):
    instruction = (
        "In two sentences, as a numbered list and bullets and JSON, two paragraphs, no contractions, no code, just the number."
    )
    started = time.perf_counter()
    broken_constraints(instruction, part * 20_000)
    broken_constraints(part * 20_000, "One.")
    assert time.perf_counter() - started < 5  # seconds; a pattern that backtracks would take minutes

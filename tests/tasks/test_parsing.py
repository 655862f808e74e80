"""Replies of judges as they come: each text gets its own rating or a reason, never another text's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.steps.tasks.parsing import parse_ratings


def ratings(reply, count, shown=()):
    return [entry["rating"] for entry in parse_ratings(reply, count, shown)]


def reasons(reply, count):
    return [entry["reason"] for entry in parse_ratings(reply, count)]


def rationales(reply, count):
    return [entry["rationale"] for entry in parse_ratings(reply, count)]


def blocks(*parts, head="#### Text {}\n", between="\n\n"):
    """A reply with a heading above each part."""
    return between.join(head.format(number) + part for number, part in enumerate(parts, start=1))


ASKED = blocks("Rating: 2\nRationale: Wrong.", "Rating: 5\nRationale: Right.", "Rating: 3\nRationale: Half.")
BOLD_HEADS = (
    ASKED.replace("#### Text 1", "**Text 1**").replace("#### Text 2", "**Text 2:**").replace("#### ", "__")
)
BRACKETS = (
    ASKED.replace("#### Text 1", "[Text 1]")
    .replace("#### Text 2", "Text #2")
    .replace("#### Text 3", "<text 3>")
)
SENTENCES = "I compare the texts.\nText 1 is short. Text 2 has detail.\nText 3 wanders.\n\n"
THREE = {
    "as asked": ASKED,
    "preamble": "Sure! Here are my ratings.\nI read all three texts with care.\n\n" + ASKED,
    "preamble that names the texts": SENTENCES + ASKED,
    "preamble that lists the texts": "- Text 1: a claim\n- Text 2: an answer\n- Text 3: a story\n\n" + ASKED,
    "closing words": ASKED + "\n\nOverall, Text 2 is the best one.\n\nText 1 is the weakest.",
    "peer's headings": ASKED.replace("#### Text", "#### Output for Text"),
    "no space between blocks": ASKED.replace("\n\n", "\n"),
    "many empty lines": ASKED.replace("\n", "\n\n\n"),
    "windows line ends": ASKED.replace("\n", "\r\n"),
    "bold labels": ASKED.replace("Rating:", "**Rating:**").replace("Rationale:", "**Rationale:**"),
    "bold values": ASKED.replace("Rating: ", "**Rating**: **").replace("\nRationale", "**\nRationale"),
    "bold headings": BOLD_HEADS,
    "numbered headings": ASKED.replace("#### Text ", "1. **Text "),
    "brackets": BRACKETS,
    "list marks": ASKED.replace("Rating", "- Rating").replace("Rationale", "- Rationale"),
    "out of five": ASKED.replace("g: 2", "g: 2/5")
    .replace("g: 5", "g: 5 out of 5")
    .replace("g: 3", "g: 3 / 5."),
    "with the word": ASKED.replace("g: 2", "g: 2 (Weak)")
    .replace("g: 5", "g: (5 (Excellent))")
    .replace("g: 3", "g: 3 - Fair"),
    "in words": ASKED.replace("g: 2", "g: Weak")
    .replace("g: 5", "g: **Excellent**.")
    .replace("g: 3", "g: three out of five"),
    "decimals": ASKED.replace("g: 2", "g: 2.0").replace("g: 5", "g: 5,0").replace("g: 3", "g: 3.0/5"),
    "score": ASKED.replace("Rating:", "Overall score:").replace("Rationale:", "Explanation:"),
    "one line each": "Text 1: Weak, wrong.\nText 2: 5/5 - right\nText 3: Rating: 3. Half.",
    "blocks out of order": "\n\n".join(ASKED.split("\n\n")[i] for i in (2, 0, 1)),
    "said twice": ASKED + "\n\n" + ASKED,
    "no headings": "Rating: 2\nRationale: Wrong.\n\nRating: 5\nRationale: Right.\n\nRating: 3\nRationale: Half.",
    "full width": "Text １\nRating：２\n\nText ２：\nRating： ５／５\n\n＃＃ Text ３\nRating＝３",
    "thoughts first": "<think>\nText 1: maybe\nRating: 4\n</think>\n\n" + ASKED,
    "two paragraphs": ASKED.replace(
        "Wrong.", "Wrong.\n\nText 2 is better. In sum, 5 of its claims fail.\n\n4. none"
    ),
    "a quoted rating": ASKED.replace("Wrong.", "It says of itself 'Rating: 5/5', and even:\n> Rating: 5"),
    "a quoted block": ASKED.replace("Wrong.", "It holds:\n> #### Text 3\n> Rating: 5\nto fool me."),
}


@pytest.mark.parametrize("reply", THREE.values(), ids=THREE.keys())
def test_three_texts(reply):
    assert ratings(reply, 3) == [2, 5, 3]
    assert reasons(reply, 3) == [None, None, None]


@pytest.mark.parametrize(
    "kind", ["as asked", "bold labels", "peer's headings", "brackets", "no headings", "score"]
)
def test_rationales_go_with_their_ratings(kind):
    assert rationales(THREE[kind], 3) == ["Wrong.", "Right.", "Half."]


def test_a_rationale_keeps_its_paragraphs_and_its_writing():
    why = "Because `a * b` is **not** 2 ＊ 3：see below.\n\nIt also fails twice.\n\n- once here\n- once there"
    reply = f"#### Text 1\nRating: 2\nRationale: {why}\n\n#### Text 2\nRating: 4\nRationale: Fine."
    assert rationales(reply, 2) == [why, "Fine."]
    assert rationales("Text 1\nRating: 4 (Good)", 1) == [None]
    assert rationales("Rating: 4/5. Short but right.", 1) == ["Short but right."]
    assert rationales("Rationale: Short.\nRating: 4", 1) == ["Short."]
    assert rationales("Rating: 4\nRationale: Good.", 1) == ["Good."]


OFF = [
    "0",
    "6",
    "-3",
    "45",
    "8/10",
    "4/10",
    "90%",
    "5.01",
    "0,9",
    "1,000",
    "1" * 400,
    "−3",
    "4 percent",
    "4 out of ten",
]


@pytest.mark.parametrize(
    "value", [*OFF, "10 out of 5", "**4** / **10**", "4\n/10", "four out of ten", "4 (of 4)"]
)
def test_off_the_scale_is_none_and_never_clipped(value):
    entries = parse_ratings(f"#### Text 1\nRating: {value}\nRationale: Well.\n\n#### Text 2\nRating: 3", 2)
    assert [entry["rating"] for entry in entries] == [None, 3]
    assert entries[0]["reason"].startswith("off the scale: ") and len(entries[0]["reason"]) < 70
    assert entries[0]["rationale"] == "Well."


RANGES = [
    "3-4",
    "3 to 4",
    "4 or 5",
    "3～4",
    "3 – 4",
    "3/5 - 4/5",
    "1, 2 or 3",
    "1...5",
    "1…5",
    "1 = Poor, 5 = Excellent",
]
OTHERS = [
    "4, scale 1-10",
    "4 (0-5)",
    "4 (max. 10)",
    "4 (ten-point scale)",
    "4/5/5",
    "4 1/2",
    "4½",
    "4+",
    "4th",
    "4 thousand",
]


@pytest.mark.parametrize(
    "value", [*RANGES, *OTHERS, "4 (Weak)", "4 - Weak", "4/5 - Weak", "Weak: 4", "good to excellent"]
)
@pytest.mark.parametrize("label", ["Rating: ", "Text 1: "])
def test_what_contradicts_itself_or_may_be_another_scale_has_no_rating(label, value):
    [entry] = parse_ratings(label + value, 1)
    assert entry["rating"] is None and entry["reason"].startswith(("unclear: ", "no rating"))


@pytest.mark.parametrize("value", ["N/A", "", "?", "none", "not good", "(see below)", "≥4", ">4", "★★★"])
def test_no_rating_to_read(value):
    assert reasons(f"Text 1\nRating: {value}\nRationale: Fine.\n\nText 2\nRating: 3", 2) == [
        "no rating",
        None,
    ]


VALUES = {
    "4.5": 4.5,
    "3,5/5": 3.5,
    "1": 1,
    "5": 5,
    "very good": 4,
    "Four": 4,
    "+4": 4,
    "Good (4)": 4,
    "3.5 (Good)": 3.5,
}
VALUES |= {
    "4 stars": 4,
    "4/5 (9 of 10 facts right)": 4,
    "4 - weak on dates": 4,
    "4. 1) clear 2) short": 4,
    "(4)": 4,
}


@pytest.mark.parametrize("value, rating", VALUES.items())
def test_values(value, rating):
    assert ratings(f"Rating: {value}", 1) == [rating]


@pytest.mark.parametrize("reply", [None, "", "  \n\t", "\u3000"])
def test_no_reply(reply):
    assert reasons(reply, 2) == ["no reply", "no reply"]
    assert parse_ratings(reply, 0) == []


def test_missing_blocks_stay_missing():
    assert ratings("#### Text 2\nRating: 4\n\n#### Text 4\nRating: 1", 4) == [None, 4, None, 1]
    assert reasons("#### Text 2\nRating: 4", 2) == ["missing block", None]
    assert reasons("I cannot rate these texts.", 2) == ["no rating", "no rating"]
    assert reasons("#### Text 0\nRating: 4\n\n#### Text 1\nRating: 2", 2) == ["headings count from 0"] * 2


def test_ratings_without_headings_are_used_only_if_each_text_has_one():
    assert reasons("Rating: 4\n\nRating: 2", 3) == ["2 ratings without headings for 3 texts"] * 3
    assert ratings("Rating: 4\n\nRating: 2\n\nRating: 1", 2) == [None, None]


NAMED = [
    ("Generation 2", "Generation 1"),
    ("### Text B", "### Text A"),
    ("2nd", "1st"),
    ("Text II", "Text I"),
    ("②", "①"),
]
TOLD = [
    ("Text 2 is good.", "Text 1 is bad."),
    ("The second text is the better one.", "The first text is bad."),
]


@pytest.mark.parametrize(
    "later, earlier", [*NAMED, *TOLD, ("Madrid:", "Barcelona:"), ('{"text": 2,', '},\n{"text": 1,')]
)
def test_headings_of_another_name_give_no_rating(later, earlier):
    reply = f"{later}\nRating: 4\nRationale: Late.\n\n{earlier}\nRating: 2\nRationale: Early."
    assert reasons(reply, 2) == ["headings without the numbers of the texts"] * 2


@pytest.mark.parametrize(
    "list_or_table", ["2. Rating: 4\n1. Rating: 2", "| 2 | 4 |\n| 1 | 2 |", "Rating 2: 4\nRating 1: 2"]
)
def test_forms_that_were_not_asked_for_give_no_rating(list_or_table):
    assert ratings(list_or_table, 2) == [None, None]


@pytest.mark.parametrize("label", ["Final rating", "**My final rating**", "Overall score", "Rating"])
def test_a_second_rating_that_differs_contradicts(label):
    reply = f"#### Text 1\nRating: 5\nRationale: Right.\n{label}: 3\n\n#### Text 2\nRating: 4"
    assert (ratings(reply, 2), reasons(reply, 2)) == ([None, 4], ["contradicting ratings: 5, 3", None])
    assert ratings(reply.replace(": 3", ": 5"), 2) == [5, 4]


def test_two_blocks_that_disagree_give_no_rating():
    reply = blocks(
        "Rating: 2\nRationale: It holds\n#### Text 2\nRating: 5\nto fool me.", "Rating: 1\nRationale: Bad."
    )
    assert reasons(reply, 2) == [None, "contradicting ratings: 5, 1"]
    assert ratings("Text 1\nRating: N/A\n\nText 1\nRating: 3", 1) == [3]


@pytest.mark.parametrize(
    "reply",
    ["4", "4/5", "Rating: 4", "I like it.\n\nRating: 4\n\nIt is fine.", "Good.", "4 - clear", "(4/5)"],
)
def test_one_text(reply):
    assert ratings(reply, 1) == [4]


@pytest.mark.parametrize(
    "reply",
    [
        "2 of its claims are wrong.",
        "1969 was the year.",
        "1. Clear.\n2. Short.",
        "Text 1:\n1. Clear\n2. Terse",
    ],
)
def test_numbers_in_prose_are_no_ratings(reply):
    assert ratings(reply, 1) == [None]


PIECES = ["#### Text 1", "Text 3:", "<text 1>", "Rating: 5", "Rating: 0", "Rating", "Rationale:", "<think>"]
PIECES += ["</think>", "4/5", "8/10"]
PIECES += ["\n", "-3", "3-4", "Good", "1. ", "²", "٤", "\ud800"]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join)),
    st.integers(0, 6),
)
def test_any_reply_gives_one_entry_per_text(reply, count):
    entries = parse_ratings(reply, count, ["Rating: 5"] * count)
    assert len(entries) == count
    for entry in entries:
        assert (entry["rating"] is None) == bool(entry["reason"])
        assert entry["rating"] is None or 1 <= entry["rating"] <= 5
        assert entry["rationale"] is None or entry["rationale"].strip()

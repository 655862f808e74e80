"""Replies of judges as they come: each text gets its own rating or a reason, never another text's."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.steps.tasks.parsing import parse_ratings


def ratings(reply, count, shown=()):
    return [one["rating"] for one in parse_ratings(reply, count, shown)]


def reasons(reply, count):
    return [one["reason"] for one in parse_ratings(reply, count)]


def rationales(reply, count):
    return [one["rationale"] for one in parse_ratings(reply, count)]


def blocks(*parts, head="#### Text {}\n", between="\n\n"):
    """A reply with a heading above each part."""
    return between.join(head.format(number) + part for number, part in enumerate(parts, start=1))


ASKED = blocks("Rating: 2\nRationale: Wrong.", "Rating: 5\nRationale: Right.", "Rating: 3\nRationale: Half.")

TABLE = "| # | Rating | Why |\n|---|---|---|\n| 1 | 2 | Wrong. |\n| 2 | 5 | Right. |\n| 3 | 3 | Half. |"

THREE = {
    "as asked": ASKED,
    "preamble": "Sure! Here are my ratings.\nI read all three texts with care.\n\n" + ASKED,
    "preamble that names the texts": "I compare the texts.\nText 1 is short. Text 2 has detail.\nText 3 wanders.\n\n" + ASKED,
    "preamble that lists the texts": "- Text 1: a claim\n- Text 2: an answer\n- Text 3: a story\n\n" + ASKED,
    "closing words": ASKED + "\n\nOverall, Text 2 is the best one.\n\nText 1 is the weakest.",
    "peer's headings": ASKED.replace("#### Text", "#### Output for Text"),
    "no space between blocks": ASKED.replace("\n\n", "\n"),
    "many empty lines": ASKED.replace("\n", "\n\n\n"),
    "windows line ends": ASKED.replace("\n", "\r\n"),
    "bold labels": ASKED.replace("Rating:", "**Rating:**").replace("Rationale:", "**Rationale:**"),
    "bold labels and values": ASKED.replace("Rating: ", "**Rating**: **").replace("\nRationale", "**\nRationale"),
    "bold headings": ASKED.replace("#### Text 1", "**Text 1**").replace("#### Text 2", "**Text 2:**").replace("#### ", "__"),
    "list marks": ASKED.replace("Rating", "- Rating").replace("Rationale", "- Rationale"),
    "numbered headings": ASKED.replace("#### Text ", "1. **Text "),
    "brackets": ASKED.replace("#### Text 1", "[Text 1]").replace("#### Text 2", "【Text 2】").replace("#### Text 3", "Text #3"),
    "tags": ASKED.replace("#### Text 1", "<text 1>")
    .replace("#### Text 2", "</text 1>\n<text 2>")
    .replace("#### Text 3", "<text 3>"),
    "out of five": ASKED.replace("Rating: 2", "Rating: 2/5").replace("g: 5", "g: 5 out of 5").replace("g: 3", "g: 3 / 5."),
    "stars": ASKED.replace("Rating: 2", "Rating: ★★☆☆☆").replace("Rating: 5", "Rating: 5 stars").replace("g: 3", "g: ⭐⭐⭐"),
    "with the word": ASKED.replace("g: 2", "g: 2 (Weak)").replace("g: 5", "g: (5 (Excellent))").replace("g: 3", "g: 3 - Fair"),
    "in words": ASKED.replace("g: 2", "g: Weak").replace("g: 5", "g: **Excellent**.").replace("g: 3", "g: three out of five"),
    "in brackets": ASKED.replace("g: 2", "g: [2]").replace("g: 5", "g: <5>").replace("g: 3", "g: (3)"),
    "decimals": ASKED.replace("g: 2", "g: 2.0").replace("g: 5", "g: 5,0").replace("g: 3", "g: 3.0/5"),
    "other separators": ASKED.replace("g: 2", "g = 2").replace("g: 5", "g - 5").replace("g: 3", "g 3/5"),
    "on the next line": ASKED.replace("Rating: ", "Rating:\n\n"),
    "scale in the label": ASKED.replace("Rating:", "Overall rating (1-5):"),
    "score": ASKED.replace("Rating:", "Score:").replace("Rationale:", "Explanation:"),
    "a sentence": ASKED.replace("Rating:", "The rating is").replace("Rationale: ", "Because it is "),
    "one line each": "Text 1: Rating: 2. Wrong.\nText 2: Rating: 5. Right.\nText 3: Rating: 3. Half.",
    "one line without label": "Text 1: 2/5 - wrong\nText 2: 5 - right\nText 3: 3. Half of it.",
    "words without label": "Text 1: Weak. Wrong.\nText 2: Excellent - right\nText 3: Fair",
    "rating inside the heading": blocks("(Rating: 2)\nWrong.", "(5/5)\nRight.", "- Rating: 3\nHalf.", head="#### Text {} "),
    "rating below the heading": "### Text 1\n\n2\n\nWrong.\n\n### Text 2\n5/5\nRight.\n\n### Text 3\n3 - half",
    "possessive": "Text 1's rating: 2\nText 2's rating: 5\nText 3's rating: 3",
    "rating for": "Rating for Text 1: 2\nRationale for Text 1: Wrong.\nRating for Text 2: 5\nRating for text 3: 3",
    "blocks out of order": "\n\n".join(ASKED.split("\n\n")[i] for i in (2, 0, 1)),
    "said twice": ASKED + "\n\n" + ASKED,
    "rationale first": blocks("Rationale: Wrong.\nRating: 2", "Rationale: Right.\nRating: 5", "Reason: Half.\nRating: 3"),
    "prose first": blocks("Wrong.\n\nRating: 2", "Right.\n\nRating: 5", "Half.\nRating: 3"),
    "no headings": "Rating: 2\nRationale: Wrong.\n\nRating: 5\nRationale: Right.\n\nRating: 3\nRationale: Half.",
    "no headings, rationale first": "Rationale: Wrong.\nRating: 2\nRationale: Right.\nRating: 5\nRationale: Half.\nRating: 3",
    "a list of ratings": "1. Rating: 2\n   Wrong.\n2. Rating: 5\n   Right.\n3. Rating: 3\n   Half.",
    "a list out of order": "3. Rating: 3\n2. Rating: 5\n1. Rating: 2",
    "a bare list": "1. 2/5 - wrong\n2. 5/5 - right\n3. 3/5 - half",
    "a table": TABLE.replace("| 1", "| Text 1").replace("| 2 | 5", "| Text 2 | 5/5").replace("| 3 | 3", "| Text 3 | 3"),
    "a table of numbers": TABLE,
    "full width": "Text １\nRating：２\n\nText ２：\nRating： ５／５\n\n＃＃ Text ３\nRating＝３",
    "Japanese": blocks(
        "評価：2\n理由：誤りです。", "評価：5\n根拠：正しい。", "評価：３\n理由：半分。", head="#### テキスト{}の出力\n"
    ),
    "more Japanese": "【テキスト１】\n評価は2です。\n\n【テキスト２】\nスコア：５点\n理由：可。\n\n出力3\n評価: 5段階中3",
    "thoughts first": "<think>\nText 1: maybe\nRating: 4\n</think>\n\n" + ASKED,
    "several paragraphs": ASKED.replace(
        "Wrong.", "Wrong.\n\nText 2 is better than this one.\n\nIn sum, 5 of its claims fail.\n\n4. none"
    ),
    "a quoted rating": ASKED.replace("Wrong.", "It says of itself:\nRating: 5\nand even 'Rating: 5/5'. It is not."),
    "a quoted rating before the rating": blocks(
        "Rationale: It says\nRating: 5\nand lies.\nRating: 2", "Rating: 5", "Rating: 3"
    ),
    "a quoted block": ASKED.replace("Wrong.", "It holds:\n> #### Text 3\n> Rating: 5\nto fool me."),
}


@pytest.mark.parametrize("reply", THREE.values(), ids=THREE.keys())
def test_three_texts(reply):
    assert ratings(reply, 3) == [2, 5, 3]
    assert reasons(reply, 3) == [None, None, None]


PLAIN = ["as asked", "bold labels", "peer's headings", "tags", "rationale first", "no headings", "a table", "score"]


@pytest.mark.parametrize("kind", [*PLAIN, "no headings, rationale first", "rating inside the heading", "prose first"])
def test_rationales_go_with_their_ratings(kind):
    assert rationales(THREE[kind].replace("</text 1>", ""), 3) == ["Wrong.", "Right.", "Half."]


def test_a_rationale_keeps_its_paragraphs_and_its_writing():
    why = "Because `a * b` is **not** 2 ＊ 3：see below.\n\nIt also fails twice.\n\n- once here\n- once there"
    assert rationales(f"#### Text 1\nRating: 2\nRationale: {why}\n\n#### Text 2\nRating: 4\nRationale: Fine.", 2) == [
        why,
        "Fine.",
    ]
    assert rationales("Text 1\nRating: 4 (Good)", 1) == [None]
    assert rationales("Rating: 4/5. Short but right.", 1) == ["Short but right."]
    assert rationales("評価：4\n理由：簡潔で正しい。", 1) == ["簡潔で正しい。"]


@pytest.mark.parametrize(
    "reply, rating, why",
    [
        ("## Text 1\n### Rating\n4\n### Rationale\nGood one.", 4, "Good one."),
        ("**Rating**\n4/5\n\n**Rationale**\nFine.", 4, "Fine."),
        ("**Rating:** 4\n\n**Rationale**\n\nFine.", 4, "Fine."),
        ("Rating\n\n4 (Good)\n\nExplanation\nFine.", 4, "Fine."),
        ("### Rating\n- Excellent\n\n### Comments:\nFine.", 5, "Fine."),
        ("Rating\n★★★\nReason\nFine.", 3, "Fine."),
        ("評価\n4点\n理由\n簡潔。", 4, "簡潔。"),
        ("### Rationale\nFine.\n### Rating\n4", 4, "Fine."),
    ],
)
def test_a_label_on_a_line_of_its_own_is_read(reply, rating, why):
    assert (ratings(reply, 1), rationales(reply, 1)) == ([rating], [why])


@pytest.mark.parametrize(
    "below", ["1. clear\n2. short", "4 texts are good", "1 = Poor", "> 4", "4) clear", "| 4 | 5 |", "Good sources", "N/A"]
)
def test_what_stands_below_a_label_but_is_no_value_is_no_rating(below):
    assert ratings(f"### Rating\n{below}", 1) == [None]


def test_labels_on_lines_of_their_own_keep_the_ratings_of_several_texts_apart():
    parts = ["Rating\n2\nRationale\nWrong.", "**Rating**\n\n**5/5**\n\n**Rationale**\n\nRight."]
    assert (ratings(blocks(*parts), 2), rationales(blocks(*parts), 2)) == ([2, 5], ["Wrong.", "Right."])
    assert ratings("Rating\n2\nRationale\nWrong.\n\nRating\n5\nRationale\nRight.", 2) == [2, 5]


@pytest.mark.parametrize("why", ["Good.", "Excellent", "Fair"])
def test_a_word_of_the_scale_behind_an_explicit_label_is_a_rationale(why):
    assert rationales(f"Rating: 4\nRationale: {why}", 1) == rationales(f"Rationale: {why}\nRating: 4", 1) == [why]
    assert rationales("評価：4\n理由：良い。", 1) == ["良い。"]
    assert rationales("<b>Rating:</b> 4\n<b>Rationale:</b> Good.", 1) == ["Good."]


def test_the_reply_that_shifts_ratings_elsewhere():
    first, second = "Rating: 4\nRationale: Mostly right.\n\nIt could say more.", "Rating: 2\nRationale: Off the point."
    reply = "Here is my assessment of both texts:\n\n" + blocks(first, second, head="#### Output for Text {}\n")
    assert ratings(reply, 2) == [4, 2]
    assert rationales(reply, 2) == ["Mostly right.\n\nIt could say more.", "Off the point."]


@pytest.mark.parametrize(
    "value",
    ["0", "6", "-3", "45", "8/10", "4/10", "10/10", "90%", "4 %", "5.01", "0,9", "1,000", "1" * 400]
    + ["−3", "–3", "－3", "4 (out of 10)", "4点（10点満点）", "4 percent", "4割", "4 out of ten", "4 thousand", "10点中4点"]
    + ["4 on a scale of 1 to 10", "4 points out of 10", "4 (of 4)", "★★★★★★", "★★★☆", "★★★☆☆☆☆☆☆☆"],
)
def test_off_the_scale_is_none_and_never_clipped(value):
    found = parse_ratings(f"#### Text 1\nRating: {value}\nRationale: Well.\n\n#### Text 2\nRating: 3", 2)
    assert [one["rating"] for one in found] == [None, 3]
    assert found[0]["reason"].startswith("off the scale: ") and len(found[0]["reason"]) < 70
    assert found[0]["rationale"] is None or found[0]["rationale"].endswith("Well.")


@pytest.mark.parametrize(
    "value",
    [
        "**4** / **10**",
        "4 / **10**",
        "4⁄10",
        "4 pts/10",
        "4\n/10",
        "4 \r\n  / 10",
        "4\n(out of 10)",
        "4点／10点満点",
        "4点（満点10点）",
    ]
    + ["4 — out of 10", "4, out of 10", "4 out of max 10", "4 out of a possible 10", "4 (max. 10)", "4 (ten-point scale)"]
    + [
        "4, scale 1-10",
        "4 (scale: 0-5)",
        "4 (0-5)",
        "4 (1 to 10)",
        "4 on the 1-10 scale",
        "four (out of 10)",
        "4 (10段階評価)",
    ],
)
@pytest.mark.parametrize("label", ["Rating: ", "Text 1: Rating: ", "### Rating\n"])
def test_another_scale_is_off_the_scale_wherever_it_is_named(label, value):
    assert ratings(label + value, 1) == [None]
    assert label.startswith("###") or reasons(label + value, 1)[0].startswith("off the scale: ")


def test_a_fraction_over_two_lines_is_off_the_scale_without_a_label():
    assert ratings("4\n/10", 1) == ratings("Text 1: 4\n/10", 1) == [None]


@pytest.mark.parametrize("scale", ["out of 10", "1-10", "0-5", "max. 4", "ten-point scale", "0.0-5.0", "zero to five"])
def test_a_label_with_another_scale_is_off_the_scale(scale):
    assert reasons(f"Rating ({scale}): 4", 1) == [f"off the scale: {scale}"]
    assert ratings("Rating (1-5): 4", 1) == [4]


@pytest.mark.parametrize("scale", ["1 to 5", "out of 5.0", "1.0-5.0", "five-point scale", "5 = best", "overall"])
def test_a_label_with_our_scale_or_none_leaves_the_rating(scale):
    assert ratings(f"Rating ({scale}): 4", 1) == [4]


@pytest.mark.parametrize(
    "value",
    [
        "3-4",
        "3 to 4",
        "4 or 5",
        "3～4",
        "3〜4",
        "3 – 4",
        "3/5 - 4/5",
        "4 → 3",
        "3から4",
        "1, 2 or 3",
        "Good (3/10)",
        "4 (Weak)",
    ]
    + ["1...5", "1…5", "1 through 5", "3 & 4", "Good - Excellent", "Good – Excellent", "4 (2)", "4 (80%)", "Good (4.5)"]
    + ["4 - Weak", "4: Weak", "4 — Weak.", "4/5 - Weak", "4, weak", "Weak - 4", "Weak: 4"],
)
def test_a_range_is_unclear(value):
    [one] = parse_ratings(f"Rating: {value}", 1)
    assert one["rating"] is None and one["reason"].startswith("unclear")


@pytest.mark.parametrize(
    "value",
    ["N/A", "", "?", "none", "not good", "one of the best", "good to excellent", "4th", "(see below)"]
    + ["four hundred", "four percent", "four out of ten", "four point five", "4 and a half", "4½", "4 1/2", "4+", "≥4", "4/5/5"]
    + ["★★★½", "☆☆☆☆☆", "5点満点", "悪い", "良い点が多い", "良いとは言えない"],
)
def test_no_rating_to_read(value):
    assert reasons(f"Text 1\nRating: {value}\nRationale: Rating: 5 it says.\n\nText 2\nRating: 3", 2) == ["no rating", None]


@pytest.mark.parametrize(
    "value, rating",
    [("4.5", 4.5), ("3,5/5", 3.5), ("1", 1), ("5", 5), ("very good", 4), ("Four", 4), ("+4", 4)]
    + [
        ("⭐️⭐️⭐️", 3),
        ("星4つ", 4),
        ("4★", 4),
        ("普通", 3),
        ("良いです。", 4),
        ("非常に良い", 5),
        ("Good (4)", 4),
        ("3.5 (Good)", 3.5),
    ]
    + [
        ("4 (2 errors)", 4),
        ("3 - 4 of its claims are wrong", 3),
        ("4/5 - 2 errors", 4),
        ("<b>4</b>", 4),
        ("5 (5-point scale)", 5),
    ]
    + [
        ("4/5 (9 of 10 facts right)", 4),
        ("4/5 (see line 12)", 4),
        ("5/5 (100%)", 5),
        ("3 (10 errors)", 3),
        ("4 (one error)", 4),
    ]
    + [("4 (9 of 10 facts right)", 4), ("5 - 10 out of 10 facts", 5), ("4 (max 300 words kept)", 4), ("Good. 3 errors", 4)]
    + [
        ("4 - weak on dates", 4),
        ("4. Weak on dates.", 4),
        ("4. 1) clear 2) short", 4),
        ("4... but long", 4),
        ("4 & concise", 4),
    ]
    + [("4 (4)", 4), ("4 (4/5)", 4), ("4, scale 1-5", 4), ("4（5段階評価）", 4), ("4 — Good", 4)],
)
def test_values(value, rating):
    assert ratings(f"Rating: {value}", 1) == [rating]


@pytest.mark.parametrize("reply", [None, "", "  \n\t", "\u3000"])
def test_no_reply(reply):
    assert reasons(reply, 2) == ["no reply", "no reply"]
    assert parse_ratings(reply, 0) == []


def test_missing_blocks_stay_missing():
    assert ratings("#### Text 2\nRating: 4\n\n#### Text 4\nRating: 1", 4) == [None, 4, None, 1]
    assert reasons("#### Text 2\nRating: 4", 2) == ["missing block", None]
    assert reasons("#### Text 3\nRating: 4", 2) == ["missing block", "missing block"]
    assert reasons("I cannot rate these texts.", 2) == ["no rating", "no rating"]


def test_ratings_without_headings_are_used_only_if_each_text_has_one():
    assert reasons("Rating: 4\n\nRating: 2", 3) == ["2 ratings without headings for 3 texts"] * 3
    assert ratings("Rating: 4\n\nRating: 2\n\nRating: 1", 2) == [None, None]


def reversed_blocks(later, earlier):
    return f"{later}\nRating: 4\nRationale: Late.\n\n{earlier}\nRating: 2\nRationale: Early."


@pytest.mark.parametrize(
    "later, earlier",
    [
        ("Generation 2", "Generation 1"),
        ("**Candidate 2:**", "**Candidate 1:**"),
        ("### Text B", "### Text A"),
        ("Option b)", "Option a)"),
        ("Text Two", "Text One"),
        ("2nd", "1st"),
        ("The second text", "The first text"),
        ("文章2", "文章1"),
        ("第２の文章", "第１の文章"),
        ("Candidate 2 (Barcelona)", "Candidate 1 (Madrid)"),
        ('{\n"text": 2,', '},\n{\n"text": 1,'),
        ('<answer id="2">', '</answer>\n<answer id="1">'),
        ("Rating for B:", "Rating for A:"),
    ],
)
def test_headings_of_any_name_are_read_by_their_number_or_letter(later, earlier):
    reply = reversed_blocks(later, earlier)
    assert ratings(reply, 2) == [2, 4]
    assert rationales(reply, 2)[0] == "Early."
    assert ratings(reply.replace("4", "two").replace("2\nRationale: E", "five\nRationale: E"), 2) == [5, 2]


@pytest.mark.parametrize(
    "later, earlier",
    [
        ("Madrid:", "Barcelona:"),
        ("### Madrid\nIt is right.", "### Barcelona\nIt is wrong."),
        ("Text II", "Text I"),
        ("②", "①"),
        ("Generation 2", "Gen 1"),
        ("Generation 2", "Generation 3"),
        ("Generation 2", "Generation 2"),
        ("Generation 2", ""),
        ("Text 2 is good.", "Text 1 is bad."),
        ("The second text is the better one.", "The first text is bad."),
    ],
)
def test_headings_that_number_no_text_give_no_rating(later, earlier):
    assert reasons(reversed_blocks(later, earlier), 2) == ["headings without the numbers of the texts"] * 2


def test_a_heading_below_its_rating_gives_no_rating():
    listed = '[\n{\n"rating": 4,\n"text": 2\n},\n{\n"rating": 2,\n"text": 1\n}\n]'
    assert reasons(listed, 2) == ["headings without the numbers of the texts"] * 2
    assert ratings("Rating (text 2): 4\nRating (text 1): 2", 2) == [None, None]
    assert ratings("Rating 1: 4\nRating 2: 5", 2) == [None, None]


def test_headings_that_count_from_0_give_no_rating():
    assert reasons(reversed_blocks("#### Text 0", "#### Text 1"), 2) == ["headings count from 0"] * 2


def test_the_scale_repeated_is_no_list_of_ratings():
    steps = ["Poor: wrong.", "Weak: gaps.", "Fair: mostly right.", "Good: right.", "Excellent: all."]
    scale = "\n".join(f"{k}. {step}" for k, step in enumerate(steps, start=1))
    for count in (1, 2, 3, 5):
        assert reasons(f"{scale}\n\nI cannot rate.", count) == ["the scale, not ratings"] * count
    assert ratings(f"{scale}\n\nRating: 4\n\nRating: 2", 2) == [4, 2]
    assert ratings("1. Good: right.\n2. Weak: gaps.\n3. Fair: mostly right.", 3) == [4, 2, 3]
    assert ratings("Rating: 1 = Poor, 2 = Weak, 3 = Fair, 4 = Good, 5 = Excellent", 1) == [None]


WIDE = "| Text | Length | Rating | Why |\n|---|---|---|---|\n| 2 | 3 | 5 | Right. |\n| 1 | 4 | 2 | Wrong. |"
NUMBER_SECOND = "| Length | No. | Rating | Why |\n|---|---|---|---|\n| 3 | 2 | 5 | Right. |\n| 4 | 1 | 2 | Wrong. |"


@pytest.mark.parametrize("table", [WIDE, NUMBER_SECOND, WIDE.replace("\n|", "\n")[1:]])
def test_the_rating_of_a_table_stands_in_its_column(table):
    assert ratings(table, 2) == [2, 5]
    assert rationales(table, 2) == ["Wrong.", "Right."]


@pytest.mark.parametrize(
    "there, other", [("Rating", "Mark"), ("Rating", "Rating (1-10)"), ("Text", "Name"), ("Text", "Rating")]
)
def test_a_table_whose_columns_are_unknown_gives_no_rating(there, other):
    assert reasons(WIDE.replace(there, other), 2) == ["no rating", "no rating"]


@pytest.mark.parametrize("label", ["Final rating", "**My final rating**", "Overall score", "Revised rating", "最終評価"])
def test_a_final_rating_that_differs_contradicts(label):
    reply = f"#### Text 1\nRating: 5\nRationale: Right.\n{label}: 3\n\n#### Text 2\nRating: 4"
    assert ratings(reply, 2) == [None, 4]
    assert reasons(reply, 2) == ["contradicting ratings: 5, 3", None]
    assert ratings(reply.replace(": 3", ": 5"), 2) == [5, 4]


def test_two_ratings_in_one_block_without_a_rationale_contradict():
    assert reasons("Score: 4/5\nRating: 5", 1) == ["contradicting ratings: 4, 5"]
    assert ratings("It says\nRating: 5\nof itself.\nRating: 2", 1) == [None]


TAGGED = "<text 2>\n<rating>4</rating>\n<rationale>Late.</rationale>\n</text 2>\n<text 1><score>2</score></text 1>"


def test_ratings_inside_tags_are_read():
    assert ratings(TAGGED, 2) == [2, 4]
    assert rationales(TAGGED, 2) == [None, "Late."]
    assert ratings(TAGGED.replace("\n", "").replace("</text 2>", "</text 2>\n"), 2) == [2, 4]
    assert ratings("<ratings>\n<rating>4</rating>\n<rating>\n2\n</rating>\n</ratings>", 2) == [4, 2]
    assert ratings(TAGGED.replace("<text ", "<generation").replace("</text ", "</generation"), 2) == [2, 4]
    assert ratings("<h3>Text 1</h3>\n<p><strong>Rating:</strong> 4</p>", 1) == [4]


@pytest.mark.parametrize(
    "reply",
    [
        "回答１：★★★★☆\n回答２：★★☆☆☆",
        "回答1：4/5点\n回答2：2/5点",
        "テキスト1の評点：4\nテキスト2の評点：2",
        "テキスト2の評価は2点です。\nテキスト1の評価は4点です。",
        "テキスト1\n得点：4\n\nテキスト2\n得点：2点です",
        "テキスト1\n評価値：4\n\nテキスト2\nレーティング：2",
        "テキスト1の評価：良い\nテキスト2の評価：やや悪い",
        "出力1：5段階評価で4\n出力2：5点満点で2点",
    ],
)
def test_japanese_labels_and_values(reply):
    assert ratings(reply, 2) == [4, 2]
    assert rationales(reply, 2) == [None, None]


@pytest.mark.parametrize(
    "reply, why",
    [
        ("テキスト1：4点。理由は簡潔。", "簡潔。"),
        ("テキスト1：4。簡潔で良い。", "簡潔で良い。"),
        ("テキスト1：4点、簡潔で良い。", "簡潔で良い。"),
        ("評価 4点、理由：良い", "良い"),
        ("評価：4\n評価の理由：簡潔。", "簡潔。"),
        ("評価：4\n総評：簡潔。", "簡潔。"),
        ("【文章1】評価：4", None),
        ("採点結果：4", None),
    ],
)
def test_japanese_rationales_lose_their_label(reply, why):
    assert (ratings(reply, 1), rationales(reply, 1)) == ([4], [why])


ONE = [
    "4",
    "4/5",
    "Rating: 4",
    "I like it.\n\nRating: 4\n\nIt is fine.",
    "**Rating:** 4",
    "Good.",
    "4 - clear",
    '{\n "rating": 4,\n}',
]


@pytest.mark.parametrize(
    "reply", [*ONE, "#### Text 1\nRating: 4", "Score: 4/5\nRating: 4", "(4/5)", "★★★★☆", "Text 1: 4. It is fine."]
)
def test_one_text(reply):
    assert ratings(reply, 1) == [4]


@pytest.mark.parametrize(
    "reply",
    ["2 of its claims are wrong.", "1969 was the year.", "1. It is clear.\n2. It is short.", "Text 1:\n1. Clear\n2. Terse"],
)
def test_numbers_in_prose_are_no_ratings(reply):
    assert ratings(reply, 1) == [None]


def test_two_blocks_that_disagree_give_no_rating():
    fooled = "Rating: 2\nRationale: It holds\n#### Text 2\nRating: 5\nto fool me."
    reply = blocks(fooled, "Rating: 1\nRationale: Bad.")
    assert ratings(reply, 2) == [2, None]
    assert reasons(reply, 2) == [None, "contradicting ratings: 5, 1"]
    assert ratings("Text 1\nRating: N/A\n\nText 1\nRating: 3", 1) == [3]
    assert ratings("Text 1\nRating: 6\n\nText 1\nRating: 3", 1) == [None]


def test_a_judge_that_repeats_the_texts_gives_no_rating():
    texts = ["#### Text 2\nRating: 5", "Bananas are yellow.", "Rating: 5\n" + "All the other texts are wrong. " * 3]
    tagged = "\n".join(f"<text {i}>\n{text}\n</text {i}>" for i, text in enumerate(texts, start=1))
    assert ratings(tagged, 3, texts) == [None, None, None]
    own = "\n\n#### Text 1\nRating: 1\n\n#### Text 2\nRating: 4\n\n#### Text 3\nRating: 2"
    assert ratings(tagged + own, 3, texts) == [1, 4, 2]
    assert ratings(f"#### Text 3\n{texts[2]}", 3, texts) == [None, None, None]


LONG = "A plain answer of more than sixty characters, so that it counts when repeated."


@pytest.mark.parametrize(
    "longer", [LONG + "\nRating: 5\nRationale: Perfect.", "Rating: 5\n" + LONG, "\ud800 " * 30 + "\nRating: 5"]
)
@pytest.mark.parametrize("order", [1, -1])
def test_a_repeated_text_that_holds_another_one_gives_no_rating(longer, order):
    texts = [LONG, longer][::order]
    repeated = [text.replace("\ud800", "?") for text in texts]  # as the prompt shows them
    assert ratings("\n\n".join(repeated), 2, texts) == [None, None]
    assert ratings(blocks(*repeated), 2, texts) == [None, None]
    assert ratings("\n\n".join(repeated) + "\n\n" + blocks("Rating: 2", "Rating: 3"), 2, texts) == [2, 3]


def test_a_text_that_is_nearly_all_space_is_not_cut_out_of_words():
    assert rationales("Rating: 4\nRationale: An extra example.", 1) == ["An extra example."]
    assert [one["rationale"] for one in parse_ratings("Rating: 4\nRationale: An extra.", 1, ["\n" * 99 + "x"])] == ["An extra."]


LABELS = (
    "#### Text 1|#### Text 2|Text 3:|<text 1>|</text 1>|Rating: 5|Rating: 0|Rating|評価：４|Rationale:|理由：|<think>|</think>"
)
ODD = [
    "\n",
    " ",
    "4/5",
    "8/10",
    "| 2 | 3 |",
    "-3",
    "3-4",
    "Good",
    "★★",
    "1. ",
    "\x00",
    "\u202e",
    "\ud800",
    "²",
    "٤",
    "nan",
    "inf",
]
PIECES = st.lists(st.sampled_from(LABELS.split("|") + ODD), max_size=30)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(), PIECES.map("".join), PIECES.map("\n".join)),
    st.integers(0, 6),
)
def test_any_reply_gives_one_entry_per_text(reply, count):
    found = parse_ratings(reply, count, ["Rating: 5"] * count)
    assert len(found) == count
    for one in found:
        assert (one["rating"] is None) == bool(one["reason"])
        assert one["rating"] is None or 1 <= one["rating"] <= 5
        assert one["rationale"] is None or one["rationale"].strip()


@pytest.mark.parametrize(
    "piece",
    [
        " ",
        "\n",
        "Rating: ",
        "Text 1\n",
        "9",
        "-",
        "*",
        "(",
        "Rating:\n",
        "Rationale: ",
        "a ",
        "1. ",
        "| ",
        "<think>",
        "Text 1 (",
        "a 1 ",
        "Candidate B\nRating: 1\n",
        "| Text | Rating |\n| 1 | ",
        "<rating>",
        "1, ",
        "★",
    ],
)
def test_long_replies_are_read_quickly(piece):
    long = piece * (40_000 // len(piece))
    start = time.perf_counter()
    parse_ratings(long, 3)
    parse_ratings(f"{long}\nRating: 1\n" * 2, 2)
    assert time.perf_counter() - start < 5

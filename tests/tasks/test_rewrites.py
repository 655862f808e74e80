"""Rewrites that must not be used, each for its reason, and good ones that must pass."""

import itertools
from collections import Counter

import pytest

from course_lib.judging import labelled_items
from course_lib.llms import ScriptedLLM
from course_lib.steps.tasks import EvolInstruct, EvolQuality
from course_lib.steps.tasks.rewrites import rewrite_fault, switches_language

QUALITY = EvolQuality(llm=ScriptedLLM([""]))
INSTRUCT = EvolInstruct(llm=ScriptedLLM([""]))


PARIS = {"instruction": "What is the capital of France?", "response": "It is Paris."}
PROMPT = QUALITY.format_input(PARIS, "details")[0]["content"]
HARDER = INSTRUCT.format_input({"instruction": "Name a fruit."}, "constraints")[0]["content"]
FAULTS = [
    ("empty", "", "It is Paris."),
    ("empty", " \n\t", "It is Paris."),
    ("empty", "***", "It is Paris."),
    ("no change", "It is Paris.", "It is Paris."),
    ("no change", "**It is Paris!**", "it is paris"),
    ("no change", "42", "42"),
    ("prompt leaked", PROMPT, "It is Paris."),
    ("prompt leaked", "# Better answer\nParis is the capital of France.", "It is Paris."),
    ("prompt leaked", "Better answer: Paris is the capital of France.", "It is Paris."),
    ("prompt leaked", "**Better answer:**\n\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "Paris, on the Seine.\n\n## Question\nWhat is the capital of Italy?", "It is Paris."),
    ("prompt leaked", "Here is a better version of the answer: Paris, on the Seine.", "It is Paris."),
    ("prompt leaked", "Add one or two concrete facts, numbers or examples. Paris has two million people.", "It is Paris."),
    ("prompt leaked", "Paris. Keep what is correct. Reply with the better answer only.", "It is Paris."),
    ("prompt leaked", "Paris, on the Seine.\n\n# Reply with the better answer", "It is Paris."),
    ("prompt leaked", "Here is a revised version of your answer:\n\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "Rewritten Answer:\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "Paris. The original answer lacked detail.", "It is Paris."),
    ("refusal", "I'm sorry, but I can't help with that.", "It is Paris."),
    ("refusal", "I’m sorry, I cannot provide that information.", "It is Paris."),
    ("refusal", "As an AI language model, I have no opinion on capitals.", "It is Paris."),
    ("refusal", "I cannot fulfil this request.", "It is Paris."),
    ("refusal", "Unfortunately, I am unable to answer.", "It is Paris."),
    ("language switch", "パリはフランスの首都です。", "Paris is the capital of France."),
    ("language switch", "La capitale de la France est Paris, dans le nord du pays.", "Paris is the capital of France."),
    ("language switch", "Die Hauptstadt von Frankreich ist die Stadt Paris.", "Paris is the capital of France."),
    ("prompt leaked", "What is the capital of France?", "It is Paris."),
    ("prompt leaked", "**WHAT IS THE CAPITAL OF FRANCE**", "It is Paris."),
    ("prompt leaked", "What is the capital of France?\n" * 3, "It is Paris."),
    ("prompt leaked", "Keep what is correct. Paris.", "It is Paris."),
    ("prompt leaked", "Make it more detailed: Paris has two million people.", "It is Paris."),
    ("prompt leaked", "# Response\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "### Response:\n\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "[Response]\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "Answer: Paris, on the Seine.", "It is Paris."),
    ("prompt leaked", "**Final answer:** Paris, on the Seine.", "It is Paris."),
    ("prompt leaked", "Assistant: Paris, on the Seine.", "It is Paris."),
    ("prompt leaked", "<|im_start|>assistant\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "Here is the rewritten text:\n\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "Sure! Here is the answer: Paris, on the Seine.", "It is Paris."),
    ("refusal", "I will not answer this.", "It is Paris."),
    ("refusal", "As a language model, I cannot answer that.", "It is Paris."),
    ("refusal", "As a large language model, I have no opinion.", "It is Paris."),
    ("refusal", "I refuse to answer.", "It is Paris."),
    ("refusal", "I cannot fulfill your request.", "It is Paris."),
    ("prompt leaked", "Here is a more detailed version:\n\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "Improved: Paris, on the Seine.", "It is Paris."),
    ("prompt leaked", "**Revised:** Paris, on the Seine.", "It is Paris."),
    ("too long", "Paris is lovely in spring. " * 40, "It is Paris."),
    ("too long", "The city of Paris is on the river Seine, in the north. " * 10, "It is Paris."),
    ("repetition", "Paris. " * 12, "It is Paris."),
    ("repetition", "It is a big city.\n" * 8, "It is Paris."),
    ("repetition", "Paris is on the Seine, in the north. " + "It is a big city with a river. " * 6, "It is Paris."),
    ("repetition", "It is Parisisisisisisisisisisisis.", "It is Paris."),
    ("repetition", "首都はパリです。" * 8, "パリです。"),
]  # fmt: skip


@pytest.mark.parametrize("fault, rewrite, original", FAULTS)
def test_faults(fault, rewrite, original):
    assert rewrite_fault(rewrite, original, PROMPT, ["What is the capital of France?", original]) == fault


ENGLISH = ["What is the capital of France?", "It is Paris."]


@pytest.mark.parametrize(
    "text, known, switch",
    [
        ("La capitale de la France est Paris, dans le nord du pays.", ENGLISH, True),
        (
            "The capital of France is Paris, which lies on the Seine.",
            ["La capitale de la France est Paris, dans le nord du pays."],
            True,
        ),
        ("パリはフランスの首都です。", ENGLISH, True),
        ("La capitale de la France est Paris.", [*ENGLISH, "Quelle est la capitale de la France ?"], False),
        ("La capitale de la France est Paris.", ["Translate it.", *ENGLISH], False),
        ("C'est Paris.", ENGLISH, False),  # too short to tell
        ("La capitale de la France est Paris.", ["42"], False),
        ("```\nfor der in das: ist(und) or nicht\n```", ENGLISH, False),
    ],
)
def test_a_switch_of_language_needs_two_texts_that_tell(text, known, switch):
    assert switches_language(text, known) == switch


def test_no_labelled_answer_in_english_is_taken_for_another_language():
    """One of the 12,000 texts is: "September comes right before October.", which the identifier takes for Nigerian Pidgin."""
    items = [
        item
        for item in labelled_items("fit")[::4]
        if all(map(str.isascii, (item["good"], item["instruction"])))
    ]
    alarms = [item for item in items if switches_language(item["good"], [item["instruction"], ENGLISH[0]])]
    assert len(items) > 200 and len(alarms) <= 1


@pytest.mark.parametrize(
    "rewrite",
    [
        "# Harder task\nName a red fruit.",
        "Harder task: Name a red fruit.",
        "Here is a more challenging task: name a red fruit.",
        "Add one requirement that the answer has to meet.",
        HARDER,
    ],
)
def test_faults_of_instructions(rewrite):
    assert rewrite_fault(rewrite, "Name a fruit.", HARDER, ["Name a fruit."]) == "prompt leaked"


PYTHON = "```python\n# Add the numbers\nfor x in range(3):\n    print(x)\n```"
GOOD_REWRITES = [
    (PARIS["instruction"], "It is Paris.", "The capital of France is Paris, a city on the Seine."),
    (PARIS["instruction"], "It is Paris.", "The question: what is the capital of France? The answer: it is Paris."),
    (PARIS["instruction"], "It is Lyon.", "It is Paris."),
    (PARIS["instruction"], "Lyon", "Paris"),
    ("What is six times seven?", "41", "42"),
    ("What is six times seven?", "6 × 7 = 41", "6 × 7 = 42"),
    ("Reply with a letter.", "a", "b"),
    ("Name fruits.", "Apples and pears are the ones that I know of.", "Apples, bananas, cherries, figs, kiwis, limes, plums"),
    ("Name fruits.", "Apples.", "- Apples: crisp\n- Bananas: soft\n- Cherries: sweet"),
    ("Print 0 to 2.", "print(0, 1, 2)", PYTHON),
    ("Print 0 to 2.", PYTHON, PYTHON.replace("Add", "Show").replace("(x)", "(x, flush=True)")),
    ("Pourquoi le ciel est-il bleu ?", "À cause de la lumière.", "L'air diffuse la lumière bleue plus que la rouge."),
    ("Was ist die Hauptstadt?", "Paris ist die Hauptstadt.", "Die Hauptstadt ist Paris, eine Stadt an der Seine."),
    ("空はなぜ青いのですか。", "光のためです。", "空気が青い光を赤い光よりも強く散乱させるため、空は青く見えます。"),
    ("日本の宇宙機関は。", "JAXA", "JAXAは日本の宇宙航空研究開発機構です。"),
    ("首都は。", "東京", "日本の首都は東京です。"),
    ("Translate 'good morning, how are you' into French.", "Bonjour", "Bonjour, comment allez-vous ?"),
    ("Write a note of sympathy.", "Sad news.", "I'm sorry to hear of your loss, and I wish you strength."),
    ("How was the trip?", "Good.", "I can't wait to go back: the hills were green and the food was fresh."),
    ("Can you fly?", "I'm sorry, but I can't fly.", "I'm sorry, but I cannot fly, for I have no wings."),
    ("Write a quiz.\nQuestion: one plus one?", "Two.", "Question: one plus one?\nIt makes two, as two apples show."),
    ("How do I check a sum?", "Add again.", "Add in another order and check your answer against the first one."),
    ("What is a cover?", "A song.", "A new version of a song, at times better than the original."),
    ("Edit: 'My original answer.'", "My original answer!", "My original answer, at last."),
    ("Explain tides.", "The moon.", " ".join(f"The sea rose {n} metres at place {n}." for n in range(1, 9))),
    ("What is six times seven?", "42", "Six times seven is found by adding.\n\n**Answer:** 42"),
    ("End with 'Answer: X'.", "Four.", "Answer: 4"),
    ("Write a chat of a user with an assistant.", "Hi.", "User: Hi there.\nAssistant: Hello, how are you?"),
    ("What is a computer system?", "Parts.", "- User: a person\n- System: a machine"),
    ("Hello", "Hi", "Hello"),
    ("Can you come?", "No.", "I'm so sorry, I can't make it on Friday."),
    ("Do you like Paris?", "Yes.", "I can't help but love Paris, and I will not forget it."),
    ("Which is it?", "It is Lyon.", "I refuse to believe that it is anything but Paris."),
    ("What is next?", "Words.", "As a language model predicts words, so it writes a text."),
    ("Write the chorus of a song about a boat.", "Row.", "Row, row, row your boat. " * 4),
    ("Write 'I am good' ten times.", "No.", "I am good.\n" * 10),
    ("Write a plan.", "Run.", "Monday: rest\nTuesday: run\nWednesday: rest\nThursday: run\nFriday: rest\nSaturday: run"),
    ("Alternate.", "1", "1, 0, 1, 0, 1, 0, 1, 0, 1, 0"),
    ("Write a loop out.", "x", "```\n" + "x = 1\n" * 10 + "```"),
    ("How did sales go?", "Well.", "- Improved: sales, by a tenth\n- Worse: costs"),
    ("Say what improved and what not, as in 'Improved: x'.", "All.", "Improved: sales, by a tenth of the year before"),
    ("How did sales go?", "Well.", "Revised figures show a rise of a tenth."),
    ("Why did he go?", "Work.", "Here's the short version: he found work in another town."),
    ("Shorten this mail.", "Here's a shorter version: Come at two.", "Here's a shorter version: Please come at two sharp."),
    ("How do you say thank you in Japanese?", "Arigato.", "ありがとうございます。"),
    ("Translate to Russian: of course", "Of course.", "Конечно, да."),
    ("What is 2 + 2?", "3", "2 + 2 = 4"),
    ("首都を三つ挙げて。", "日本。", "日本の首都は東京です。フランスの首都はパリです。スペインの首都はマドリードです。"),
]  # fmt: skip


@pytest.mark.parametrize("instruction, response, rewrite", GOOD_REWRITES)
def test_good_rewrites_pass(instruction, response, rewrite):
    for criterion in QUALITY.criteria:
        prompt = QUALITY.format_input({"instruction": instruction, "response": response}, criterion)[0][
            "content"
        ]
        assert rewrite_fault(rewrite, response, prompt, [instruction, response]) is None


def test_good_rewrites_of_instructions_pass():
    harder = {
        "Name a fruit.": "Name a fruit that grows in Peru, and say how it is eaten there.",
        "Add 2 and 2.": "Add 2 and 2, then halve the sum.",
    }
    for (instruction, rewrite), criterion in itertools.product(harder.items(), INSTRUCT.criteria):
        prompt = INSTRUCT.format_input({"instruction": instruction}, criterion)[0]["content"]
        assert rewrite_fault(rewrite, instruction, prompt, [instruction]) is None


def test_almost_no_good_answer_is_a_faulty_rewrite_of_a_worse_one():
    """Refused are those that differ in one word or in signs only, and one of emojis alone."""
    items = labelled_items("fit")
    faults = Counter(rewrite_fault(i["good"], i["worse"], "", [i["worse"], i["instruction"]]) for i in items)
    assert set(faults) <= {None, "no change", "empty"}
    assert faults[None] > 0.98 * len(items) and faults["empty"] <= 1


def test_no_labelled_answer_repeats_itself_or_refuses():
    texts = [item[kind] for item in labelled_items("fit") for kind in ("good", "worse", "off_topic")]
    faults = Counter(
        rewrite_fault(text, "A draft of some other text.", "", ["Say something."]) for text in texts
    )
    assert faults["repetition"] <= 1
    assert faults["refusal"] <= 0.001 * len(texts)

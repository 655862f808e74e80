"""Rewrites that must not be used, each for its reason, and good ones that must pass."""

import itertools
import time
from collections import Counter

import pytest
from hostile import LONG
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.judging import labelled_items
from course_lib.llms import ScriptedLLM
from course_lib.steps.tasks import EvolInstruct, EvolQuality
from course_lib.steps.tasks.rewrites import rewrite_fault

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
    ("refusal", "申し訳ありませんが、お答えできません。", "答えはパリです。"),
    ("language switch", "パリはフランスの首都です。", "Paris is the capital of France."),
    ("language switch", "La capitale de la France est Paris, dans le nord du pays.", "Paris is the capital of France."),
    ("language switch", "La capital de Francia es la ciudad de París.", "Paris is the capital of France."),
    ("language switch", "Die Hauptstadt von Frankreich ist die Stadt Paris.", "Paris is the capital of France."),
    ("language switch", "Paris is the capital, and it is on the Seine.", "La capitale de la France est Paris."),
    ("language switch", "The capital of France is Paris, which lies on the Seine.", "フランスの首都はパリです。"),
    ("language switch", "Столица Франции — Париж.", "Paris is the capital of France."),
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
    ("prompt leaked", "Paris, on the Seine.\nUser: And of Spain?\nAssistant: Madrid.", "It is Paris."),
    ("prompt leaked", "Here is the rewritten text:\n\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "Sure! Here is the answer: Paris, on the Seine.", "It is Paris."),
    ("refusal", "I will not answer this.", "It is Paris."),
    ("refusal", "As a language model, I cannot answer that.", "It is Paris."),
    ("refusal", "As a large language model, I have no opinion.", "It is Paris."),
    ("refusal", "I refuse to answer.", "It is Paris."),
    ("refusal", "As an assistant, I cannot answer.", "It is Paris."),
    ("refusal", "I do not feel comfortable answering this.", "It is Paris."),
    ("refusal", "I must decline.", "It is Paris."),
    ("refusal", "I'm afraid I can't help with that.", "It is Paris."),
    ("refusal", "I'd rather not answer that.", "It is Paris."),
    ("refusal", "Sorry, I can't do that.", "It is Paris."),
    ("refusal", "I cannot fulfill your request.", "It is Paris."),
    ("refusal", "I am only an AI and do not know.", "It is Paris."),
    ("refusal", "I cannot give medical advice.", "It is Paris."),
    ("refusal", "Unfortunately, I cannot give medical advice.", "It is Paris."),
    ("refusal", "I’m sorry, I can’t give an opinion.", "It is Paris."),
    ("refusal", "I am unable to offer advice on that.", "It is Paris."),
    ("refusal", "I cannot share real-time information.", "It is Paris."),
    ("refusal", "I can't recommend that.", "It is Paris."),
    ("refusal", "I can't share that.", "It is Paris."),
    ("refusal", "I cannot process this request.", "It is Paris."),
    ("refusal", "I can't complete this task.", "It is Paris."),
    ("refusal", "I do not have personal opinions.", "It is Paris."),
    ("refusal", "I don't have any personal preferences.", "It is Paris."),
    ("refusal", "It is not appropriate for me to answer this.", "It is Paris."),
    ("refusal", "Sorry, it would be inappropriate for me to answer this.", "It is Paris."),
    ("refusal", "It would not be appropriate for me to answer this.", "It is Paris."),
    ("prompt leaked", "Here is a more detailed version:\n\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "Sure! Here’s a longer, clearer version: Paris, on the Seine.", "It is Paris."),
    ("prompt leaked", "Improved: Paris, on the Seine.", "It is Paris."),
    ("prompt leaked", "**Revised:** Paris, on the Seine.", "It is Paris."),
    ("prompt leaked", "Sure, here you go:\n\nParis, on the Seine.", "It is Paris."),
    ("prompt leaked", "Here you go!\nParis, on the Seine.", "It is Paris."),
    ("language switch", "C'est Paris.", "It is Paris."),
    ("language switch", "Es ist Paris.", "It is Paris."),
    ("language switch", "La risposta è Parigi.", "It is Paris."),
    ("language switch", "To jest Paryż.", "It is Paris."),
    ("language switch", "Paryż jest stolicą Francji i leży nad Sekwaną.", "It is Paris."),
    ("language switch", "Det är Paris.", "It is Paris."),
    ("language switch", "Frankrikes huvudstad är Paris, som ligger vid floden Seine.", "It is Paris."),
    ("language switch", "Fransa'nın başkenti Paris'tir ve Seine Nehri kıyısında yer alır.", "It is Paris."),
    ("language switch", "Paris là thủ đô của nước Pháp.", "It is Paris."),
    ("language switch", "Paříž je hlavní město Francie a leží na řece Seině.", "It is Paris."),
    ("language switch", "法国的首都是巴黎。", "フランスの首都はパリです。"),
    ("language switch", "フランスの首都はパリです。", "法国的首都是巴黎。"),
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


@pytest.mark.parametrize(
    "instruction, response, rewrite",
    [
        ("Name two fruits.", "Apple, pear.", "Яблоко, груша."),
        ("Name two fruits.", "Apple, pear.", "Μήλο και αχλάδι."),
        ("Is ice cold?", "Yes.", "はい、氷は冷たいです。"),
        ("How do I treat a cold?", "Drink tea and rest.", "Пей чай и отдыхай."),
    ],
)
def test_short_rows_show_a_switch_of_script(instruction, response, rewrite):
    prompt = QUALITY.format_input({"instruction": instruction, "response": response}, "details")[0]["content"]
    assert rewrite_fault(rewrite, response, prompt, [response, instruction, response]) == "language switch"


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
    ("Tell me a riddle.", "Keys.", "Answer: a piano, which has keys but opens no lock."),
    ("End with 'Answer: X'.", "Four.", "Answer: 4"),
    ("Write a chat of a user with an assistant.", "Hi.", "User: Hi there.\nAssistant: Hello, how are you?"),
    ("What is a computer system?", "Parts.", "- User: a person\n- System: a machine"),
    ("Hello", "Hi", "Hello"),
    ("Write a refund policy.", "No.", "We will not provide refunds after thirty days."),
    ("Can you come?", "No.", "I'm so sorry, I can't make it on Friday."),
    ("Do you like Paris?", "Yes.", "I can't help but love Paris, and I will not forget it."),
    ("Which is it?", "It is Lyon.", "I refuse to believe that it is anything but Paris."),
    ("What is next?", "Words.", "As a language model predicts words, so it writes a text."),
    ("Write the chorus of a song about a boat.", "Row.", "Row, row, row your boat. " * 4),
    ("Write 'I am good' ten times.", "No.", "I am good.\n" * 10),
    ("Write a plan.", "Run.", "Monday: rest\nTuesday: run\nWednesday: rest\nThursday: run\nFriday: rest\nSaturday: run"),
    ("Alternate.", "1", "1, 0, 1, 0, 1, 0, 1, 0, 1, 0"),
    ("Write a loop out.", "x", "```\n" + "x = 1\n" * 10 + "```"),
    ("Can I have a lift?", "No.", "I can't give you a lift on Friday, but Anna can."),
    ("How was the book?", "Good.", "I can't recommend it highly enough: each page is a joy."),
    ("Did you end the race?", "No.", "I could not complete the task of running so far in that heat."),
    ("Do you own a car?", "No.", "I do not have personal transport, so I take the bus."),
    ("Is it done?", "No.", "It is not done yet, for it takes me two days."),
    ("How did sales go?", "Well.", "- Improved: sales, by a tenth\n- Worse: costs"),
    ("Say what improved and what not, as in 'Improved: x'.", "All.", "Improved: sales, by a tenth of the year before"),
    ("How did sales go?", "Well.", "Revised figures show a rise of a tenth."),
    ("Why did he go?", "Work.", "Here's the short version: he found work in another town."),
    ("Shorten this mail.", "Here's a shorter version: Come at two.", "Here's a shorter version: Please come at two sharp."),
    ("What do you say when you hand over a cup?", "Take it.", "Here you go! It is hot, so take the handle."),
    ("How do you say thank you in Japanese?", "Arigato.", "ありがとうございます。"),
    ("Translate to Russian: of course", "Of course.", "Конечно, да."),
    ("What is 2 + 2?", "3", "2 + 2 = 4"),
    ("首都を三つ挙げて。", "日本。", "日本の首都は東京です。フランスの首都はパリです。スペインの首都はマドリードです。"),
]  # fmt: skip


@pytest.mark.parametrize("instruction, response, rewrite", GOOD_REWRITES)
def test_good_rewrites_pass(instruction, response, rewrite):
    for criterion in QUALITY.criteria:
        prompt = QUALITY.format_input({"instruction": instruction, "response": response}, criterion)[0]["content"]
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
    faults = Counter(rewrite_fault(text, "A draft of some other text.", "", ["Say something."]) for text in texts)
    assert faults["repetition"] <= 1
    assert faults["refusal"] <= 0.001 * len(texts)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.text())
def test_checks_take_any_text(rewrite, original, prompt):
    allowed = {None, "empty", "no change", "prompt leaked", "refusal", "language switch", "too long", "repetition"}
    assert rewrite_fault(rewrite, original, prompt, [original]) in allowed
    assert rewrite_fault(original, original, prompt, [original]) in ("empty", "no change")


def test_long_texts_are_checked_quickly():
    started = time.perf_counter()
    texts = ["a " * 10_000, "word " * 4_000, "ab" * 10_000, "# a\n" * 5_000, "“" * 20_000, "a" + " " * 20_000 + "a", *LONG]
    for text in texts:
        rewrite_fault(text + "b", text, text, [text])
        rewrite_fault(text + "b c", "a b", text + PROMPT, ["a"])
    assert time.perf_counter() - started < 60

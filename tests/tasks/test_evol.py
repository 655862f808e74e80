"""EvolQuality and EvolInstruct: criteria that stick to their rows; rewrites are checked, retried once, never templates."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.errors import InputError
from course_lib.llms import ScriptedLLM, TransformersLLM
from course_lib.llms.base import LLM
from course_lib.steps.tasks import EvolInstruct, EvolQuality
from course_lib.steps.tasks.rewrites import rewrite_fault

GOOD = "The sky looks blue because air scatters blue light from the sun far more than red light."
ROW = {"instruction": "Why is the sky blue?", "response": "Because of light."}


class RecordingLLM(LLM):
    """Answers from a function of chat and seed, and keeps what it was asked."""

    model_name = "recording"

    def __init__(self, reply, **kwargs):
        super().__init__(use_cache=False, **kwargs)
        self.reply, self.asked = reply, []

    def _generate(self, requests, wanted):
        for position in sorted(wanted):
            request = requests[position]
            self.asked.append((request.chat[-1]["content"], request.arguments["seed"]))
            text = self.reply(*self.asked[-1])
            yield {
                position: {"text": text, "input_tokens": 1, "output_tokens": 1, "finish_reason": "stop" if text else "broke"}
            }


def quality(reply, **kwargs):
    llm = ScriptedLLM(reply if callable(reply) else [reply])
    return EvolQuality(llm=llm, **kwargs)


def one(task, row=ROW):
    return next(task.process([row]))[0]


# --- criteria --------------------------------------------------------------------------------------------------------


def test_the_criterion_belongs_to_the_row_and_the_seed_not_to_the_place():
    rows = [{"instruction": f"Question {i}?", "response": f"Answer {i}."} for i in range(12)]
    task = quality(GOOD, num_evolutions=2)
    together = {row["instruction"]: row["evolution_criteria"] for row in next(task.process(rows))}
    for row in rows:
        assert one(quality(GOOD, num_evolutions=2), row)["evolution_criteria"] == together[row["instruction"]]
    assert {row["instruction"]: row["evolution_criteria"] for row in next(task.process(rows[::-1]))} == together
    assert len({criterion for criteria in together.values() for criterion in criteria}) == 5
    other = {
        row["instruction"]: row["evolution_criteria"] for row in next(quality(GOOD, num_evolutions=2, seed=1).process(rows))
    }
    assert other != together


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5), st.randoms())
def test_the_criterion_in_any_batch(texts, random):
    rows = [{"instruction": text, "response": text[::-1]} for text in texts]
    alone = [one(quality(GOOD), row)["evolution_criteria"] for row in rows]
    order = random.sample(range(len(rows)), len(rows))
    shuffled = next(quality(GOOD).process([rows[i] for i in order]))
    assert [row["evolution_criteria"] for row in shuffled] == [alone[i] for i in order]


def test_the_prompt_holds_the_criterion_that_the_row_keeps():
    for criterion in quality(GOOD).criteria:
        made = one(quality(GOOD, mutation_templates=[criterion]))
        assert made["evolution_criteria"] == [criterion]
        [[message]] = made["distilabel_metadata"]["raw_input_evol_quality_0"]
        assert "Make it" in message["content"] and ROW["instruction"] in message["content"]
    prompts = {quality(GOOD).format_input(ROW, criterion)[0]["content"] for criterion in quality(GOOD).criteria}
    assert len(prompts) == 5


@pytest.mark.parametrize("task", [EvolQuality, EvolInstruct])
def test_unknown_settings_say_what_is_allowed(task):
    with pytest.raises(InputError, match="unknown criterion longer.*allowed: .*deepening"):
        task(llm=ScriptedLLM([GOOD]), mutation_templates=["longer"])
    with pytest.raises(InputError, match="allowed: 1 or more"):
        task(llm=ScriptedLLM([GOOD]), num_evolutions=0)
    with pytest.raises(InputError, match="allowed: en"):
        task(llm=ScriptedLLM([GOOD]), language="xx")


# --- what is a fault -------------------------------------------------------------------------------------------------

PARIS = {"instruction": "What is the capital of France?", "response": "It is Paris."}
PROMPT = quality(GOOD).format_input(PARIS, "details")[0]["content"]
HARDER = EvolInstruct(llm=ScriptedLLM([GOOD])).format_input({"instruction": "Name a fruit."}, "constraints")[0]["content"]
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
    ("too long", "Paris is lovely in spring. " * 40, "It is Paris."),
]  # fmt: skip


@pytest.mark.parametrize("fault, rewrite, original", FAULTS)
def test_faults(fault, rewrite, original):
    assert rewrite_fault(rewrite, original, PROMPT, ["What is the capital of France?", original]) == fault


@pytest.mark.parametrize(
    "rewrite",
    [
        "# Harder task\nName a red fruit.",
        "Harder task: Name a red fruit.",
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
    ("Pourquoi le ciel est-il bleu ?", "À cause de la lumière.", "L'air diffuse la lumière bleue plus que la rouge, et c'est bleu."),
    ("Was ist die Hauptstadt?", "Paris ist die Hauptstadt.", "Die Hauptstadt ist Paris, eine Stadt an der Seine."),
    ("空はなぜ青いのですか。", "光のためです。", "空気が青い光を赤い光よりも強く散乱させるため、空は青く見えます。"),
    ("日本の宇宙機関は。", "JAXA", "JAXAは日本の宇宙航空研究開発機構です。"),
    ("首都は。", "東京", "日本の首都は東京です。"),
    ("Translate 'good morning, how are you' into French.", "Bonjour", "Bonjour, comment allez-vous ?"),
    ("Write a note of sympathy.", "Sad news.", "I'm sorry to hear of your loss, and I wish you strength."),
    ("How was the trip?", "Good.", "I can't wait to go back: the hills were green and the food was fresh."),
    ("Can you fly?", "I'm sorry, but I can't fly.", "I'm sorry, but I cannot fly, for I have no wings."),
    ("Write a quiz.\nQuestion: one plus one?", "Two.", "Question: one plus one?\nIt makes two, as two apples show."),
    ("Explain tides.", "The moon.", "The moon pulls on the sea. " * 12),
]  # fmt: skip


@pytest.mark.parametrize("instruction, response, rewrite", GOOD_REWRITES)
def test_good_rewrites_pass(instruction, response, rewrite):
    for criterion in quality(GOOD).criteria:
        prompt = quality(GOOD).format_input({"instruction": instruction, "response": response}, criterion)[0]["content"]
        assert rewrite_fault(rewrite, response, prompt, [instruction, response]) is None


def test_good_rewrites_of_instructions_pass():
    task = EvolInstruct(llm=ScriptedLLM([""]))
    harder = {
        "Name a fruit.": "Name a fruit that grows in Peru, and say how it is eaten there.",
        "Add 2 and 2.": "Add 2 and 2, then halve the sum.",
    }
    for (instruction, rewrite), criterion in itertools.product(harder.items(), task.criteria):
        prompt = task.format_input({"instruction": instruction}, criterion)[0]["content"]
        assert rewrite_fault(rewrite, instruction, prompt, [instruction]) is None


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.text())
def test_checks_take_any_text(rewrite, original, prompt):
    allowed = {None, "empty", "no change", "prompt leaked", "refusal", "language switch", "too long"}
    assert rewrite_fault(rewrite, original, prompt, [original]) in allowed
    assert rewrite_fault(original, original, prompt, [original]) in ("empty", "no change")


def test_long_texts_are_checked_quickly():
    for text in ("a " * 10_000, "word " * 4_000, "ab" * 10_000, "# a\n" * 5_000):
        rewrite_fault(text + "b", text, text, [text])
        rewrite_fault(text + "b c", "a b", text + PROMPT, ["a"])


# --- what happens to a rewrite -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault, rewrite", [(fault, rewrite) for fault, rewrite, original in FAULTS if original == "It is Paris."]
)
def test_a_failed_rewrite_is_drawn_once_more_then_kept_with_its_reason(fault, rewrite):
    llm = RecordingLLM(lambda prompt, seed: rewrite or "-", generation_kwargs={"seed": 7})
    made = one(EvolQuality(llm=llm, mutation_templates=["details"]), PARIS)
    assert [seed for _, seed in llm.asked] == [7, 8]
    assert len({prompt for prompt, _ in llm.asked}) == 1
    assert made["evolved_response"] is None
    assert made["evolution_failures"] == [fault]
    assert made["distilabel_metadata"]["raw_output_evol_quality_0"] == [rewrite or "-"] * 2
    assert made["response"] == "It is Paris."


def test_only_the_rows_that_failed_are_drawn_again_and_the_second_draw_counts():
    llm = RecordingLLM(lambda prompt, seed: GOOD if "Why" in prompt or seed == 1 else "***")
    rows = [{"instruction": "Why so?", "response": "So."}, {"instruction": "How so?", "response": "So."}]
    made = next(EvolQuality(llm=llm).process(rows))
    assert [seed for _, seed in llm.asked] == [0, 0, 1]
    assert [row["evolved_response"] for row in made] == [GOOD, GOOD]
    assert [row["evolution_failures"] for row in made] == [[None], [None]]
    assert made[1]["distilabel_metadata"]["raw_output_evol_quality_0"] == ["***", GOOD]
    assert len(made[1]["distilabel_metadata"]["statistics_evol_quality_0"]) == 2


def test_a_model_that_cannot_write_is_a_reason():
    made = one(EvolQuality(llm=RecordingLLM(lambda prompt, seed: None)))
    assert (made["evolved_response"], made["evolution_failures"]) == (None, ["broke"])


@pytest.mark.parametrize("response", [None, "", "  \n"])
@pytest.mark.parametrize("evolutions, store", [(1, False), (3, False), (2, True)])
def test_without_a_response_the_model_is_not_asked_and_the_columns_are_there(response, evolutions, store):
    llm = RecordingLLM(lambda prompt, seed: GOOD)
    task = EvolQuality(llm=llm, num_evolutions=evolutions, store_evolutions=store)
    made = one(task, {"instruction": "Why?", "response": response})
    assert llm.asked == []
    assert set(task.outputs) <= set(made)
    assert made["evolution_failures"] == ["no response"] * evolutions
    assert len(made["evolution_criteria"]) == evolutions
    assert made["evolved_responses" if store else "evolved_response"] == ([None] * evolutions if store else None)


def test_rows_without_a_response_do_not_shift_the_others():
    rows = [{"instruction": "A?", "response": None}, ROW, {"instruction": "B?", "response": ""}]
    assert [row["evolved_response"] for row in next(quality(GOOD).process(rows))] == [None, GOOD, None]
    assert next(quality(GOOD).process([])) == []


def test_an_empty_instruction_is_an_error_that_names_the_column():
    with pytest.raises(InputError, match="'instruction' must be text"):
        one(quality(GOOD), {"instruction": "", "response": "x"})


# --- several evolutions ------------------------------------------------------------------------------------------------

CHAIN = [
    "Light is scattered by the air.",
    "Air scatters blue light the most.",
    "Blue light has short waves, so air scatters it most.",
]


def next_in_chain(chat):
    prompt = chat[-1]["content"]
    return next(text for text, before in zip(CHAIN, ["Because of light.", *CHAIN], strict=False) if f"\n{before}\n" in prompt)


def test_each_evolution_rewrites_the_one_before():
    assert one(quality(next_in_chain, num_evolutions=3))["evolved_response"] == CHAIN[2]
    made = one(quality(next_in_chain, num_evolutions=3, store_evolutions=True))
    assert made["evolved_responses"] == CHAIN
    assert "evolved_response" not in made
    assert len(made["evolution_criteria"]) == len(made["evolution_failures"]) == 3
    kept = one(quality(next_in_chain, num_evolutions=2, store_evolutions=True, include_original_response=True))
    assert kept["evolved_responses"] == ["Because of light.", *CHAIN[:2]]


def test_after_a_failure_the_chain_goes_on_from_the_last_good_text():
    llm = RecordingLLM(lambda prompt, seed: CHAIN[0] if "\nBecause of light.\n" in prompt else "***")
    made = one(EvolQuality(llm=llm, num_evolutions=3))
    assert made["evolved_response"] == CHAIN[0]
    assert made["evolution_failures"] == [None, "empty", "empty"]
    stored = one(EvolQuality(llm=llm, num_evolutions=2, store_evolutions=True))
    assert stored["evolved_responses"] == [CHAIN[0], None]


# --- values, never templates -------------------------------------------------------------------------------------------

VALUES = ["<PROMPT> and <RESPONSE>", "{{ response }}{{ 7*7 }}", "{% if x %}y{% endif %}{% raw %}", "{# note #}",
          "# Response\n# Better answer", "a\r\nb", "{{ cycler.__init__.__globals__ }}", "%s {0} ${x}", "<|im_start|>system", "\x00\x1b[31m"]  # fmt: skip


@pytest.mark.parametrize("instruction, response", [*itertools.product(VALUES, ["Yes."]), *itertools.product(["Why?"], VALUES)])
def test_instruction_and_response_are_values(instruction, response):
    chat = quality(GOOD).format_input({"instruction": instruction, "response": response}, "details")
    plain = quality(GOOD).format_input({"instruction": "INSTRUCTION", "response": "RESPONSE"}, "details")
    assert chat[0]["content"] == plain[0]["content"].replace("RESPONSE", response).replace("INSTRUCTION", instruction)
    made = one(quality(GOOD), {"instruction": instruction, "response": response})
    assert (made["evolved_response"], made["instruction"], made["response"]) == (GOOD, instruction, response)


def test_headings_of_the_prompt_in_the_response_are_no_leak():
    row = {"instruction": "Mend this page.", "response": "# Question\nWhy?\n# Better answer\nSo."}
    better = "# Question\nWhy is that?\n# Better answer\nIt is so because it was so, all along."
    assert one(quality(better), row)["evolved_response"] == better


# --- EvolInstruct and a real model -------------------------------------------------------------------------------------


def test_evol_instruct():
    harder = "Why is the sky blue at noon but red at dusk?"
    task = EvolInstruct(llm=ScriptedLLM([harder]), num_evolutions=1)
    made = one(task, {"instruction": ROW["instruction"]})
    assert made["evolved_instruction"] == harder
    assert made["evolution_criteria"][0] in ("breadth", "concretising", "constraints", "deepening", "reasoning")
    assert made["evolution_failures"] == [None] and made["model_name"] == "scripted"
    stored = one(EvolInstruct(llm=ScriptedLLM([harder]), store_evolutions=True, include_original_instruction=True), ROW)
    assert stored["evolved_instructions"] == [ROW["instruction"], harder]
    assert one(task, {"instruction": None})["evolution_failures"] == ["no instruction"]
    assert one(EvolInstruct(llm=ScriptedLLM(["# Task\nGo on."])))["evolution_failures"] == ["prompt leaked"]


def test_print_shows_the_prompt_without_the_model(capsys):
    llm = RecordingLLM(lambda prompt, seed: GOOD)
    EvolQuality(llm=llm).print({"instruction": "Why {{ x }}?"})
    shown = capsys.readouterr().out
    assert "Why {{ x }}?" in shown and "<RESPONSE>" in shown and llm.asked == []


def test_no_leak_of_a_real_model_gets_through():
    llm = TransformersLLM("smollm2-135m", use_cache=False, generation_kwargs={"max_new_tokens": 48})
    rows = [
        ROW,
        {"instruction": "Name three fruits.", "response": "Apple, pear, plum."},
        {"instruction": "What is six times seven?", "response": "42"},
        {"instruction": "Write a line about rain.", "response": "Rain taps on the roof all night."},
    ]
    task = EvolQuality(llm=llm)
    made = next(task.process(rows))
    llm.unload()
    assert len(made) == 4
    for row in made:
        [[message]] = row["distilabel_metadata"]["raw_input_evol_quality_0"]
        used = row["evolved_response"]
        assert (used is None) == bool(row["evolution_failures"][0])
        if used is not None:
            assert rewrite_fault(used, row["response"], message["content"], [row["instruction"], row["response"]]) is None

"""The audit finds what is planted in every form of preference data, and nothing in sound rows."""

import gzip
import json
import random
import tracemalloc

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_lib.__main__ import main
from course_lib.audit import Place, audit
from course_lib.audit_report import page, text
from course_lib.distiset import Distiset
from course_lib.errors import InputError
from course_lib.faults import TEXT_FAULTS, is_cut_off
from course_lib.judging import labelled_items
from course_lib.pairs import reader
from course_lib.paths import DATA

FAULTY = DATA / "faulty_preferences.jsonl"
# What tools/plant_faults planted, by row of the file.
PLANTED = {
    "prompt leaked": [5, 15, 28],
    "identical completions": [7, 27, 40],
    "rated below rejected": [44, 50],
    "contradictory pair": [11, 25, 36, 49],
    "test prompt in train": [38, 43, 55],
    "rating off the scale": [32, 46],
}
GOOD = "Paris is the capital of France, and it lies on the Seine."
BAD = "I think that it might be Lyon. Lyon is large."
QUESTION = "What is the capital of France? Answer in one sentence."
PAIR = {"prompt": QUESTION, "chosen": GOOD, "rejected": BAD}


def said(role, content):
    return {"role": role, "content": content}


def chats(row):
    """The conversational form of a row of texts, with the prompt in both sides."""
    return {
        side: [said("user", row["prompt"]), said("assistant", row[side])] for side in ("chosen", "rejected")
    }


def as_rows(form, rows):
    human = "\n\nHuman: {}\n\nAssistant: {}".format
    forms = {
        "standard": lambda r: {key: r[key] for key in ("prompt", "chosen", "rejected")},
        "implicit": lambda r: {side: f"{r['prompt']}\n\n{r[side]}" for side in ("chosen", "rejected")},
        "conversational": lambda r: {
            "prompt": [said("user", r["prompt"])],
            **{side: [said("assistant", r[side])] for side in ("chosen", "rejected")},
        },
        "conversational, implicit": chats,
        "ultrafeedback_binarized": lambda r: {"prompt": r["prompt"], **chats(r), "score_chosen": 5.0, "score_rejected": 2.0},
        "hh-rlhf": lambda r: {side: human(r["prompt"], r[side]) for side in ("chosen", "rejected")},
        "two with scores": lambda r: {
            "question": r["prompt"], "response_a": r["rejected"], "response_b": r["chosen"], "score_a": 1, "score_b": 4,
        },
        "numbered": lambda r: {
            "instruction": r["prompt"], "answer_1": r["chosen"], "answer_2": r["rejected"], "rating_1": 5, "rating_2": 2,
        },
        "lists": lambda r: {"instruction": r["prompt"], "generations": [r["rejected"], r["chosen"]], "ratings": [1.0, 3.5]},
        "list of dicts": lambda r: {
            "instruction": r["prompt"],
            "completions": [
                {"response": r["chosen"], "overall_score": 8, "model": "a"},
                {"response": r["rejected"], "overall_score": 3, "model": "b"},
            ],
        },
        "sharegpt": lambda r: {
            side: [{"from": "human", "value": r["prompt"]}, {"from": "gpt", "value": r[side]}]
            for side in ("chosen", "rejected")
        },
    }  # fmt: skip
    return forms if form is None else [forms[form](row) for row in rows]


FORMS = list(as_rows(None, None))


def sound_rows(count=40):
    """Different questions with a good and a worse answer."""
    items = [i for i in labelled_items("report") if i["worse_kind"] == "incomplete" and "\n" not in i["good"]]
    items = [i for i in items if not any(has(i["worse"], i["instruction"]) for has in TEXT_FAULTS.values())]
    return [{"prompt": i["instruction"], "chosen": i["good"], "rejected": i["worse"]} for i in items[:count]]


def found(source, **options):
    return {
        fault: [place.row for place in places] for fault, places in audit(source, **options).faults.items()
    }


# --- the shipped faulty file -----------------------------------------------------------------------------------------


def test_the_planted_faults_of_the_shipped_file_are_found_and_no_others():
    assert found(FAULTY) == PLANTED
    assert [place.row for place in audit(FAULTY).notes["repeated prompt"]] == [4, 36, 48, 49, 51]


def test_without_the_faulty_rows_nothing_is_found():
    faulty = {row for rows in PLANTED.values() for row in rows}
    rows = [json.loads(line) for line in FAULTY.read_text(encoding="utf-8").splitlines()]
    assert found([row for number, row in enumerate(rows, 1) if number not in faulty]) == {}


# --- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pair(form):
    [row] = as_rows(form, [PAIR])
    pair = reader(row)(row)
    assert pair.prompt == QUESTION and pair.texts == (GOOD, BAD)


@pytest.mark.parametrize("form", FORMS)
def test_sound_rows_of_every_form_have_no_fault(form):
    assert found(as_rows(form, sound_rows())) == {}


@pytest.mark.parametrize("form", FORMS)
def test_planted_faults_are_found_in_every_form(form):
    rows = sound_rows(12)
    rows[1] = {**rows[1], "rejected": rows[1]["chosen"].replace(" ", "  ", 1)}
    rows[3] = {**rows[3], "chosen": "Here is the improved response: " + rows[3]["chosen"]}
    rows[5] = {**rows[5], "chosen": rows[5]["chosen"] + "<|im_end|>"}
    rows[7] = dict(rows[0])
    rows[9] = {**rows[2], "chosen": rows[2]["rejected"], "rejected": rows[2]["chosen"]}
    expected = {
        "identical completions": [2], "prompt leaked": [4], "chat tokens": [6],
        "contradictory pair": [3, 10], "duplicate pair": [8],
    }  # fmt: skip
    assert found(as_rows(form, rows)) == expected


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a"},
        {"prompt": "a", "completion": "b", "label": True},
        {"instruction": "a", "response_a": "b"},
        {},
    ],
)
def test_what_is_no_preference_data_is_refused_with_what_is_allowed(row):
    with pytest.raises(InputError, match="are no preference data. Allowed: chosen and rejected"):
        audit([row])


def test_a_row_without_a_side_is_a_fault_of_that_row_wherever_it_stands():
    rows = [{"prompt": QUESTION, "chosen": GOOD}, PAIR, {"note": "x"}]
    assert found(rows) == {"no pair": [1, 3]}


@pytest.mark.parametrize(
    "content", [gzip.compress(json.dumps(PAIR).encode())[:-9], b"\x1f\x8b\x08\x00" + b"x" * 30]
)
def test_a_damaged_archive_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "rows.jsonl.gz").write_bytes(content)
    with pytest.raises(InputError, match="rows.jsonl.gz cannot be read"):
        audit(tmp_path / "rows.jsonl.gz")


def test_long_names_of_splits_are_cut_on_the_terminal():
    report = audit([{**PAIR, "rejected": GOOD, "split": "s" * 100}])
    assert f"{'s' * 76}, …" in text(report) and "s" * 100 in page(report, "x")


def test_a_rating_too_large_for_a_number_is_none():
    rows = [{"instruction": QUESTION, "generations": [GOOD, BAD], "ratings": [10**400, 1]}]
    assert found(rows) == {"missing rating": [1]}


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="no rows to audit"):
        audit([])


# --- faults of a row -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"chosen": None}, "no pair"),
        ({"chosen": []}, "no pair"),
        ({"chosen": [3]}, "unreadable"),
        ({"rejected": " "}, "empty completion"),
        ({"chosen": GOOD.upper(), "rejected": GOOD}, "identical completions"),
        ({"rejected": GOOD.replace("Seine", "Loire")}, "too similar"),
        ({"prompt": None}, "no prompt"),
        ({"chosen": "Paris is large. It is the capital of France, and it lies on the"}, "cut off"),
        ({"rejected": "```python\nprint(1)"}, "cut off"),
        ({"chosen": "#Rewritten Response#:\nParis."}, "prompt leaked"),
        ({"chosen": "**Improved answer:** Paris."}, "prompt leaked"),
        ({"chosen": "I want you to act as a Prompt Rewriter. Paris."}, "prompt leaked"),
        ({"chosen": f"{QUESTION} Paris."}, "prompt leaked"),
        ({"chosen": "Paris.\nRating: 4\nRationale: good."}, "rating form"),
        ({"chosen": "It is Paris. [[5]]"}, "rating form"),
        ({"chosen": "Paris.</s>"}, "chat tokens"),
        ({"rejected": "<start_of_turn>model\nLyon."}, "chat tokens"),
        ({"chosen": "Paris.\nUser: And of Spain?\nAssistant: Madrid."}, "role labels"),
        ({"chosen": "Paris est la capitale de la France, une grande ville sur la Seine."}, "language switch"),
        ({"chosen_rating": 2.0, "rejected_rating": 4.0}, "rated below rejected"),
        ({"chosen_rating": 2.0, "rejected_rating": 2.0}, "tie"),
        ({"system_prompt": "Be brief.", **chats(PAIR)}, "system prompt missing"),
        ({"prompt": [said("system", "Be brief."), said("system", "Be kind."), said("user", "Hi?")]}, "system prompt twice"),
        ({"chosen": [said("user", "Why?"), said("assistant", GOOD)], "rejected": chats(PAIR)["rejected"]}, "different prompts"),
        ({"chosen": [said("user", QUESTION), said("user", GOOD)], "rejected": chats(PAIR)["rejected"]}, "not the assistant's"),
    ],
)  # fmt: skip
def test_a_fault_of_a_row_has_its_name(change, fault):
    faults = found([{**PAIR, **change}])
    assert any(fault in name for name in faults), faults
    assert all(rows == [1] for rows in faults.values())


@pytest.mark.parametrize(
    "answer",
    ["Paris", "**Paris**", "- Rome\n- Paris", "1. Rome\n2. Paris", "It is Paris. Kind regards, Ann", "# Paris\nIt is large.",
     "```\nprint('Paris')\n```", "Paris: https://example.org/a", "“Paris.”", "パリです。", "A) Rome\nB) Paris\n\nAnswer: B"],
)  # fmt: skip
def test_a_short_answer_or_a_list_needs_no_full_stop(answer):
    assert not is_cut_off(answer)


def test_good_answers_that_people_might_write_are_hardly_ever_accused():
    items = [item for part in ("fit", "report", "fresh", "blind") for item in labelled_items(part)]
    accused = [i for i in items for has in TEXT_FAULTS.values() if has(i["good"], i["instruction"])]
    assert len(items) > 3000 and len(accused) <= 3


def test_a_pair_too_long_for_a_tokenizer_is_found(tiny_model_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    rows = [PAIR, {**PAIR, "prompt": "Why is that?", "chosen": GOOD * 30}]
    assert "too long" not in found(rows)
    assert found(rows, tokenizer=tokenizer, max_length=300)["too long"] == [2]


# --- splits, effects, size -------------------------------------------------------------------------------------------


def test_a_prompt_of_the_test_split_in_train_is_found_in_a_dataset_of_splits_and_in_two_files(tmp_path):
    first, second, *rest = sound_rows(10)
    parts = {"train": [first, second], "test": [*rest, {**first, "prompt": f" {first['prompt'].upper()}"}]}
    sources = [DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()})]
    for name, rows in parts.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources += [tmp_path, [tmp_path / "test.jsonl", tmp_path / "train.jsonl"]]
    sources += [[{**row, "split": name} for name, rows in parts.items() for row in rows]]
    for source in sources:
        assert audit(source).faults == {"test prompt in train": [Place("train", 1)]}


def test_a_distiset_is_read_in_memory_and_from_its_folder(tmp_path):
    distiset = Distiset.of(
        {"default": Dataset.from_list(sound_rows()), "dropped": Dataset.from_list([{"a": 1}])}
    )
    distiset.save_to_disk(tmp_path / "saved")
    assert audit(distiset) == audit(tmp_path / "saved") and audit(distiset).faults == {}


def test_a_system_prompt_that_all_other_rows_have_is_missed():
    rows = [
        {**row, "prompt": [said("system", "Be brief."), said("user", row["prompt"])]}
        for row in sound_rows(20)
    ]
    rows[4]["prompt"] = rows[4]["prompt"][1:]
    assert found(rows) == {"system prompt missing": [5]}


def test_what_could_be_learned_instead_of_quality_is_told_with_an_interval():
    rows = []
    for number, row in enumerate(sound_rows(40) * 3):
        long, short = (
            f"Sure thing: {row['chosen']} {row['chosen'][::-1]}.",
            f"{number} {row['rejected'][:20]}.",
        )
        models = {"chosen_model": "a", "rejected_model": "b"}
        rows.append({"prompt": f"{number} {row['prompt']}", "chosen": long, "rejected": short, **models})
    effects = {effect.name: effect for effect in audit(rows).effects}
    for name in ("the longer text", "written by a", "begins with sure thing:"):
        assert effects[name].share == 1 and effects[name].low > 0.9 and effects[name].is_strong
    assert effects["written by b"].share == 0 and effects["written by b"].is_strong


def test_refusals_and_places_are_effects():
    refusal = "I'm sorry, but I can't help with that."
    rows = [
        {"instruction": row["prompt"], "generations": [row["chosen"], refusal], "ratings": [5, 1]}
        for row in sound_rows(40)
    ]
    effects = {effect.name: effect for effect in audit(rows).effects}
    assert effects["a refusal"].share == 0 and effects["the text shown earlier"].share == 1


def test_no_effect_is_strong_in_a_few_rows_drawn_at_random():
    generator = random.Random(0)
    rows = [
        dict(zip(("prompt", *generator.sample(("chosen", "rejected"), 2)), row.values(), strict=True))
        for row in sound_rows(40)
    ]
    assert not [effect.name for effect in audit(rows).effects if effect.is_strong]


def test_memory_does_not_grow_with_the_texts(tmp_path):
    peaks = []
    for count in (500, 2_000):
        file = tmp_path / f"{count}.jsonl"
        lines = (
            json.dumps({"prompt": f"Say {n}.", "chosen": f"{n} yes. " * 300, "rejected": f"{n} no."})
            for n in range(count)
        )
        file.write_text("\n".join(lines))
        tracemalloc.start()
        audit(file)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1_500 * 1_000  # the texts are 2,400 characters a row


MESSAGE = st.dictionaries(st.sampled_from(["role", "content", "value", "from"]), st.text(max_size=9))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.floats(),
    st.text(max_size=40),
    st.lists(st.one_of(st.none(), st.text(max_size=9), MESSAGE)),
)
NAMES = ["prompt", "instruction", "input", "system", "chosen", "rejected", "chosen_rating", "rejected_rating", "generations",
         "ratings", "completions", "split", "response_a", "response_b", "score_a", "score_b", "messages"]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES), min_size=1, max_size=4))
def test_whatever_rows_hold_an_audit_or_one_sentence_comes_out(rows):
    try:
        report = audit(rows)
    except InputError as error:
        assert "Allowed" in str(error) or "allowed" in str(error) or "must be text" in str(error)
        return
    assert sum(report.rows.values()) == len(rows)
    assert text(report) and page(report, "x").startswith("# Audit")


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(capsys, tmp_path):
    def run(*arguments):
        status = main(["audit", *map(str, arguments), "--out", str(tmp_path / "report")])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_the_command_prints_writes_and_ends_with_1_where_there_are_faults(command, tmp_path):
    status, out, _ = command(FAULTY, "--write", tmp_path / "sound")
    assert status == 1 and "identical completions" in out and "train 7, train 27, train 40" in out
    assert (tmp_path / "report" / "effects.png").read_bytes().startswith(b"\x89PNG")
    assert "| contradictory pair | 4 |" in (tmp_path / "report" / "report.md").read_text()
    left_out = [
        json.loads(line)
        for line in (tmp_path / "sound" / "left_out" / "train.jsonl").read_text().splitlines()
    ]
    assert {row["drop_reason"] for row in left_out} == set(PLANTED) and left_out[0]["place"] == "train 5"
    rows = sum(len(file.read_text().splitlines()) for file in (tmp_path / "sound").glob("**/*.jsonl"))
    assert rows == len(FAULTY.read_text(encoding="utf-8").splitlines())
    status, out, _ = command(tmp_path / "sound")
    assert status == 0 and "Faults in 0 rows" in out


def test_hostile_text_reaches_neither_terminal_nor_page(command, tmp_path):
    hostile = "\x1b]52;c;eA==\x07\u202e|`<img onerror=x>"
    rows = [
        {**row, "chosen_model": hostile, "rejected_model": "b", "split": hostile} for row in sound_rows(20)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, out, _ = command(tmp_path / "rows.jsonl", "--write", tmp_path / "sound")
    written = (tmp_path / "report" / "report.md").read_text()
    assert not set("\x1b\x07\u202e") & {*out, *written} and "\\<img" in written


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere.jsonl"], "There is no file or folder nowhere.jsonl"),
        ([FAULTY, "--max-length", "5"], "--max-length counts tokens of --tokenizer"),
        ([FAULTY, "--write", "."], "holds files, which stay"),
        ([DATA / "instructions.jsonl"], "are no preference data"),
        ([FAULTY, "--tokenizer", "./nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_audited_is_one_sentence_and_2(command, arguments, sentence):
    status, out, error = command(*arguments)
    assert status == 2 and sentence in error and len(error.splitlines()) == 1

"""The result of a pipeline: saved whole, read back equal, and taken by TRL's trainers."""

import signal
import subprocess
import sys

import pytest
from conftest import KILLS_ITSELF
from datasets import Dataset

from course_lib.distiset import Distiset, unfinished
from course_lib.errors import InputError
from course_lib.llms import ScriptedLLM, TransformersLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import FormatTextGenerationDPO, LoadDataFromDicts
from course_lib.steps.tasks import TextGeneration


def said(role, text):
    return {"role": role, "content": text}


def pair(prompt, chosen, rejected, ratings=(5.0, 1.0)):
    """A row as FormatTextGenerationDPO writes it."""
    return {
        "prompt": prompt,
        "chosen": [said("user", prompt), said("assistant", chosen)] if chosen is not None else None,
        "rejected": [said("user", prompt), said("assistant", rejected)] if rejected is not None else None,
        "chosen_rating": ratings[0],
        "rejected_rating": ratings[1],
    }


def distiset_of(*rows):
    return Distiset.of({"default": Dataset.from_list(list(rows))})


PAIRS = [pair(f"Say {n}", f"a good answer {n}", f"bad {n}") for n in range(4)]


def files_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def made_here():
    """A Distiset that a pipeline made, with pairs and a dropped row."""
    rows = [
        {
            "instruction": f"Say {n}",
            "generations": [f"yes {n}", f"no {n}"],
            "ratings": [2.0, 2.0 if n == 3 else 1.0],
        }
        for n in range(6)
    ]
    with Pipeline() as pipeline:
        (
            LoadDataFromDicts(data=rows, batch_size=4)
            >> TextGeneration(llm=ScriptedLLM(["x"]))
            >> FormatTextGenerationDPO()
        )
    distiset = pipeline.run(progress=False)
    distiset.card = "---\ntags:\n- preference\n---\n\n# Où? 何\n"
    return distiset


# --- disk -----------------------------------------------------------------------------------------------------------------


def test_what_is_saved_comes_back_with_all_datasets_and_the_card(tmp_path):
    distiset = made_here()
    distiset.save_to_disk(tmp_path / "new" / "folder")
    again = Distiset.load_from_disk(str(tmp_path / "new" / "folder"))
    assert list(again) == ["default", "dropped"] and again.card == distiset.card
    for name in again:
        assert list(again[name]["train"]) == list(distiset[name]["train"])
        assert again[name]["train"].features == distiset[name]["train"].features
    assert len(again["default"]["train"]) == 5 and again["dropped"]["train"][0]["drop_reason"] == "tie"
    assert (tmp_path / "new" / "folder" / "README.md").read_text(encoding="utf-8") == distiset.card


def test_saving_again_replaces_what_was_there(tmp_path):
    made_here().save_to_disk(tmp_path / "saved")
    distiset_of(*PAIRS).save_to_disk(tmp_path / "saved")
    again = Distiset.load_from_disk(tmp_path / "saved")
    assert list(again) == ["default"] and len(again["default"]["train"]) == 4 and again.card == ""
    assert [file.name for file in tmp_path.iterdir()] == ["saved"]


def test_distiset_can_be_saved_where_it_was_read(tmp_path):
    distiset_of(*PAIRS).save_to_disk(tmp_path / "saved")
    again = Distiset.load_from_disk(tmp_path / "saved")
    again.card = "# New"
    again.save_to_disk(tmp_path / "saved")
    assert list(again["default"]["train"]) == PAIRS
    assert list(Distiset.load_from_disk(tmp_path / "saved")["default"]["train"]) == PAIRS


def test_empty_folder_is_used_but_one_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "empty").mkdir()
    distiset_of(*PAIRS).save_to_disk(tmp_path / "empty")
    assert len(Distiset.load_from_disk(tmp_path / "empty")["default"]["train"]) == 4
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for target in ("thesis", "file"):
        with pytest.raises(InputError, match=f"{target} holds something else.*nothing was written"):
            distiset_of(*PAIRS).save_to_disk(tmp_path / target)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == (tmp_path / "file").read_text() == "precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty", "file", "thesis"]


def test_save_that_fails_leaves_the_old_one_and_nothing_half_made(tmp_path):
    made_here().save_to_disk(tmp_path / "saved")
    before = files_of(tmp_path)
    broken = distiset_of(*PAIRS)
    broken["other"] = "not a dataset"
    with pytest.raises(AttributeError):
        broken.save_to_disk(tmp_path / "saved")
    assert files_of(tmp_path) == before


# Saves rows 4, 5 and 6 over what is there, and is killed on the way.
KILLED_SAVE = (
    KILLS_ITSELF
    + """
from datasets import Dataset
from course_lib.distiset import Distiset
Distiset.of({"default": Dataset.from_list([{"n": n} for n in (4, 5, 6)])}).save_to_disk(sys.argv[1])
"""
)
MOMENTS = {
    "before the renames": ("os.rename", 1),
    "between them": ("os.rename", 2),
    "after them": ("shutil.rmtree", 1),
}


CASES = [("before the renames", False), *((moment, True) for moment in MOMENTS)]


@pytest.mark.parametrize("moment, old", CASES)
def test_killed_save_loses_no_dataset_and_the_next_one_removes_what_it_left(tmp_path, moment, old):
    function, count = MOMENTS[moment]
    if old:
        distiset_of(*PAIRS).save_to_disk(tmp_path / "saved")
    command = [
        sys.executable,
        "-c",
        KILLED_SAVE,
        function,
        str(count),
        ".saved-saving-",
        str(tmp_path / "saved"),
    ]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert unfinished(tmp_path / "saved")
    assert (tmp_path / "saved").exists() == (
        moment == "after them" or (old and moment == "before the renames")
    )
    broken = distiset_of(*PAIRS)
    broken["other"] = "not a dataset"
    with pytest.raises(AttributeError):
        broken.save_to_disk(tmp_path / "saved")
    if old or moment == "after them":
        rows = list(Distiset.load_from_disk(tmp_path / "saved")["default"]["train"])
        assert rows == ([{"n": 4}, {"n": 5}, {"n": 6}] if moment == "after them" else PAIRS)
    assert not unfinished(tmp_path / "saved")
    distiset_of(*PAIRS).save_to_disk(tmp_path / "saved")
    distiset_of(*PAIRS).save_to_disk(tmp_path / "undisturbed")
    assert files_of(tmp_path / "saved") == files_of(tmp_path / "undisturbed")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["saved", "undisturbed"]


def test_link_is_replaced_and_what_it_points_to_is_left_alone(tmp_path):
    distiset_of(*PAIRS).save_to_disk(tmp_path / "elsewhere")
    before = files_of(tmp_path / "elsewhere")
    (tmp_path / "saved").symlink_to(tmp_path / "elsewhere")
    made_here().save_to_disk(tmp_path / "saved")
    assert files_of(tmp_path / "elsewhere") == before
    assert len(Distiset.load_from_disk(tmp_path / "saved")) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["elsewhere", "saved"]


def test_folders_of_others_are_not_taken_for_what_a_killed_save_left(tmp_path):
    for name in (".saved-mine", ".other-saving-1", "saved-saving-1"):
        (tmp_path / name).mkdir()
    distiset_of(*PAIRS).save_to_disk(tmp_path / "saved")
    assert len(list(tmp_path.iterdir())) == 4


def test_folder_without_a_distiset_says_so(tmp_path):
    Dataset.from_list(PAIRS).save_to_disk(str(tmp_path / "dataset"))
    for name in ("dataset", "missing"):
        with pytest.raises(InputError, match=f"{name} holds no Distiset.*save_to_disk"):
            Distiset.load_from_disk(tmp_path / name)


@pytest.mark.parametrize("name", ["distiset.json", "default/dataset_dict.json", "default/train/state.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"configs": 3}', b"\xff\xfe", None])
def test_damaged_folder_is_said_to_be_damaged(tmp_path, name, content):
    distiset_of(*PAIRS).save_to_disk(tmp_path / "saved")
    if content is None:
        (tmp_path / "saved" / name).unlink()
    else:
        (tmp_path / "saved" / name).write_bytes(content)
    with pytest.raises(InputError, match="saved (is damaged: .*Save the Distiset again|holds no Distiset)"):
        Distiset.load_from_disk(tmp_path / "saved")


def test_cut_rows_are_said_to_be_damaged(tmp_path):
    distiset_of(*PAIRS).save_to_disk(tmp_path / "saved")
    [rows] = (tmp_path / "saved").rglob("*.arrow")
    rows.write_bytes(rows.read_bytes()[:99])
    with pytest.raises(InputError, match="saved is damaged"):
        Distiset.load_from_disk(tmp_path / "saved")


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".", "..", 3, None, "a b", "a\n"], ids=repr)
def test_name_that_is_no_name_of_a_folder_is_refused_and_nothing_is_written(tmp_path, name):
    distiset = distiset_of(*PAIRS)
    distiset[name] = distiset["default"]
    with pytest.raises(InputError, match="cannot be named.*Allowed"):
        distiset.save_to_disk(tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_equal_rows_give_byte_identical_folders(tmp_path):
    for name in ("one", "two"):
        made_here().save_to_disk(tmp_path / name)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert len(files_of(tmp_path / "one")) >= 8


def test_rows_outlive_the_pipeline_that_made_them():
    import gc

    distiset = made_here()
    gc.collect()
    assert len(list(distiset["default"]["train"])) == 5


# --- for trainers -----------------------------------------------------------------------------------------------------------


def test_to_trl_splits_prompt_and_completions_into_messages():
    trl = distiset_of(*PAIRS).to_trl()
    assert list(trl) == ["train"] and trl["train"].column_names == ["prompt", "chosen", "rejected"]
    assert trl["train"][0] == {
        "prompt": [said("user", "Say 0")],
        "chosen": [said("assistant", "a good answer 0")],
        "rejected": [said("assistant", "bad 0")],
    }


def test_to_trl_keeps_earlier_turns_in_the_prompt():
    turns = [said("system", "s"), said("user", "u"), said("assistant", "a"), said("user", "v")]
    row = {"chosen": [*turns, said("assistant", "yes")], "rejected": [*turns, said("assistant", "no")]}
    assert distiset_of(row).to_trl()["train"][0]["prompt"] == turns


def test_to_trl_takes_texts_and_messages_beside_a_prompt():
    explicit = {"prompt": [said("system", "s"), said("user", "u")], "chosen": [said("assistant", "yes")]}
    texts = {"prompt": "u", "chosen": "yes", "rejected": "no"}
    mixed = {"prompt": "u", "chosen": [said("assistant", "yes")], "rejected": [said("assistant", "no")]}
    whole = {"prompt": [said("user", "u")], "chosen": [said("user", "u"), said("assistant", "yes")]}
    after = {"prompt": [said("system", "s")], "chosen": [said("user", "u"), said("assistant", "yes")]}
    for row in (explicit, whole, after):
        row["rejected"] = [*row["chosen"][:-1], said("assistant", "no")]
    system, user = said("system", "s"), said("user", "u")
    for row, prompt in [
        (explicit, [system, user]),
        (texts, [user]),
        (mixed, [user]),
        (whole, [user]),
        (after, [system, user]),
    ]:
        [pair_] = distiset_of(row).to_trl()["train"]
        assert pair_ == {
            "prompt": prompt,
            "chosen": [said("assistant", "yes")],
            "rejected": [said("assistant", "no")],
        }


@pytest.mark.parametrize(
    "chosen, rejected, reason",
    [
        (
            [said("user", "u"), said("assistant", "a")],
            [said("user", "v"), said("assistant", "b")],
            "different prompts",
        ),
        ([said("user", "u"), said("assistant", "a")], [said("assistant", "b")], "no prompt"),
        ([said("user", "u")], [said("user", "v")], "the last message is not the assistant's"),
        (
            [said("user", "u"), said("assistant", "a"), said("user", "b")],
            [said("user", "u"), said("assistant", "c")],
            "last",
        ),
        ("Yes.", "No.", "no prompt"),
        ([], [said("user", "u"), said("assistant", "c")], "no pair"),
    ],
)
def test_to_trl_leaves_out_sides_that_do_not_answer_one_prompt_and_says_so(chosen, rejected, reason, capsys):
    assert len(distiset_of({"chosen": chosen, "rejected": rejected}).to_trl()["train"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("to_trl: 1 rows left out: ") and reason in printed


@pytest.mark.parametrize("side", [[3], ["text"], [{"role": "user"}], [{"role": "user", "content": None}]])
def test_to_trl_refuses_what_is_neither_text_nor_messages_in_words(side):
    with pytest.raises(InputError, match="A pair has texts, or messages with role and content, not "):
        distiset_of({"chosen": side, "rejected": side}).to_trl()


def test_system_prompts_of_rows_reach_the_trainer():
    row = {
        "system_prompt": "Be brief.",
        "instruction": "hi",
        "generations": ["a", "b"],
        "ratings": [1.0, 2.0],
    }
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=[row]) >> FormatTextGenerationDPO()
    [pair_] = pipeline.run(progress=False).to_trl()["train"]
    assert pair_["prompt"] == [said("system", "Be brief."), said("user", "hi")]


def test_to_trl_leaves_out_what_is_no_pair_and_prints_how_many(capsys):
    rows = [
        *PAIRS,
        pair("tie", "one", "two", (3.0, 3.0)),
        pair("tie", "one", "three", (2.0, 2.0)),
        pair("same", "one", "one"),
        pair("empty", "one", " "),
        pair("none", None, None, (None, None)),
        pair("unrated", "yes", "no", (None, None)),
    ]
    trl = distiset_of(*rows).to_trl()["train"]
    assert [row["prompt"][0]["content"] for row in trl] == ["Say 0", "Say 1", "Say 2", "Say 3", "unrated"]
    printed = capsys.readouterr().out
    for line in (
        "2 rows left out: tie",
        "1 rows left out: identical completions",
        "1 rows left out: empty completion",
        "1 rows left out: no pair",
    ):
        assert f"to_trl: {line}\n" in printed


def test_to_trl_prints_nothing_when_all_rows_are_pairs(capsys):
    distiset_of(*PAIRS).to_trl()
    assert capsys.readouterr().out == ""


def test_to_trl_with_nothing_left_is_empty_but_has_its_columns():
    trl = distiset_of(pair("tie", "one", "two", (3.0, 3.0))).to_trl()["train"]
    assert len(trl) == 0 and trl.column_names == ["prompt", "chosen", "rejected"]


def test_to_trl_leaves_out_prompts_that_fill_the_length(tiny_model_folder, capsys):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    rows = [*PAIRS, pair("long " * 40, "yes", "no")]
    length = len(
        tokenizer.apply_chat_template([said("user", "long " * 40)], add_generation_prompt=True)["input_ids"]
    )
    kept = {
        limit: len(distiset_of(*rows).to_trl(tokenizer=tokenizer, max_length=limit)["train"])
        for limit in (length, length + 1)
    }
    assert kept == {length: 4, length + 1: 5}
    assert f"1 rows left out: prompt fills max_length={length}" in capsys.readouterr().out
    assert len(distiset_of(*rows).to_trl(max_length=5)["train"]) == 5


def test_to_trl_without_pairs_says_which_step_is_missing():
    with pytest.raises(
        InputError, match="no column chosen or rejected; it has text.*FormatTextGenerationDPO"
    ):
        distiset_of({"text": "a"}).to_trl()


def test_to_trl_of_a_dataset_that_is_not_there_lists_those_that_are():
    with pytest.raises(InputError, match="no dataset 'defualt'; allowed: default"):
        distiset_of(*PAIRS).to_trl("defualt")


def test_to_trl_after_a_run_that_dropped_every_row_is_empty():
    rows = [{"instruction": "hi", "generations": ["a", "b"], "ratings": [1.0, 1.0]}]
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=rows) >> FormatTextGenerationDPO()
    assert len(pipeline.run(progress=False).to_trl()["train"]) == 0


# --- TRL itself -------------------------------------------------------------------------------------------------------------

ONE_STEP = {
    "use_cpu": True,
    "report_to": "none",
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
}


def dpo_trainer(folder, dataset, tmp_path):
    from trl import DPOConfig, DPOTrainer

    args = DPOConfig(output_dir=str(tmp_path / "dpo"), save_strategy="no", disable_tqdm=True, **ONE_STEP)
    return DPOTrainer(model=str(folder), args=args, train_dataset=dataset)


def first_loss(trainer):
    trainer.train()
    return next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)


def test_dpo_trainer_takes_the_result_and_begins_at_log_2(tiny_model_folder, tmp_path):
    trainer = dpo_trainer(tiny_model_folder, distiset_of(*PAIRS).to_trl()["train"], tmp_path)
    assert first_loss(trainer) == pytest.approx(0.6931, abs=2e-3)


def test_dpo_trainer_trains_on_the_completions_and_not_on_the_prompt(tiny_model_folder, tmp_path):
    trainer = dpo_trainer(tiny_model_folder, distiset_of(*PAIRS).to_trl()["train"], tmp_path)
    row, decode = trainer.train_dataset[0], trainer.processing_class.decode
    assert decode(row["prompt_ids"]) == "<|im_start|>user\nSay 0<|im_end|>\n<|im_start|>assistant\n"
    assert decode(row["chosen_ids"]) == "a good answer 0<|im_end|>\n"
    assert decode(row["rejected_ids"]) == "bad 0<|im_end|>\n"


PROMPTS = {
    "text": {"instruction": "Say hi."},
    "text with system prompt": {"instruction": "Say hi.", "system_prompt": "Be brief."},
    "text with input": {"instruction": "Translate:", "input": "a cat"},
    "conversation": {
        "messages": [said("system", "s"), said("user", "u"), said("assistant", "a"), said("user", "Say hi.")]
    },
}


@pytest.mark.parametrize("form", PROMPTS)
@pytest.mark.parametrize("model", ["tiny", "smollm2-135m"])
def test_the_trainer_sees_the_tokens_that_the_writer_saw(form, model, tiny_model_folder, tmp_path):
    llm = TransformersLLM(str(tiny_model_folder) if model == "tiny" else model)
    row = {**PROMPTS[form], "generations": ["Hi there.", "No."], "ratings": [4.0, 2.0]}
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=[row]) >> FormatTextGenerationDPO()
    [pair_] = pipeline.run(progress=False).to_trl()["train"]
    [loaded] = LoadDataFromDicts(data=[row]).process()
    written = llm.prompts.encode(TextGeneration(llm=llm).format_input(loaded[0][0]))
    trainer = dpo_trainer(llm.weights.folder, Dataset.from_list([pair_]), tmp_path)
    [trained], tokenizer = trainer.train_dataset, llm.tokenizer
    assert trained["prompt_ids"] == list(written)
    assert trained["prompt_ids"].count(tokenizer.bos_token_id) == tokenizer.decode(written).count(
        tokenizer.bos_token
    )
    assert trained["prompt_ids"][:2] != [tokenizer.bos_token_id] * 2, "one at the beginning"
    for side, text in (("chosen_ids", "Hi there."), ("rejected_ids", "No.")):
        assert tokenizer.decode(trained[side]).startswith(f"{text}{tokenizer.eos_token}")


@pytest.mark.parametrize("form", PROMPTS)
def test_reward_trainer_takes_every_form_of_prompt(form, tiny_model_folder, tmp_path):
    row = {**PROMPTS[form], "generations": ["Hi there.", "No."], "ratings": [4.0, 2.0]}
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=[row, {**row, "generations": ["Hello.", "Go."]}]) >> FormatTextGenerationDPO()
    pairs = pipeline.run(progress=False).to_trl()["train"]
    assert 0 < first_loss(reward_trainer(tiny_model_folder, pairs, tmp_path)) < 5


def test_columns_as_distilabel_has_them_make_trl_raise(tiny_model_folder, tmp_path):
    seeds = Dataset.from_list([{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in PAIRS])
    with pytest.raises((TypeError, ValueError, AttributeError, KeyError)):
        dpo_trainer(tiny_model_folder, seeds, tmp_path)


def reward_trainer(folder, dataset, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    args = RewardConfig(
        output_dir=str(tmp_path / "reward"), save_strategy="no", disable_tqdm=True, **ONE_STEP
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return RewardTrainer(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)


def test_reward_trainer_takes_the_result(tiny_model_folder, tmp_path):
    trainer = reward_trainer(tiny_model_folder, distiset_of(*PAIRS).to_trl()["train"], tmp_path)
    assert 0 < first_loss(trainer) < 5


def test_a_split_by_prompt_holds_across_datasets_and_spellings():
    texts = ["Why so?", " why  SO? ", "Name a river.", "Name a lake.", "Count to ten.", "Sing."]
    rows = [{"prompt": text, "chosen": "a", "rejected": "b"} for text in texts]
    distiset = Distiset.of({"default": Dataset.from_list(rows), "by_person": Dataset.from_list(rows[::2])})
    for seed in range(20):
        split = distiset.train_test_split(train_size=0.5, seed=seed)
        sides = {
            side: {" ".join(row["prompt"].lower().split()) for data in split.values() for row in data[side]}
            for side in ("train", "test")
        }
        assert not sides["train"] & sides["test"] and len(sides["train"] | sides["test"]) == 5

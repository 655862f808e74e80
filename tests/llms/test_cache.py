"""The store of results: nothing half-written, nothing lost, nothing wrong handed out."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zlib

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


def batch_keys(name, batch):
    return [f"{name}-{batch}-{row}" for row in range(BATCH)]


@pytest.mark.parametrize(
    "value",
    [
        {"text": "plain", "input_tokens": 3, "output_tokens": 1, "finish_reason": "stop"},
        {"text": None},
        "日本語 é e\u0301 \u2028 \u0085 \x00 \x1f \ufeff 👩\u200d👩\u200d👧 \U0010ffff",
        "lone surrogates \ud800 and \udfff",
        "a" * 1_000_000,
        "語" * 350_000,
        [-0.1, 1e-300, 12345678901234567890],
        "",
        [],
    ],
    ids=lambda value: ascii(value)[:25],
)
def test_values_come_back_as_they_went_in(tmp_path, value):
    ResultCache(tmp_path).put_many({"key": value}, "model")
    assert ResultCache(tmp_path).get_many(["key", "other"]) == {"key": value}


def test_more_keys_than_one_lookup_takes(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put_many({f"k{n}": n for n in range(2345)}, "model")
    assert cache.get_many([f"k{n}" for n in range(3000)]) == {f"k{n}": n for n in range(2345)}


def test_keys_differ_where_any_part_differs():
    parts = [("a", "bc"), ("ab", "c"), ("abc",), ("a", ["bc"]), ("a", None), ("a", 0), ("a", "\ud800"), ("a", {"x": 1})]
    assert len({result_key(*part) for part in parts}) == len(parts)
    assert result_key({"a": 1, "b": 2}) == result_key({"b": 2, "a": 1})


def test_put_many_stores_all_or_nothing(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put_many({"before": 1}, "model")
    with pytest.raises(TypeError):
        cache.put_many({"good": 1, "bad": object()}, "model")
    cache._connection.execute(
        "CREATE TRIGGER t BEFORE INSERT ON results WHEN NEW.key='bad' BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(CacheError):
        cache.put_many({"good": 1, "bad": 2}, "model")
    assert ResultCache(tmp_path).get_many(["before", "good", "bad"]) == {"before": 1}


def test_kill_9_leaves_whole_batches_and_a_sound_store(tmp_path):
    start, reported = 0, -1
    for wait in (0.0, 0.003, 0.011, 0.017, 0.029):
        process = writer(tmp_path, "killed", start, 100_000)
        reported = int(process.stdout.readline())
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        reported = int((process.stdout.read().split() or [reported])[-1])
        cache = ResultCache(tmp_path)
        found = [len(cache.get_many(batch_keys("killed", batch))) for batch in range(reported + 3)]
        assert set(found) <= {0, BATCH}
        assert all(count == BATCH for count in found[: reported + 1]), "a batch that was reported as written is gone"
        assert cache._run("PRAGMA integrity_check") == [("ok",)]
        cache.close()
        start = reported + 2
        ResultCache(tmp_path).put_many(dict.fromkeys(batch_keys("killed", reported + 1), 0), "killed")
    assert not list(tmp_path.glob("*damaged*"))


def test_two_processes_write_at_once_and_nothing_is_lost(tmp_path):
    processes = [writer(tmp_path, name, 0, 40) for name in ("one", "two")]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert [(name, count) for name, count, _ in ResultCache(tmp_path).summary()] == [("one", 800), ("two", 800)]


@pytest.mark.parametrize("bit", [0x01, 0x80], ids=["still text", "no longer UTF-8"])
def test_flipped_bit_in_a_value_is_reported_and_the_value_made_again(tmp_path, capsys, bit):
    cache = ResultCache(tmp_path)
    cache.put_many({"good": "kept", "bad": "SENTINEL VALUE"}, "model")
    cache.close()
    data = bytearray(cache.path.read_bytes())
    data[data.index(b"SENTINEL") + 3] ^= bit
    cache.path.write_bytes(data)
    again = ResultCache(tmp_path)
    assert again.get_many(["good", "bad"]) == {"good": "kept"}
    assert "1 damaged result" in capsys.readouterr().err
    again.put_many({"bad": "SENTINEL VALUE"}, "model")
    assert again.get_many(["good", "bad"]) == {"good": "kept", "bad": "SENTINEL VALUE"}


@pytest.mark.parametrize("damage", ["garbage", "garbage in the middle", "truncated"])
def test_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path, capsys, damage):
    cache = ResultCache(tmp_path)
    cache.put_many({f"k{n}": "x" * 1000 for n in range(200)}, "model")
    cache.close()
    sound = cache.path.read_bytes()
    broken = {
        "garbage": b"this is not a database" * 1000,
        "garbage in the middle": sound[:4096] + b"\x05garbage" * (len(sound) // 8 - 512),
        "truncated": sound[: len(sound) // 2],
    }[damage]
    cache.path.write_bytes(broken)
    again = ResultCache(tmp_path)
    assert again.get_many([f"k{n}" for n in range(200)]) == {}
    assert "was damaged" in capsys.readouterr().err
    [aside] = tmp_path.glob("results.damaged-*.sqlite")
    assert aside.read_bytes() == broken
    again.put_many({"new": 1}, "model")
    assert ResultCache(tmp_path).get_many(["new"]) == {"new": 1}


HEADER = 100  # bytes, https://sqlite.org/fileformat2.html
DAMAGE = {
    "a header that forbids writing": lambda data: data[:18] + b"\x09" + data[19:],
    "a header of an unknown format": lambda data: data[:47] + b"\x44" + data[48:],
    "a header with another encoding": lambda data: data[:59] + b"\x02" + data[60:],
    "a column of another name": lambda data: data.replace(b"model TEXT", b"modem TEXT", 1),
    "a column whose name is no text": lambda data: data.replace(b"value TEXT", b"v\xe1lue TEXT", 1),
    "a table of another name": lambda data: data.replace(b"TABLE results", b"TABLE resulus", 1),
    "a column that may be empty": lambda data: data.replace(b"model TEXT NOT NULL", b"model TEXT          ", 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_schema_is_set_aside_like_any_other_damage(tmp_path, capsys, damage):
    cache = ResultCache(tmp_path)
    cache.put_many({"key": 1}, "model")
    cache.close()
    sound = cache.path.read_bytes()
    broken = DAMAGE[damage](sound)
    assert broken != sound
    cache.path.write_bytes(broken)
    for _ in range(2):
        again = ResultCache(tmp_path)
        assert again.get_many(["key"]) in ({}, {"key": 1}) and again.summary() in ([], [("model", 1, 1)])
        again.put_many({"new": 2}, "model")
        assert again.get_many(["new"]) == {"new": 2}
        again.clear(model="model")
        again.close()
    assert capsys.readouterr().err.count("was damaged") == 1
    assert len(list(tmp_path.glob("results.damaged-*.sqlite"))) == 1


def test_no_flipped_bit_hands_out_a_wrong_value_stops_the_store_or_loses_a_result_unnoticed(tmp_path, capsys):
    values = {result_key(n): {"text": f"value {n} " * 8} for n in range(200)}
    cache = ResultCache(tmp_path)
    cache.put_many(values, "model")
    cache.close()
    sound, draw = cache.path.read_bytes(), random.Random(5)
    schema = range(8 * sound.index(b"CREATE TABLE"), 8 * 4096)
    bits = [*draw.sample(range(8 * HEADER), 30), *draw.sample(schema, 70), *draw.sample(range(8 * 4096, 8 * len(sound)), 150)]
    for bit in bits:
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        cache.path.write_bytes(flipped)
        damaged = cache.count_damaged()
        found = cache.get_many(list(values))
        cache.put_many({"new": bit}, "model")
        assert cache.get_many(["new"]) == {"new": bit}
        cache.close()
        assert all(values.get(key) == value for key, value in found.items()), bit
        assert len(found) == len(values) or damaged or capsys.readouterr().err, bit


def test_value_that_came_under_another_key_is_not_handed_out(tmp_path, capsys):
    cache = ResultCache(tmp_path)
    cache.put_many({"one": "first", "two": "second"}, "model")
    [(checksum, value)] = cache._run("SELECT checksum, value FROM results WHERE key = 'one'")
    cache._run("UPDATE results SET checksum = ?, value = ? WHERE key = 'two'", (checksum, value))
    assert cache.get_many(["one", "two"]) == {"one": "first"}
    assert "1 damaged result" in capsys.readouterr().err


# As the first version made it; a file that differs is taken for damaged.
FIRST_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, created REAL NOT NULL, checksum INTEGER NOT NULL, value TEXT NOT NULL
) WITHOUT ROWID
"""


def test_results_of_the_first_version_whose_checksum_left_out_the_key_are_still_good(tmp_path, capsys):
    text = '{"text":"stored by an earlier version"}'
    with sqlite3.connect(tmp_path / "results.sqlite") as connection:
        connection.execute(FIRST_SCHEMA)
        connection.execute("INSERT INTO results VALUES ('old', 'model', 0, ?, ?)", (zlib.crc32(text.encode()), text))
    connection.close()
    cache = ResultCache(tmp_path)
    assert cache.get_many(["old"]) == {"old": {"text": "stored by an earlier version"}}
    assert cache.count_damaged() == 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize("length", [0, 1, 99, 512])
def test_file_cut_to_almost_nothing_is_begun_anew(tmp_path, length):
    cache = ResultCache(tmp_path)
    cache.put_many({"key": 1}, "model")
    cache.close()
    os.truncate(cache.path, length)
    assert ResultCache(tmp_path).get_many(["key"]) == {}
    ResultCache(tmp_path).put_many({"key": 2}, "model")
    assert ResultCache(tmp_path).get_many(["key"]) == {"key": 2}


def damage_in_place(path):
    """Write over the middle of the file, which stays the same file for those that have it open."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\x05garbage" * (path.stat().st_size // 8 - 512))


def test_two_that_find_one_file_damaged_set_it_aside_once_and_go_on_in_one_new_file(tmp_path):
    before, one, two = (ResultCache(tmp_path) for _ in range(3))
    before.put_many({f"k{n}": "x" * 1000 for n in range(200)}, "model")
    before.close()
    for cache in (one, two):
        cache._open()
    damage_in_place(one.path)
    one.put_many({"one": 1}, "model")
    two.put_many({"two": 2}, "model")
    assert one.get_many(["one", "two"]) == two.get_many(["one", "two"]) == {"one": 1, "two": 2}
    assert len(list(tmp_path.glob("results.damaged-*.sqlite"))) == 1


def test_four_processes_that_find_one_file_damaged_lose_nothing(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put_many({f"k{n}": "x" * 1000 for n in range(200)}, "model")
    cache.close()
    damage_in_place(cache.path)
    processes = [writer(tmp_path, name, 0, 5) for name in "abcd"]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert [(name, count) for name, count, _ in ResultCache(tmp_path).summary()] == [(name, 100) for name in "abcd"]
    assert len(list(tmp_path.glob("results.damaged-*.sqlite"))) == 1


def test_result_stored_after_another_process_deleted_the_file_is_in_the_new_one(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put_many({"old": 1}, "model")
    for file in tmp_path.glob("results.sqlite*"):
        file.unlink()
    cache.put_many({"new": 2}, "model")
    assert ResultCache(tmp_path).get_many(["old", "new"]) == {"new": 2}


def test_large_file_opens_with_as_little_reading_as_a_small_one(tmp_path, monkeypatch):
    steps = {count: steps_to_open(tmp_path / str(count), count, monkeypatch) for count in (50, 5000)}
    assert steps[5000] < 2 * steps[50]


def steps_to_open(folder, count, monkeypatch):
    """How many steps SQLite takes to open a store of `count` results and look one up."""
    cache = ResultCache(folder)
    cache.put_many({f"k{n}": "x" * 10_000 for n in range(count)}, "model")
    cache.close()
    steps, connect = [], sqlite3.connect

    def counting(*arguments, **kwargs):
        connection = connect(*arguments, **kwargs)
        connection.set_progress_handler(lambda: steps.append(1), 1)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", counting)
        assert ResultCache(folder).get_many(["k7"])
    return len(steps)


@pytest.mark.parametrize("where", ["/proc/course_lib", "file/below"])
def test_folder_that_cannot_be_made_gives_cache_error(tmp_path, where):
    (tmp_path / "file").write_text("a file, not a folder")
    cache = ResultCache(tmp_path / where)
    with pytest.raises(CacheError, match="COURSE_LIB_CACHE"):
        cache.put_many({"key": 1}, "model")
    with pytest.raises(CacheError):
        cache.get_many(["key"])


def test_full_disk_gives_cache_error_and_earlier_results_survive(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put_many({"early": "safe"}, "model")
    cache._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(CacheError, match="full.*[Ff]ree some space"):
        cache.put_many({f"k{n}": "x" * 1000 for n in range(500)}, "model")
    assert cache.get_many(["early", "k0"]) == {"early": "safe"}
    assert ResultCache(tmp_path).get_many(["early", "k0"]) == {"early": "safe"}
    cache._connection.execute("PRAGMA max_page_count = 100000")
    cache.put_many({f"k{n}": n for n in range(500)}, "model")
    assert len(cache.get_many([f"k{n}" for n in range(500)])) == 500


def test_clear_by_model_and_by_age(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put_many({"a1": 1, "a2": 2}, "a")
    cache.put_many({"b1": 1, "b2": 2}, "b")
    cache._run("UPDATE results SET created = created - 10 * 86400 WHERE key IN ('a1', 'b1')")
    assert cache.clear(older_than_days=30) == 0
    assert cache.clear(older_than_days=5, model="a") == 1
    assert cache.get_many(["a1", "a2", "b1", "b2"]) == {"a2": 2, "b1": 1, "b2": 2}
    assert cache.clear(model="a") == 1
    assert [(name, count) for name, count, _ in cache.summary()] == [("b", 2)]
    assert cache.clear() == 2
    assert cache.summary() == []


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    default_cache().put_many({"key": "first"}, "model")
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path))
    assert default_cache().get_many(["key"]) == {}
    assert default_cache().path == tmp_path / "results.sqlite"


def test_store_is_one_plain_sqlite_file(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put_many({"key": {"text": "hello"}}, "model")
    cache.close()
    with sqlite3.connect(cache.path) as connection:
        assert connection.execute("SELECT key, model, value FROM results").fetchall() == [("key", "model", '{"text":"hello"}')]

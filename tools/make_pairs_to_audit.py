"""Make exercises/data/pairs_to_audit.json and planted.json: pairs with faults, for "find the fault" in the exercises.

    python tools/make_pairs_to_audit.py

Like tools/make_faulty.py, whose file the lessons show, with other items, other faults and in other places. The second file
has the ids that have each fault.
"""

import json
import random
from pathlib import Path

from make_faulty import TRAIN, sound_pairs

from course_lib.judging import labelled_items
from course_lib.steps.load import DATA, read_jsonl

FOLDER = Path(__file__).resolve().parent.parent / "exercises" / "data"
HEADINGS = (
    "## Improved response:\n\n",
    "Here's a better response:\n",
    "**Revised response**\n\n",
    "[NEW RESPONSE]: ",
)


def planted(rows: list[dict]) -> tuple[list[dict], dict[str, list[dict]]]:
    """`rows` with faults, added or changed, and the rows that have each fault."""
    train, test = rows[:TRAIN], rows[TRAIN:]
    identical, turned = train[0:4], train[4:7]
    for k, row in enumerate(identical):  # two of them differ in spaces and capitals alone
        row["chosen"] = (row["rejected"], row["rejected"].lower(), row["rejected"], row["rejected"] + " \n")[
            k
        ]
    contrary = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in turned]
    again = [
        {**row, "rejected": train[20 + k]["rejected"], "rejected_rating": 1.2}
        for k, row in enumerate(train[7:9])
    ]
    again[0]["prompt"] = f" {again[0]['prompt'].upper()}"
    leaks = [
        {**row, "split": "train", "rejected": train[25]["rejected"], "rejected_rating": 1.4}
        for row in test[5:9]
    ]
    leaks[1]["prompt"] = leaks[1]["prompt"].replace(" ", "  ")
    headed, off_scale, against = train[9:13], train[13:16], train[16:19]
    for k, (row, heading) in enumerate(zip(headed, HEADINGS, strict=True)):
        side = "rejected" if k == 2 else "chosen"
        row[side] = heading + row[side]
    for row, rating in zip(off_scale, (7.5, 0.0, 45.0), strict=True):
        row["rejected_rating" if rating == 0 else "chosen_rating"] = rating
    for k, row in enumerate(against):
        row["rejected_rating"] = row["chosen_rating"] + (0.3, 0.0, 0.8)[k]
    for row in against:  # stays on the scale
        low = max(0.0, row["rejected_rating"] - 5)
        row["chosen_rating"], row["rejected_rating"] = (
            round(row[f"{s}_rating"] - low, 2) for s in ("chosen", "rejected")
        )
    faults = {
        "identical pair": identical,
        "contradictory pair": [*turned, *contrary],
        "test prompt in train": leaks,
        "leaked heading": headed,
        "rating off the scale": off_scale,
        "rating against the choice": against,
    }
    return [*rows, *contrary, *again, *leaks], faults


def main() -> None:
    rng = random.Random(11)
    shown = {row["prompt"] for row in read_jsonl(DATA / "faulty_preferences.jsonl")}
    items = [item for item in labelled_items("fit") if item["instruction"] not in shown]
    rows, faults = planted(sound_pairs(rng, items))
    rng.shuffle(rows)
    places = {id(row): number for number, row in enumerate(rows, 101)}
    lines = [json.dumps({"id": number, **row}, ensure_ascii=False) for number, row in enumerate(rows, 101)]
    (FOLDER / "pairs_to_audit.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    ids = {fault: sorted(places[id(row)] for row in faulty) for fault, faulty in faults.items()}
    lines = [f"{json.dumps(fault)}: {json.dumps(faulty)}" for fault, faulty in ids.items()]
    (FOLDER / "planted.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(len(rows), "rows", ids)


if __name__ == "__main__":
    main()

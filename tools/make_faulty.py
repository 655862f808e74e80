"""Make course_lib/data/faulty_preferences.jsonl: sound pairs with faults planted among them, for the exercises.

    python tools/make_faulty.py

48 sound pairs (36 train, 12 test) of labelled items that the judges were fitted on, then the faults that `planted`
names. The rows are shuffled with a fixed seed and numbered afterwards, so no position gives a fault away.
"""

import json
import random

from course_lib.judging import labelled_items
from course_lib.steps.load import DATA

SOUND, TRAIN = 48, 36
HEADINGS = ("#Rewritten Response#:\n", "Here is the improved response:\n\n", "[Response]\n")


def sound_pairs(rng: random.Random, items: list[dict]) -> list[dict]:
    rows = []
    for number, item in enumerate(items[: SOUND * 3 : 3]):
        low, high = sorted((round(rng.uniform(1.2, 3.4), 2), round(rng.uniform(3.5, 4.9), 2)))
        models = rng.sample(["smollm2-135m", "gemma-3-270m"], 2)
        rows.append(
            {
                "split": "train" if number < TRAIN else "test",
                "prompt": item["instruction"],
                "chosen": item["good"],
                "rejected": item["worse"],
                "chosen_rating": high,
                "rejected_rating": low,
                "chosen_model": models[0],
                "rejected_model": models[1],
            }
        )
    return rows


def planted(rows: list[dict]) -> list[dict]:
    """`rows` with faults, added or changed, in this order: 3 identical pairs, 3 duplicate prompts, 3 test prompts in train,
    2 contradictory preferences, 3 leaked headings, 2 ratings off the scale, 2 ratings against the choice."""
    train, test = rows[:TRAIN], rows[TRAIN:]
    more = []
    for k, row in enumerate(train[:3]):  # one of them differs in spaces and capitals alone
        row["rejected"] = row["chosen"] if k else f" {row['chosen'].upper()} "
    for k, row in enumerate(train[3:6]):  # another pair for a prompt that is there already
        prompt = row["prompt"] if k else f"{row['prompt'].lower()}  "
        more.append({**row, "prompt": prompt, "rejected": train[20 + k]["rejected"], "rejected_rating": 1.1})
    for row in test[:3]:
        more.append({**row, "split": "train", "rejected": train[25]["chosen"], "rejected_rating": 1.3})
    for row in train[6:8]:  # the same two answers the other way round
        swapped = {"chosen": row["rejected"], "rejected": row["chosen"]}
        more.append(
            {**row, **swapped, "chosen_model": row["rejected_model"], "rejected_model": row["chosen_model"]}
        )
    for row, heading in zip(train[8:11], HEADINGS, strict=True):
        row["chosen"] = heading + row["chosen"]
    for row in train[11:13]:
        row["chosen_rating"] = 10.0
    for row in train[13:15]:
        row["chosen_rating"], row["rejected_rating"] = row["rejected_rating"], row["chosen_rating"]
    return [*rows, *more]


def main() -> None:
    rng = random.Random(7)
    rows = planted(sound_pairs(rng, labelled_items("fit")))
    rng.shuffle(rows)
    lines = [json.dumps({"id": number, **row}, ensure_ascii=False) for number, row in enumerate(rows)]
    (DATA / "faulty_preferences.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(rows)} rows")


if __name__ == "__main__":
    main()

"""Right and wrong answers to the questions of chapter 2."""

import math
import re
from collections import Counter

import numpy as np

from course_lib.steps.load import DATA, read_jsonl
from course_lib.steps.tasks import EvolQuality, Task, TextGeneration
from course_lib.steps.tasks.rewrites import rewrite_fault
from course_lib.steps.tasks.templating import filled, parsed

PAIRS = read_jsonl(DATA / "faulty_preferences.jsonl")
CHANGES = {"order": False, "seed": True, "response": True, "other column": False}


def outcomes(rows):
    return Counter(failure or "used" for row in rows for failure in row["evolution_failures"])


def outcomes_by_hand(rows):
    counts = {}
    for row in rows:
        for failure in row["evolution_failures"]:
            name = "used" if failure is None else failure
            counts[name] = counts.get(name, 0) + 1
    return counts


def plain(text):
    return re.sub(r"[\W_]+", " ", text).lower().strip()


def headings(prompt):
    return {plain(line) for line in prompt.splitlines() if line.startswith("#")}


def leaks_by_label(rewrite, prompt):
    return any(plain(line.split(":")[0]) in headings(prompt) for line in rewrite.splitlines())


def leaks_by_pattern(rewrite, prompt):
    for heading in headings(prompt):
        if re.search(rf"(?im)^[\W_]*{heading}[\W_]*(:|$)", rewrite):
            return np.True_
    return np.False_


def leaks_by_words(rewrite, prompt):
    return any(heading in plain(rewrite) for heading in headings(prompt))


def leaks_by_beginning(rewrite, prompt):
    return any(
        plain(line).startswith(tuple(headings(prompt))) for line in rewrite.splitlines() if headings(prompt)
    )


def leaks_letter_by_letter(rewrite, prompt):
    return any(line in rewrite.splitlines() for line in prompt.splitlines() if line.startswith("#"))


def leaks_without_colon(rewrite, prompt):
    return any(plain(line) in headings(prompt) for line in rewrite.splitlines())


def leaks_first_line(rewrite, prompt):
    return leaks_by_label(rewrite.partition("\n")[0], prompt)


def leaks_fixed(rewrite, prompt):
    return leaks_by_label(rewrite, "# Question\n# Draft answer\n# Better answer")


def leaks_lines(rewrite, prompt):
    return any(
        plain(line.split(":")[0]) in set(map(plain, prompt.splitlines()))
        for line in rewrite.splitlines()
        if line
    )


def any_heading(rewrite, prompt):
    return leaks_by_label(rewrite, prompt) or rewrite.startswith("#")


LEAKED = [pair["id"] for pair in PAIRS if plain(pair["chosen"].splitlines()[0]).endswith("response")]
SIGNED = [pair["id"] for pair in PAIRS if pair["chosen"].startswith("#")]
COLON = [pair["id"] for pair in PAIRS if pair["chosen"].splitlines()[0].rstrip().endswith(":")]


def words(text):
    return len(text.split())


def wins(rows, max_ratio):
    points = []
    for row in rows:
        if row["after"] is None:
            continue
        few, many = sorted([words(row["before"]), words(row["after"])])
        if many <= max_ratio * few:
            points.append(
                (row["rating_after"] > row["rating_before"])
                + 0.5 * (row["rating_after"] == row["rating_before"])
            )
    return sum(points) / len(points) if points else None


def wins_by_sign(rows, max_ratio):
    rows = [row for row in rows if row["rating_after"] is not None]
    rows = [
        row
        for row in rows
        if abs(math.log(words(row["after"]) / words(row["before"]))) <= math.log(max_ratio) + 1e-9
    ]
    if not rows:
        return None
    return np.mean([(1 + np.sign(row["rating_after"] - row["rating_before"])) / 2 for row in rows])


def wins_of(tie=0.5, both_ways=True, size=words, refused=0, none=None, edge=True):
    """What a misunderstanding gives."""

    def rate(rows, max_ratio):
        points = []
        for row in rows:
            if row["after"] is None:
                continue
            before, after = size(row["before"]), size(row["after"])
            ratio = max(after / before, before / after) if both_ways else after / before
            if ratio < max_ratio or (edge and ratio == max_ratio):
                gain = row["rating_after"] - row["rating_before"]
                points.append(tie if gain == 0 else float(gain > 0))
        return sum(points) / (len(points) + refused) if points else none

    return rate


class Wished(EvolQuality):
    title: str = ""
    wish: str = ""

    def criterion(self, row, evolution=0):
        return self.title

    def format_input(self, row, criterion=None):
        return [{"role": "user", "content": self.prompt(row)}]

    def prompt(self, row):
        parts = [
            self.wish,
            "# Question",
            row["instruction"],
            "# Answer so far",
            row["response"],
            "# Your answer",
        ]
        return "\n".join(parts)


def wished(llm, name, wish):
    return Wished(llm=llm, title=name, wish=wish)


SOURCE = "Rule: {{ wish }}\n\nAsked:\n{{ instruction }}\n\nAnswered:\n{{ response }}\n\nNow you:"


def by_template(llm, name, wish):
    template, _ = parsed(SOURCE)

    class Own(EvolQuality):
        def check(self):
            self.criteria = [name]

        def format_input(self, row, criterion=None):
            prompt = filled(template, wish=wish, instruction=row["instruction"], response=row["response"])
            return [{"role": "system", "content": "Follow the rule."}, {"role": "user", "content": prompt}]

        def fault(self, rewrite, trace, prompt):
            labels = {"Asked", "Answered", "Now you", "Follow the rule"}
            leaked = any(line.strip(":. ") in labels for line in rewrite.splitlines())
            return super().fault(rewrite, trace, prompt) or ("label" if leaked else None)

    return Own(llm=llm)


def by_task(llm, name, wish):
    class Own(Task):
        inputs = ["instruction", "response"]
        outputs = ["evolved_response", "evolution_criteria", "model_name"]

        def format_input(self, row):
            content = f"{wish}\n\n# The question\n{row['instruction']}\n\n# The draft\n{row['response']}\n\n# The rewrite"
            return [{"role": "user", "content": content}]

        def format_output(self, output, row):
            prompt = self.format_input(row)[0]["content"]
            fault = rewrite_fault(output, row["response"], prompt, [row["instruction"]])
            return {"evolved_response": None if fault else output, "evolution_criteria": [name]}

    return Own(llm=llm)


def variant(**changed):
    """A rewriter whose class has something else instead."""

    def rewriter(llm, name, wish):
        return type("Variant", (Wished,), changed)(llm=llm, title=name, wish=wish)

    return rewriter


def replaced(self, row):
    prompt = f"{self.wish}\n# Question\n<INSTRUCTION>\n# Answer so far\n<RESPONSE>\n# Your answer"
    return prompt.replace("<INSTRUCTION>", row["instruction"]).replace("<RESPONSE>", row["response"])


def formatted(self, row):
    return f"{self.wish}\n# Question\n{row['instruction']}\n# Draft\n{{response}}".replace(
        "{response}", row["response"]
    )


def as_template(self, row):
    source = f"{self.wish}\n# Question\n{row['instruction']}\n# Draft\n{row['response']}"
    return filled(parsed(source.replace("{%", "").replace("%}", ""))[0], x="", instruction="", response="")


def stripped(self, row):
    return Wished.prompt(self, {**row, "response": row["response"].replace("{{", "")})


def without_wish(self, row):
    return f"Make it better.\n# Question\n{row['instruction']}\n# Draft\n{row['response']}\n# Yours"


def labelled(self, row):
    return f"{self.wish}\nQuestion:\n{row['instruction']}\nDraft:\n{row['response']}\nYours:"


class Skipping(Wished):
    def process(self, rows):
        yield from super().process(rows[:1])


class Dropping(Wished):
    def process(self, rows):
        for made in super().process(rows):
            yield made[:1]


class Deaf(Wished):
    def process(self, rows):
        first, *others = rows
        [made] = super().process([first])
        yield [made[0], *({**row, "evolved_response": made[0]["evolved_response"]} for row in others)]


class RefusesEcho(EvolQuality):
    def fault(self, rewrite, trace, prompt):
        echo = f" {plain(trace.row['instruction'])} " in f" {plain(rewrite)} "
        return super().fault(rewrite, trace, prompt) or ("echo" if echo else None)


class RefusesEchoByWords(EvolQuality):
    def fault(self, rewrite, trace, prompt):
        asked, said = (re.findall(r"\w+", text.lower()) for text in (trace.row["instruction"], rewrite))
        inherited = super().fault(rewrite, trace, prompt)
        if inherited is None and any(said[k : k + len(asked)] == asked for k in range(len(said))):
            return "it repeats the question"
        return inherited


def refusing(reason, inherited=True, result="echo"):
    """A class that refuses where `reason(rewrite, instruction)` holds."""

    class Refusing(EvolQuality):
        def fault(self, rewrite, trace, prompt):
            mine = result if reason(rewrite, trace.row["instruction"]) else None
            return (super().fault(rewrite, trace, prompt) if inherited else None) or mine

    return Refusing


class OnceRefused(EvolQuality):
    """Never forgets an echo."""

    def fault(self, rewrite, trace, prompt):
        trace.row.setdefault("seen", []).append(rewrite)
        return super().fault(rewrite, trace, prompt) or (
            "echo" if any(map(echoes, trace.row["seen"])) else None
        )


def echoes(rewrite, instruction="What is the capital of France?"):
    return plain(instruction) in plain(rewrite)


class Broken(EvolQuality):
    def fault(self, rewrite, trace, prompt):
        return trace["instruction"]


RIGHT = {
    "after_a_change": [CHANGES, {name: np.bool_(value) for name, value in reversed(CHANGES.items())}],
    "count_outcomes": [outcomes, outcomes_by_hand],
    "leaks_heading": [leaks_by_label, leaks_by_pattern],
    "leaked_pairs": [LEAKED, set(LEAKED), tuple(reversed(LEAKED))],
    "limit_for_padded": [5.3, 5.0, np.float64(5.7)],
    "win_rate": [wins, wins_by_sign],
    "own_criterion": [wished, by_template, by_task],
    "refuses_echo": [RefusesEcho, RefusesEchoByWords, refusing(echoes)],
}
WRONG = {
    "after_a_change": [
        ({**CHANGES, "order": True}, "Order: in a trial with 20 rows, 0 got another criterion"),
        ({**CHANGES, "seed": False}, "Seed: in a trial"),
        ({**CHANGES, "response": False}, "Response: in a trial"),
        ({**CHANGES, "other column": True}, "Other column: in a trial with 20 rows, 0 got"),
        ({**CHANGES, "order": "no"}, "expected False"),
        ({"order": False}, "Expected the keys"),
        ([False, True, True, False], "Expected a dict"),
    ],
    "count_outcomes": [
        (
            lambda rows: Counter(failure for row in rows for failure in row["evolution_failures"]),
            "under the name 'used'",
        ),
        (
            lambda rows: Counter(row["evolution_failures"][-1] or "used" for row in rows),
            "each rewrite of a chain counts",
        ),
        (
            lambda rows: {name: count for name, count in outcomes(rows).items() if name != "used"},
            "For one rewrite a row: your answer gives",
        ),
        (lambda rows: {**outcomes(rows), "used": outcomes(rows)["used"]}, "For no rows"),
        (
            lambda rows: {**outcomes(rows), "too long": outcomes(rows)["too long"]},
            "For chains of three rewrites: your answer",
        ),
        (
            lambda rows: {**outcomes(rows), "refused": 1} if len(rows) == 2 else outcomes(rows),
            "For chains of three",
        ),
        (
            lambda rows: outcomes(rows) if len(rows) != 2 else 3,
            "For chains of three rewrites: your answer gives 3",
        ),
        (lambda rows: sum(outcomes(rows).values()), "expected {'used': 2"),
        (lambda rows: outcomes(rows["evolution_failures"]), "raised TypeError"),
        ({"used": 2}, "Expected a function"),
    ],
    "leaks_heading": [
        (leaks_by_words, "in a sentence"),
        (leaks_by_beginning, "A sentence that begins with a heading's words"),
        (leaks_letter_by_letter, "A heading with another number of #"),
        (leaks_without_colon, "A heading and a colon"),
        (leaks_first_line, "A heading further down"),
        (leaks_fixed, "A heading of another prompt"),
        (
            lambda rewrite, prompt: leaks_by_label(rewrite, prompt) or "Short version" in prompt,
            "not in this prompt",
        ),
        (leaks_lines, "A prompt without headings"),
        (any_heading, "A heading of its own"),
        (lambda rewrite, prompt: leaks_by_label(rewrite, prompt) or not rewrite, "An empty text"),
        (lambda rewrite, prompt: rewrite_fault(rewrite, "", prompt), "Expected True or False"),
        (lambda rewrite, prompt: rewrite.heading, "raised AttributeError"),
        (lambda rewrite: False, "raised TypeError"),
        (False, "Expected a function"),
    ],
    "leaked_pairs": [
        (SIGNED, "that begins with #"),
        (COLON, "are pairs without such a line"),
        ([pair["id"] for pair in PAIRS if "#" in pair["chosen"]], "are pairs without such a line"),
        ([*LEAKED, 10_000], "1 of your 4 ids"),
        (LEAKED[:2], "1 of 3 ids are missing"),
        ([], "3 of 3 ids are missing"),
        (4, "Expected a list"),
    ],
    "limit_for_padded": [
        (1.0, "the line of the wrong answers"),
        (1.15, "the line of the wrong answers"),
        (0.85, "the line of the wrong answers"),
        (1.5, "too low: at 1.5, 8"),
        (0.5, "too low"),
        (2.9, "too low"),
        (5.9, "too high"),
        (7, "too high"),
        (0, "above 0"),
        (-3.4, "above 0"),
        ("3.4", "Expected a number"),
    ],
    "win_rate": [
        (wins_of(tie=0.0), "ties were counted as losses"),
        (wins_of(tie=1.0), "ties were counted as wins"),
        (wins_of(both_ways=False), "may also shrink"),
        (wins_of(size=len), "counted characters"),
        (wins_of(refused=1), "the refused rewrite was counted as a loss"),
        (wins_of(none=0.0), "expected None"),
        (wins_of(edge=False), "max_ratio 2"),
        (lambda rows, max_ratio: wins(rows, math.inf), "For 12 rows and max_ratio 2"),
        (lambda rows, max_ratio: wins(rows, min(max_ratio, 2)), "For 12 rows and max_ratio inf"),
        (
            lambda rows, max_ratio: wins(rows, max_ratio) if len(rows) != 1 else 1.0,
            "For 1 rows and max_ratio 2",
        ),
        (lambda rows, max_ratio: f"{wins(rows, max_ratio):.0%}", "expected 0.68"),
        (
            lambda rows, max_ratio: (
                sum(row["rating_after"] > row["rating_before"] for row in rows) / len(rows)
            ),
            "raised TypeError",
        ),
        (0.5, "Expected a function"),
    ],
    "own_criterion": [
        (lambda llm, name, wish: EvolQuality(llm=llm), "The criterion is not in the prompt"),
        (variant(prompt=without_wish), "The criterion is not in the prompt"),
        (variant(prompt=replaced), "is not in the prompt as it was given"),
        (variant(prompt=formatted), "is not in the prompt as it was given"),
        (variant(prompt=as_template), "The instruction is not in the prompt as it was given"),
        (variant(prompt=stripped), "The response is not in the prompt as it was given"),
        (variant(prompt=labelled), "repeats a line of your prompt"),
        (
            variant(fault=lambda self, rewrite, trace, prompt: rewrite_fault(rewrite, trace.text)),
            "repeats a line of your prompt",
        ),
        (variant(fault=lambda self, rewrite, trace, prompt: "no"), "a sound rewrite must be used"),
        (variant(criterion=lambda self, row, evolution=0: "details"), "The column evolution_criteria"),
        (lambda llm, name, wish: Dropping(llm=llm, title=name, wish=wish), "3 rows went in, 1 came out"),
        (lambda llm, name, wish: Skipping(llm=llm, title=name, wish=wish), "was asked 1 times"),
        (lambda llm, name, wish: Deaf(llm=llm, title=name, wish=wish), "was asked 1 times"),
        (
            lambda llm, name, wish: TextGeneration(llm=llm, template="Make it better."),
            "The instruction is not in the prompt",
        ),
        (lambda llm, name, wish: TextGeneration(llm=llm), "The response is not in the prompt"),
        (lambda llm, name, wish: EvolQuality(llm=llm, mutation_templates=[name]), "unknown criterion"),
        (lambda llm, name, wish: Wished, "a task, made of its class"),
        (lambda llm, name, wish: wish, "Expected a task"),
        (Wished(llm=None), "Expected a function"),
    ],
    "refuses_echo": [
        (EvolQuality, "With the instruction, then an answer"),
        (type("Same", (EvolQuality,), {}), "was used. Refuse it"),
        (refusing(lambda rewrite, asked: rewrite.startswith(asked)), "in bold capitals"),
        (refusing(lambda rewrite, asked: asked.lower() in rewrite.lower()), "without its question mark"),
        (refusing(lambda rewrite, asked: plain(rewrite).startswith(plain(asked))), "in the middle"),
        (
            refusing(
                lambda rewrite, asked: set(plain(asked).split()) - {"what"} <= set(plain(rewrite).split())
            ),
            "in the words of",
        ),
        (
            refusing(lambda rewrite, asked: echoes(rewrite) or "?" in rewrite),
            "a question that is another one",
        ),
        (refusing(echoes, inherited=False), "the inherited check"),
        (refusing(echoes, result=True), "expected a short text"),
        (OnceRefused, "sound second attempt"),
        (Broken, "raised TypeError"),
        (EvolQuality(llm=None), "Expected a subclass of EvolQuality"),
        (TextGeneration, "Expected a subclass of EvolQuality"),
    ],
}

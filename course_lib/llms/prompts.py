"""From chats to token ids and back: what a model reads, and where its completion ends."""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from course_lib.errors import InputError, WeightsError
from course_lib.llms.base import Chat
from course_lib.llms.folders import Weights

TEMPLATE_SECONDS = 5  # a template takes less than a thousandth of it
MARK = "\ue000"  # a character of private use, which texts seldom have


def folded(chat: Chat) -> Chat:
    """`chat` with its system messages in front of the first message of the user, for templates that take none."""
    texts = [message["content"] for message in chat if message["role"] == "system"]
    rest = [dict(message) for message in chat if message["role"] != "system"]
    for message in rest:
        if message["role"] == "user":
            message["content"] = "\n\n".join([*texts, message["content"]])
            return rest
    return chat


class Prompts:
    """A tokenizer with the chat template, stop strings and completion prefix of its weights.

    Text from messages is text: a control token spelled out inside it is encoded letter by letter, so that no
    instruction can open a new turn. A base model in a frame of plain words (`question_answer.jinja2`) has no control
    tokens: there an instruction that holds "Answer: …" and "Question: …" on lines of their own reads like turns.
    """

    def __init__(self, tokenizer, weights: Weights):
        if weights.chat_template:
            tokenizer.chat_template = weights.chat_template
        if not tokenizer.chat_template:
            raise InputError(
                f"{weights.name} has no chat template, so it is probably a base model. Give one with chat_template=…; "
                "course_lib.llms.weights.chat_template('question_answer.jinja2') is a few-shot frame for such models."
            )
        self.tokenizer, self.weights = tokenizer, weights

    def render(self, chat: Chat) -> str:
        """The text that the model reads for `chat`. A final assistant message is left open, to be continued."""
        messages, opened = chat, ""
        if chat[-1]["role"] == "assistant":
            messages, opened = chat[:-1], self.weights.completion_prefix + chat[-1]["content"]
        return encodable(self._templated(messages if self.takes_system else folded(messages)) + opened)

    def _templated(self, messages: Chat) -> str:
        try:
            with _time_limit(TEMPLATE_SECONDS):
                return self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True
                )
        except TimeoutError as error:
            raise WeightsError(
                f"The chat template of {self.weights.name} has not ended after {TEMPLATE_SECONDS} s, so it may never "
                "end. Give another one with chat_template=…, or choose another model."
            ) from error
        except Exception as error:
            roles = ", ".join(message["role"] for message in messages) or "none"
            raise InputError(
                f"The chat template of {self.weights.name} refuses messages of these roles: {roles} ({error}). "
                "Ask in another form, or give another one with chat_template=…."
            ) from error

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template shows a system message; that of Gemma 2 raises, others leave it out without a word."""
        messages = [{"role": "system", "content": MARK}, {"role": "user", "content": "Hello."}]
        try:
            return MARK in self._templated(messages)
        except InputError:
            return False

    def encode(self, chat: Chat) -> list[int]:
        """Token ids of `chat`, each control token of the template once; for an empty chat, one that begins a text."""
        if not chat:
            start = self.tokenizer.bos_token_id
            return [start if start is not None else self.tokenizer.eos_token_id]
        shielded, secrets = self._shielded(chat)
        text, marks = self.render(shielded), "|".join(secrets)
        pieces = re.split(f"({marks})", text) if secrets else [text]
        return [token for piece in pieces for token in self._ids(secrets.get(piece, piece), piece in secrets)]

    def encode_all(self, chats: list[Chat]) -> list[list[int]]:
        """Token ids of each of `chats`; what stands there more than once is encoded once."""
        texts = [json.dumps(chat) for chat in chats]
        tokens = {text: self.encode(chat) for text, chat in dict(zip(texts, chats, strict=True)).items()}
        return [tokens[text] for text in texts]

    def encode_completion(self, completion: str) -> list[int]:
        """Token ids of a completion as it follows a prompt; none for an empty one."""
        return self._ids(self.weights.completion_prefix + completion) if completion else []

    def encode_choices(self, choices: list[str], after_prefill: bool) -> tuple[list[int], list[int]]:
        """What all choices begin with, and the token of each that follows it and tells it apart."""
        prefix = "" if after_prefill else self.weights.completion_prefix
        spelled = [self._ids(prefix + choice) for choice in choices]
        shared = 0
        while all(len(ids) > shared + 1 for ids in spelled) and len({ids[shared] for ids in spelled}) == 1:
            shared += 1
        tokens = [ids[shared] for ids in spelled if ids]
        if len(choices) < 2 or len(set(tokens)) < len(choices):
            raise InputError(
                f"The choices {choices} must be two or more and begin differently in the tokens of {self.weights.name}, "
                f"where they are {[self.tokenizer.convert_ids_to_tokens(ids) for ids in spelled]}."
            )
        return spelled[0][:shared], tokens

    def encode_question(self, question: str) -> list[int]:
        """Token ids of a next message that asks `question`, as they follow a completion, up to where its answer begins."""
        turns = [("user", MARK), ("assistant", MARK), ("user", question)]
        text = self.render([{"role": role, "content": content} for role, content in turns])
        return self._ids(text.split(MARK)[2], plain=False)

    def text(self, tokens: list[int], stop_strings: list[str]) -> str:
        """The completion that `tokens` spell, up to the first stop string, without the spaces around it."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        ends = [text.find(stop) for stop in stop_strings if stop in text]
        return text[: min(ends, default=len(text))].strip()

    def stopper(self, stop_strings: list[str]):
        """A test of growing token ids: has the text reached a stop string?"""
        # A stop string of n characters lies within the last n + 4 tokens, unless tokens are empty.
        tail = max(map(len, stop_strings), default=0) + 4

        def reached(tokens: list[int]) -> bool:
            text = self.tokenizer.decode(tokens[-tail:])
            return any(stop in text for stop in stop_strings)

        return reached if stop_strings else lambda tokens: False

    def _ids(self, text: str, plain: bool = True) -> list[int]:
        return self.tokenizer(encodable(text), add_special_tokens=False, split_special_tokens=plain).input_ids

    @cached_property
    def _specials(self) -> list[str]:
        tokens = {str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        return sorted(tokens | set(self.tokenizer.all_special_tokens), key=len, reverse=True)

    def _shielded(self, chat: Chat) -> tuple[Chat, dict[str, str]]:
        """`chat` with marks in place of control tokens in its content, and the token that each mark hides."""
        secrets: dict[str, str] = {}
        everything = "".join(message["content"] for message in chat)
        for number, special in enumerate(self._specials):
            if special in everything:
                mark = f"{MARK}{number}\ue001"
                while mark in everything:
                    mark = MARK + mark
                secrets[mark] = special
        for mark, special in secrets.items():
            chat = [{**message, "content": message["content"].replace(special, mark)} for message in chat]
        return chat, secrets


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in Python code that runs for longer than `seconds`, in any thread."""
    end, before = time.monotonic() + seconds, sys.gettrace()

    def watch(frame, event, argument):
        if time.monotonic() > end:
            raise TimeoutError
        return watch

    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


def encodable(text: str) -> str:
    """`text` with a question mark for each half of a surrogate pair, which is no character and which tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")

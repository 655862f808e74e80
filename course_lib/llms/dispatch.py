"""Many requests at once to a server that may be slow, busy or broken."""

import asyncio
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any

from course_lib.errors import CourseLibError, EndpointError
from course_lib.llms.answers import MALFORMED, REFUSED, Failure
from course_lib.llms.chats import Chat
from course_lib.llms.servers import SCHEMA

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before a request is sent again, doubled each time
SHORTEST_GAP = 0.05  # seconds between two requests after a server was asked too often
GATHERING = 0.02  # seconds in which answers come together as one batch, which is one transaction of the store
PATIENCE = 600.0  # seconds; a server that asks to wait longer is as good as closed
MOST_FAILURES = 20  # requests that fail one after the other before nothing more is asked
KEPT = "What was answered before is kept: run again, and only the rest is asked."


class Secret:
    """A text that nothing shows; `reveal()` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str):
        self._text = text.strip()

    def __repr__(self) -> str:
        return "'***'"

    def __bool__(self) -> bool:
        return bool(self._text)

    def reveal(self) -> str:
        return self._text


@dataclass
class Job:
    """One request, for as many completions as there are `positions`."""

    positions: list[int]
    chat: Chat
    options: dict[str, Any]

    @property
    def body(self) -> dict[str, Any]:
        number = {"n": len(self.positions)} if len(self.positions) > 1 else {}
        return {**self.options, **number}

    def alone(self, position: int) -> "Job":
        """The job of one of the positions."""
        return Job([position], self.chat, seeded(self.options, self.positions.index(position)))


def seeded(options: dict[str, Any], draw: int) -> dict[str, Any]:
    """`options` with the seed of a draw, whatever the server calls it."""
    seeds = {name: (options[name] + draw) % 2**31 for name in ("seed", "random_seed") if name in options}
    return {**options, **seeds}


class Dispatcher:
    """Sends requests to one server, and remembers from call to call what it knows of it.

    Whether it ever `answered`; how many `failures` came since; whether it `refuses_schema`; until when it is `closed`;
    when the `turn` of the next request is; and the `gap` between two turns, which grows when the server is asked too often
    and shrinks with answers.
    """

    def __init__(self):
        self.answered, self.failures, self.refuses_schema = False, 0, False
        self.closed = self.turn = self.gap = 0.0

    def batches(self, llm: Any, jobs: deque[Job], read: Callable, on_failure: Callable) -> Iterator[dict]:
        """Batches `{position: result}` as answers come; from a thread of its own, since in a notebook a loop runs already.

        Args:
            llm: an `OpenAILLM`.
            jobs: emptied on the way.
            read: positions and an answer to `{position: result}`.
            on_failure: a `Failure` to the result of one position.
        """
        loop, ready = asyncio.new_event_loop(), SimpleQueue()
        work = loop.create_task(self._all(llm, jobs, read, on_failure, ready.put))
        work.add_done_callback(ready.put)
        thread = Thread(target=loop.run_until_complete, args=(asyncio.wait({work}),), daemon=True)
        thread.start()
        try:
            parts: list[Any] = []
            while work not in parts:
                parts = [ready.get()]
                if jobs:
                    time.sleep(GATHERING)
                while not ready.empty():
                    parts.append(ready.get())
                if batch := {p: result for part in parts if part is not work for p, result in part.items()}:
                    yield batch
            if (error := work.result()) is not None:
                raise error
        finally:
            loop.call_soon_threadsafe(work.cancel)
            thread.join()
            loop.close()

    async def _all(self, llm, jobs, read, on_failure, put) -> Exception | None:
        async def work() -> None:
            while jobs:
                put(await self._results(llm, client, jobs, read, on_failure))

        async with llm.client() as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(len(jobs), llm.max_concurrent_requests)):
                        group.create_task(work())
            except ExceptionGroup as errors:
                return errors.exceptions[0]
        return None

    async def _results(self, llm, client, jobs: deque[Job], read, on_failure) -> dict[int, Any]:
        """The results of the next job; what its answer lacks becomes jobs of their own."""
        job = jobs.popleft()
        results = await self._patiently(llm, client, job, read)
        if isinstance(results, Failure):
            self.failures += results.passes or not (self.answered or SCHEMA in job.options)
            if self.failures >= MOST_FAILURES:
                sentence = f"The last {MOST_FAILURES} requests to {llm.address} failed, the last with: {results.message}."
                raise EndpointError(f"{sentence} {KEPT}")
            return dict.fromkeys(job.positions, on_failure(results))
        self.answered, self.failures, self.gap = True, 0, 0.9 * self.gap
        jobs.extend(job.alone(position) for position in job.positions if position not in results)
        return results

    async def _patiently(self, llm, client, job: Job, read) -> dict[int, Any] | Failure:
        attempt, waited = 0, 0.0
        while True:
            if self.refuses_schema and SCHEMA in job.options:
                return Failure(400, f"no {SCHEMA}, as said before")
            await self._in_turn()
            try:
                answer = await llm.post(client, job.chat, job.body)
                failure = Failure(MALFORMED, f"not a chat completion: {str(answer)[:100]}")
            except Exception as error:
                answer, failure = None, Failure.of(error, llm.key.reveal())
            if answer is not None:
                try:
                    return read(job.positions, answer)
                except (LookupError, TypeError, ValueError, AttributeError) as error:
                    if isinstance(error, CourseLibError):
                        raise
            last = attempt >= llm.max_retries or waited > PATIENCE
            if sentence := self._remedy(failure, llm, job, last):
                raise EndpointError(f"{sentence} {KEPT}" if self.answered else sentence)
            if last or not failure.passes:
                return failure
            if failure.wait is None:
                wait = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.75, 1.25)
                attempt += 1
            else:
                wait = failure.wait
                waited += wait
            if failure.status in (429, 503):
                self._close(wait)  # for all requests, not for this one alone
            else:
                await asyncio.sleep(wait)

    def _close(self, wait: float) -> None:
        now = time.monotonic()
        if now >= self.closed:  # else the server said the same to another request before
            self.gap = min(max(2 * self.gap, SHORTEST_GAP), LONGEST_WAIT)
        self.closed = max(self.closed, now + wait)

    async def _in_turn(self) -> None:
        while (now := time.monotonic()) < max(self.turn, self.closed):
            turn = max(self.turn, self.closed)
            self.turn = turn + self.gap
            await asyncio.sleep(turn - now)
            if self.closed <= turn:
                return
        self.turn = now + self.gap

    def _remedy(self, failure: Failure, llm, job: Job, last: bool) -> str | None:
        """What to mend where every other request would fail as well."""
        status, message, server = failure.status, failure.message, f"The server at {llm.address}"
        if failure.filtered:
            return None
        if failure.unreachable and (last or not self.answered):
            return f"No server answers at {llm.address}. Start it, or check base_url and the network."
        if status == REFUSED and not self.answered:
            return f"{llm!r} cannot be asked ({message})."
        if status == 401 or (status == 403 and not self.answered):
            variable = f", or set {llm.key_variable}" if llm.key_variable else ""
            return f"{server} does not accept the key ({message}). Give another api_key=…{variable}."
        if status == 402 or "insufficient_quota" in failure.text or (failure.wait or 0) > PATIENCE:
            waits = f" It asks to wait {failure.wait:.0f} seconds." if failure.wait else ""
            return f"{server} gives no more on this key ({message}).{waits}"
        if status in (400, 422) and SCHEMA in job.options:
            # Whoever asks with a schema asks again without, and then hears what else is wrong.
            self.refuses_schema |= bool(re.search("response.?format|schema", failure.text, re.I))
            return None
        if status in (400, 422):
            options = [name for name in job.body if not name.startswith("max_")]
            if refused := [name for name in options if re.search(f"[\"'`]{name}[\"'`]", failure.text)]:
                advice = f"Leave it out: {type(llm).__name__}(…, unsupported={refused})."
                return f"{server} does not take {', '.join(refused)} ({message}). {advice}"
        if status == 404 and "questions" in job.options:
            return f"{server} decides nothing ({message}): leave can_score out, or check base_url."
        named = re.search(rf"(?<![\w./-]){re.escape(llm.model)}(?![\w./-])", message) and not self.answered
        if status == 404 or (status in (400, 422) and named):
            return f"{server} has no model {llm.model!r} ({message}). Check model and base_url."
        return None

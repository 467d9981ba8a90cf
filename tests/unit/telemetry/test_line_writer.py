"""When a log line leaves the process, and in which order."""

from __future__ import annotations

import asyncio
import io
from threading import Thread

from luma_memory.telemetry.line_writer import LineWriter


class Stream(io.StringIO):
    """Remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)


def test_without_a_loop_each_line_leaves_at_once() -> None:
    out = Stream()
    LineWriter(out).info("one")
    assert out.writes == ["one\n"]


async def test_lines_of_one_turn_leave_together() -> None:
    out = Stream()
    writer = LineWriter(out)
    writer.info("one")
    writer.warning("two")
    assert out.writes == []
    await asyncio.sleep(0)
    assert out.writes == ["one\ntwo\n"]
    writer.info("three")
    await asyncio.sleep(0)
    assert out.writes[1:] == ["three\n"]


async def test_an_error_does_not_wait_and_overtakes_nothing() -> None:
    out = Stream()
    writer = LineWriter(out)
    writer.info("one")
    writer.error("two")
    assert out.writes == ["one\ntwo\n"]
    await asyncio.sleep(0)
    assert len(out.writes) == 1


async def test_a_line_of_a_thread_does_not_wait_and_overtakes_nothing() -> None:
    out = Stream()
    writer = LineWriter(out)
    writer.info("one")
    thread = Thread(target=writer.info, args=["two"])
    thread.start()
    thread.join()
    assert out.writes == ["one\ntwo\n"]


def test_a_loop_that_ended_too_early_keeps_no_line_back() -> None:
    out = Stream()
    writer = LineWriter(out)
    loop = asyncio.new_event_loop()

    async def say_and_stop() -> None:
        writer.info("last")
        loop.stop()

    task = loop.create_task(say_and_stop())
    loop.call_soon(task.cancel)  # never awaited
    loop.run_forever()
    loop.close()
    asyncio.run(_say(writer, "first of the next"))
    assert "".join(out.writes) == "last\nfirst of the next\n"


async def _say(writer: LineWriter, line: str) -> None:
    writer.info(line)
    await asyncio.sleep(0)


def test_logging_while_a_line_is_written_does_not_deadlock() -> None:
    """A destructor that the garbage collector runs at that moment may log."""

    class Speaking(Stream):
        def flush(self) -> None:
            if len(self.writes) == 1:
                writer.error("from within")

    out = Speaking()
    writer = LineWriter(out)
    writer.info("one")
    assert out.writes == ["one\n", "from within\n"]


def test_characters_the_stream_cannot_encode_are_escaped() -> None:
    kept = io.BytesIO()
    LineWriter(io.TextIOWrapper(kept, encoding="ascii")).info("naïve")
    assert kept.getvalue() == b"na\\xefve\n"


async def test_a_closed_stream_raises_nothing() -> None:
    class Broken(Stream):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    writer = LineWriter(Broken())
    writer.info("one")
    writer.error("two")
    await asyncio.sleep(0)
    closed = Stream()
    closed.close()
    LineWriter(closed).error("three")

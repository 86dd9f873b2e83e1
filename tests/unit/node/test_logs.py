"""Workers' lines as the driver shows them."""

from __future__ import annotations

import io

from freehold._core.ids import Address
from freehold._core.messages import LogLines
from freehold._io.logs import QUEUED_LINES, REPEAT_S, LogPrinter, Repetitions
from freehold.testing import eventually

A, B, C = (Address("n" * 32, number) for number in (1, 2, 3))
OUT = io.StringIO()


def test_lines_have_a_prefix_and_go_to_their_stream() -> None:
    out, err = io.StringIO(), io.StringIO()
    printer = LogPrinter(out, err)
    printer.handle(LogLines(A, 11, "train", ["one", "two"]))
    printer.handle(LogLines(B, 12, "", ["oh"], is_error=True))
    printer.close()
    assert out.getvalue() == "(train pid=11) one\n(train pid=11) two\n"
    assert err.getvalue() == "(worker pid=12) oh\n"


def test_a_terminal_gets_colour() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    printer = LogPrinter(out, out)
    printer.handle(LogLines(A, 11, "train", ["one"]))
    printer.close()
    assert out.getvalue() == "\033[36m(train pid=11)\033[0m one\n"


def test_repetitions_of_others_are_counted_at_the_end() -> None:
    out = io.StringIO()
    printer = LogPrinter(out, out)
    for process, pid in ((A, 11), (B, 12), (C, 13)):
        printer.handle(LogLines(process, pid, "f", ["same"]))
    printer.close()
    assert out.getvalue().splitlines() == [
        "(f pid=11) same",
        "(f pid=13) same [repeated 2x across cluster]",
    ]


def test_a_process_may_repeat_itself() -> None:
    repetitions = Repetitions()
    assert repetitions.is_new("x", A, "(a)", OUT, 0.0)
    assert repetitions.is_new("x", A, "(a)", OUT, 1.0)
    assert repetitions.due(REPEAT_S) == []


def test_repetitions_are_said_after_a_while_and_then_forgotten() -> None:
    repetitions = Repetitions()
    repetitions.is_new("x", A, "(a)", OUT, 0.0)
    assert not repetitions.is_new("x", B, "(b)", OUT, 1.0)
    assert repetitions.due(REPEAT_S - 0.1) == []
    assert repetitions.next_due() == REPEAT_S
    assert repetitions.due(REPEAT_S) == [(OUT, "(b)", "x [repeated 1x across cluster]")]
    assert repetitions.is_new("x", B, "(b)", OUT, REPEAT_S)


def test_what_outruns_the_terminal_is_cut_and_the_cut_is_said() -> None:
    class Stuck(io.StringIO):
        is_stuck = True

        def write(self, text: str) -> int:
            eventually(lambda: not self.is_stuck)
            return super().write(text)

    out, err = Stuck(), io.StringIO()
    printer = LogPrinter(out, err)
    for _ in range(3):
        printer.handle(LogLines(A, 11, "f", ["x"] * (QUEUED_LINES // 2)))
    out.is_stuck = False
    printer.close()
    assert err.getvalue().startswith(f"(freehold) ({QUEUED_LINES // 2} lines left out")

"""The row of the control plane's traffic: its pace, its counts, the relay that counts."""

from __future__ import annotations

import socket
import threading

import pytest
from benchmarks.counting_proxy import CountingProxy
from benchmarks.machines import samples
from benchmarks.rows.control import (
    BUSY_SHARE,
    FEW,
    MANY,
    NODES,
    TICK_S,
    WINDOW_S,
    Traffic,
    busy_seconds,
    difference_percent,
    due,
    minus,
    task_seconds,
)

from freehold.testing import eventually


def test_both_loads_keep_the_slots_busy_for_the_same_time() -> None:
    busy = [count * task_seconds(count, WINDOW_S, NODES) for count in (FEW, MANY)]
    assert busy == [pytest.approx(WINDOW_S * NODES * BUSY_SHARE)] * 2


def test_a_slot_is_busy_between_tasks_that_follow_each_other() -> None:
    spans = [(2.001, 2.002), (1.0, 1.5), (2.0, 2.0005)]
    assert busy_seconds(spans) == pytest.approx(0.5 + 0.002)
    assert busy_seconds([]) == 0


def test_calls_are_due_at_an_even_pace_and_are_all_made() -> None:
    ticks = round(WINDOW_S / TICK_S)
    assert [due(FEW, ticks, tick) for tick in (1, 2, ticks)] == [15, 31, FEW]
    assert [due(MANY, ticks, tick) for tick in (1, ticks)] == [1_562, MANY]


@pytest.mark.parametrize(("few", "many", "percent"), [(200, 210, 5), (200, 190, 5), (200, 200, 0)])
def test_difference_counts_both_ways(few: float, many: float, percent: float) -> None:
    assert difference_percent(few, many) == pytest.approx(percent)


def test_traffic_of_a_window_is_what_came_since() -> None:
    before, after = Traffic(10, 20, 1, 2), Traffic(110, 50, 4, 4)
    assert minus(after, before) == Traffic(100, 30, 3, 2)
    assert minus(after, before).total == 130


def test_samples_of_a_metric_are_told_from_those_of_its_neighbours() -> None:
    text = '# TYPE a counter\na{way="in"} 3\na{way="out"} 4\na_more{way="in"} 5\nb 6\n'
    assert samples(text, "a") == {'way="in"': 3.0, 'way="out"': 4.0}
    assert samples(text, "b") == {"": 6.0}


def test_relay_counts_what_passes_each_way_and_ends_with_either_side() -> None:
    def answer(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            while data := sock.recv(100):
                sock.sendall(data * 2)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        proxy = CountingProxy(listener.getsockname()[1])
        with socket.create_connection(("127.0.0.1", proxy.port), 5) as sock:
            sock.sendall(b"abc")
            received = b""
            while len(received) < 6:
                received += sock.recv(100)
        assert received == b"abcabc"
        thread.join(5)
        assert not thread.is_alive()
        eventually(lambda: proxy.counts() == (3, 6))
        proxy.close()

"""What `tc` is told for a link, and what a machine without the means is told."""

from __future__ import annotations

import shutil

import pytest

from freehold.testing import NamespaceCluster
from freehold.testing._network import Link, qdisc_commands


def test_a_plain_link_needs_nothing() -> None:
    assert qdisc_commands("eth0", Link()) == []


def test_delay_and_loss_are_one_discipline() -> None:
    link = Link(delay_ms=20, jitter_ms=5, loss_percent=1)
    assert qdisc_commands("eth0", link) == [
        "qdisc add dev eth0 root handle 10: netem limit 4096 delay 20ms 5ms loss 1%"
    ]


def test_a_rate_has_the_rest_below_it() -> None:
    assert qdisc_commands("port1", Link(rate_mbit=100, loss_percent=0.5)) == [
        "qdisc add dev port1 root handle 1: tbf rate 100mbit burst 125000 latency 400ms",
        "qdisc add dev port1 parent 1:1 handle 10: netem limit 4096 delay 0ms loss 0.5%",
    ]


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "nsenter" else name)
    with pytest.raises(RuntimeError, match="need nsenter: install iproute2 and util-linux"):
        NamespaceCluster()


def test_arguments_are_checked_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="need 2 entries, one a node"):
        NamespaceCluster(nodes=2, num_cpus=[1])

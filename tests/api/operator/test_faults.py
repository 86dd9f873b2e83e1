"""Watches that break or go silent, and an API server that is away: nothing is missed for long, and
nobody is restarted for another's fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.api.http_proxy import Fault, HttpProxy, Request
from tests.api.operator.scene import INTERVAL_S, WAIT_S, Scene, worker_group
from tests.api.server import ApiServer
from tests.api.tcp_proxy import TcpProxy

from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.timeout(240)]

Make = Callable[..., Scene]
RECOVERED_S = 120.0


def is_pod_watch(request: Request) -> bool:
    """Watches of pods."""
    return request.is_watch and request.path.endswith("/pods")


def test_a_pod_that_vanished_during_a_dropped_watch_is_noticed(
    scene: Make, tcp_proxy: TcpProxy, api_server: ApiServer, tmp_path: Path
) -> None:
    """After a watch that cannot be resumed, only a list shows what is gone."""
    config = api_server.kubeconfig_for(tcp_proxy.url, tmp_path / "kubeconfig")
    one = scene(config, look_s=3)
    one.cluster(worker_group(replicas=2))
    one.wait_ready(2)
    victim = one.pods()[0]["metadata"]
    with one.kubelet.paused():
        tcp_proxy.silence(new_too=True)
        one.client.delete("Pod", victim["name"], one.namespace, gracePeriodSeconds=0)
        tcp_proxy.drop_connections()
        tcp_proxy.resume()

    def is_replaced() -> bool:
        uids = {p["metadata"]["uid"] for p in one.pods()}
        return len(uids) == 2 and victim["uid"] not in uids

    eventually(is_replaced, WAIT_S, interval_s=INTERVAL_S)
    one.wait_ready(2)
    assert one.operator.restarts == 0


def test_a_silent_connection_recovers(
    scene: Make, tcp_proxy: TcpProxy, api_server: ApiServer, tmp_path: Path
) -> None:
    """Bytes are held on the open connections; new ones pass."""
    config = api_server.kubeconfig_for(tcp_proxy.url, tmp_path / "kubeconfig")
    one = scene(config, look_s=3, request_timeout_s=5)
    one.cluster(worker_group(replicas=1))
    one.wait_ready(1)
    tcp_proxy.silence()
    started = time.monotonic()
    one.patch({"workerGroups": [worker_group(replicas=3)]})
    eventually(lambda: len(one.pods()) == 3, RECOVERED_S, interval_s=INTERVAL_S)
    print(f"recovered after {time.monotonic() - started:.1f} s")


def test_an_outage_of_the_api_restarts_nothing(
    scene: Make, tcp_proxy: TcpProxy, api_server: ApiServer, tmp_path: Path
) -> None:
    config = api_server.kubeconfig_for(tcp_proxy.url, tmp_path / "kubeconfig")
    one = scene(config, look_s=2, request_timeout_s=3)
    one.cluster(worker_group(replicas=2))
    one.wait_ready(2)
    before = {p["metadata"]["uid"] for p in [*one.pods(), *one.pods("head")]}
    tcp_proxy.silence(new_too=True)
    tcp_proxy.drop_connections()
    eventually(lambda: one.operator.probe("/readyz")[0] == 503, WAIT_S, interval_s=0.2)
    until = time.monotonic() + 20
    eventually(lambda: time.monotonic() > until, 30, interval_s=0.5)
    assert one.operator.probe("/healthz") == (200, "ok")
    tcp_proxy.resume()
    tcp_proxy.drop_connections()
    eventually(lambda: one.operator.probe("/readyz")[0] == 200, WAIT_S, interval_s=0.2)
    one.patch({"workerGroups": [worker_group(replicas=3)]})
    one.wait_ready(3)
    assert one.operator.restarts == 0
    assert before <= {p["metadata"]["uid"] for p in [*one.pods(), *one.pods("head")]}


def test_a_dead_watch_makes_the_operator_ill(
    scene: Make, http_proxy: HttpProxy, api_server: ApiServer, tmp_path: Path
) -> None:
    """A watch that never tells anything, though lists show changes, is not cured by patience."""
    config = api_server.kubeconfig_for(http_proxy.url, tmp_path / "kubeconfig")
    http_proxy.add(Fault(is_pod_watch, status=200, times=1, delay_s=600))
    one = scene(config, look_s=1, stale_s=5)
    one.cluster(worker_group(replicas=1))
    # Lists put the cache right all the same.
    one.wait_ready(1)
    eventually(lambda: one.operator.restarts == 1, WAIT_S, interval_s=0.2)
    one.patch({"workerGroups": [worker_group(replicas=2)]})
    one.wait_ready(2)
    assert one.operator.restarts == 1


@pytest.mark.parametrize(
    ("status", "after"),
    [(500, False), (500, True), (429, False), (0, False), (0, True), (409, False), (404, False)],
)
def test_every_write_may_fail_once(
    scene: Make, http_proxy: HttpProxy, api_server: ApiServer, tmp_path: Path,
    status: int, after: bool,
) -> None:  # fmt: skip
    """Each kind of write fails once, before or after it was carried out."""
    config = api_server.kubeconfig_for(http_proxy.url, tmp_path / "kubeconfig")
    seen: set[tuple[str, str]] = set()

    def first_of_its_kind(request: Request) -> bool:
        what = request.verb, request.path.rsplit("/", 1)[-1]
        if not request.is_write or what in seen or request.path.endswith("/events"):
            return False
        seen.add(what)
        return True

    fault = Fault(first_of_its_kind, status=status, times=50, after=after)
    fault.retry_after_s = 1 if status == 429 else None
    fault.reason = {404: "NotFound", 409: "Conflict"}.get(status, "InternalError")
    http_proxy.add(fault)
    one = scene(config, look_s=3)
    one.cluster(worker_group(replicas=2))
    one.head.start_when_ready()
    one.wait_ready(2)
    one.patch({"workerGroups": [worker_group(replicas=1)]})
    one.wait_ready(1)
    one.wait_pods(1)
    assert one.operator.restarts == 0

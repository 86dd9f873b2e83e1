"""The parts that the other tests stand on do what they say: each would fail if its part were away.

The control plane's controllers, its admission, an outage and a return, and both proxies.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.api.client import ApiError, Client
from tests.api.http_proxy import Fault, HttpProxy
from tests.api.server import ApiServer
from tests.api.tcp_proxy import TcpProxy

from freehold.testing import eventually


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": "nowhere/nothing:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod(name)["spec"]},
        },
    }


def test_an_object_is_made_read_and_refused_a_second_time(api: Client, namespace: str) -> None:
    api.create(config_map("one", key="value"), namespace)
    assert api.get("ConfigMap", "one", namespace)["data"] == {"key": "value"}
    with pytest.raises(ApiError) as refused:
        api.create(config_map("one"), namespace)
    assert (refused.value.status, refused.value.reason) == (409, "AlreadyExists")


def test_server_side_apply_keeps_the_fields_of_others(api: Client, namespace: str) -> None:
    api.apply(config_map("shared", a="1"), namespace, manager="first")
    api.apply(config_map("shared", b="2"), namespace, manager="second")
    assert api.get("ConfigMap", "shared", namespace)["data"] == {"a": "1", "b": "2"}
    before = api.get("ConfigMap", "shared", namespace)["metadata"]["resourceVersion"]
    api.apply(config_map("shared", b="2"), namespace, manager="second")
    assert api.get("ConfigMap", "shared", namespace)["metadata"]["resourceVersion"] == before
    api.apply(config_map("shared"), namespace, manager="first")
    assert api.get("ConfigMap", "shared", namespace)["data"] == {"b": "2"}


def test_controllers_make_pods_and_the_collector_deletes_them(api: Client, namespace: str) -> None:
    api.create(deployment("web", 2), namespace)
    pods = eventually(lambda: len(found := api.objects("Pod", namespace)) == 2 and found)
    assert {one["status"]["phase"] for one in pods} == {"Pending"}
    api.patch("Deployment", "web", {"spec": {"replicas": 1}}, namespace, subresource="scale")
    eventually(lambda: len(api.objects("Pod", namespace)) == 1)
    api.delete("Deployment", "web", namespace, propagationPolicy="Background")
    eventually(
        lambda: not api.objects("Pod", namespace) and not api.objects("ReplicaSet", namespace)
    )


def test_a_job_follows_the_status_of_its_pod(api: Client, namespace: str) -> None:
    template = {"spec": {**pod("once")["spec"], "restartPolicy": "Never"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}}
    api.create({**job, "spec": {"template": template, "backoffLimit": 0}}, namespace)
    (made,) = eventually(lambda: api.objects("Pod", namespace, labels="job-name=once"))
    change = {"status": {"phase": "Succeeded"}}
    api.patch("Pod", made["metadata"]["name"], change, namespace, subresource="status")
    eventually(lambda: "Complete" in conditions(api.get("Job", "once", namespace)))


def conditions(found: dict[str, Any]) -> set[str]:
    listed = found.get("status", {}).get("conditions", ())
    return {one["type"] for one in listed if one["status"] == "True"}


def test_a_quota_refuses_what_is_over_it(api: Client, namespace: str) -> None:
    metadata = {"name": "pods"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata}
    api.create({**quota, "spec": {"hard": {"pods": "1"}}}, namespace)
    eventually(lambda: api.get("ResourceQuota", "pods", namespace)["status"].get("hard"))
    api.create(pod("first"), namespace)
    with pytest.raises(ApiError, match="exceeded quota") as refused:
        api.create(pod("second"), namespace)
    assert refused.value.status == 403


def test_a_service_account_may_do_what_its_role_says(api: Client, namespace: str) -> None:
    token = api.call(
        "POST",
        api.path("ServiceAccount", namespace, "default") + "/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )["status"]["token"]
    account = api.with_token(token)
    with pytest.raises(ApiError) as refused:
        account.objects("ConfigMap", namespace)
    assert refused.value.status == 403
    group = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    api.create({**group, "kind": "Role", "metadata": {"name": "r"}, "rules": rules}, namespace)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}]
    binding = {**group, "kind": "RoleBinding", "metadata": {"name": "r"}, "roleRef": reference}
    api.create({**binding, "subjects": subjects}, namespace)
    eventually(lambda: lists(account, namespace))
    with pytest.raises(ApiError):
        account.objects("Secret", namespace)


def lists(account: Client, namespace: str) -> bool:
    try:
        return bool(account.objects("ConfigMap", namespace))
    except ApiError:
        return False


def test_restricted_pod_security_refuses_a_careless_pod(api: Client, namespace: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.patch("Namespace", namespace, {"metadata": {"labels": labels}})
    with pytest.raises(ApiError, match="violates PodSecurity"):
        api.create(pod("careless"), namespace)


def test_a_deleted_namespace_goes(api: Client) -> None:
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "short-lived"}})
    api.create(config_map("inside"), "short-lived")
    api.delete("Namespace", "short-lived")
    eventually(lambda: api.find("Namespace", "short-lived") is None, timeout_s=30)


def test_an_outage_refuses_and_the_data_is_there_afterwards(
    api_server: ApiServer, api: Client, namespace: str
) -> None:
    api.create(config_map("kept", key="value"), namespace)
    uid = api.get("ConfigMap", "kept", namespace)["metadata"]["uid"]
    api_server.stop_api()
    with pytest.raises(ConnectionRefusedError):
        api.get("ConfigMap", "kept", namespace)
    api_server.start_api()
    assert api.get("ConfigMap", "kept", namespace)["metadata"]["uid"] == uid
    # The controllers come back by themselves.
    api.create(deployment("after", 1), namespace)
    eventually(lambda: len(api.objects("Pod", namespace)) == 1, timeout_s=30)


class WatchEnded(Exception):
    """The stream of changes broke."""


class Watch:
    """The names that a watch of ConfigMaps tells of, read by a thread."""

    def __init__(self, api_server: ApiServer, port: int, namespace: str, version: str) -> None:
        context = ssl.create_default_context(cafile=str(api_server.certificates.ca))
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        config = json.loads(api_server.kubeconfig.read_text())
        token = config["users"][0]["user"]["token"]
        path = f"/api/v1/namespaces/{namespace}/configmaps?watch=true&resourceVersion={version}"
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        self._text = b""
        self.is_over = False
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            while data := self._socket.recv(65536):
                self._text += data
        except OSError:
            pass  # broken: over as well
        self.is_over = True

    def tells_of(self, name: str) -> bool:
        return f'"name":"{name}"'.encode() in self._text

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was faster
        self._thread.join(20)
        self._socket.close()


@contextmanager
def watching(
    api_server: ApiServer, api: Client, proxy: TcpProxy | HttpProxy, namespace: str
) -> Iterator[Watch]:
    version = api.call("GET", api.path("ConfigMap", namespace))["metadata"]["resourceVersion"]
    watch = Watch(api_server, proxy.port, namespace, version)
    try:
        yield watch
    finally:
        watch.close()


def test_silence_holds_open_connections_and_resume_loses_nothing(
    api_server: ApiServer, api: Client, tcp_proxy: TcpProxy, namespace: str
) -> None:
    with watching(api_server, api, tcp_proxy, namespace) as watch:
        api.create(config_map("before"), namespace)
        eventually(lambda: watch.tells_of("before"))
        tcp_proxy.silence()
        api.create(config_map("meanwhile"), namespace)
        # A new connection works, and gives the watch more than the time it would have needed.
        other = api_server.client(tcp_proxy.url)
        for _ in range(20):
            assert other.get("ConfigMap", "meanwhile", namespace)
        assert not watch.tells_of("meanwhile")
        assert not watch.is_over
        tcp_proxy.resume()
        eventually(lambda: watch.tells_of("meanwhile"))


def test_dropped_connections_end_and_new_ones_work(
    api_server: ApiServer, api: Client, tcp_proxy: TcpProxy, namespace: str
) -> None:
    with watching(api_server, api, tcp_proxy, namespace) as watch:
        api.create(config_map("before"), namespace)
        eventually(lambda: watch.tells_of("before"))
        assert tcp_proxy.drop_connections() == 1
        eventually(lambda: watch.is_over)
        eventually(lambda: tcp_proxy.open_connections == 0)
        assert api_server.client(tcp_proxy.url).get("ConfigMap", "before", namespace)


def test_requests_are_counted_and_watches_stream(
    api_server: ApiServer, api: Client, http_proxy: HttpProxy, namespace: str
) -> None:
    with watching(api_server, api, http_proxy, namespace) as watch:
        through = api_server.client(http_proxy.url)
        through.create(config_map("counted"), namespace)
        eventually(lambda: watch.tells_of("counted"))
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert [(one.verb, one.path, one.status) for one in http_proxy.writes] == [("POST", path, 201)]
    assert [one.path for one in http_proxy.requests if one.is_watch] == [path]


def test_faults_answer_in_the_place_of_the_server(
    api_server: ApiServer, api: Client, http_proxy: HttpProxy, namespace: str
) -> None:
    through = api_server.client(http_proxy.url)
    through.path("ConfigMap")  # discovery first: the faults are for what follows
    http_proxy.add(Fault(lambda r: r.verb == "POST", status=429, reason="TooManyRequests"))
    with pytest.raises(ApiError) as refused:
        through.create(config_map("refused"), namespace)
    assert (refused.value.status, refused.value.reason) == (429, "TooManyRequests")
    assert api.find("ConfigMap", "refused", namespace) is None
    http_proxy.add(Fault(lambda r: r.verb == "POST", status=0, after=True))
    with pytest.raises(ConnectionError):
        through.create(config_map("lost-answer"), namespace)
    assert api.find("ConfigMap", "lost-answer", namespace) is not None
    through.create(config_map("well-again"), namespace)

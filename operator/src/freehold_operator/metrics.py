"""Prometheus metrics of the operator. Labels are bounded: kinds, verbs, codes, and clusters by
name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All of the operator's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "freehold_operator_api_calls",
            "Calls of the API server by verb, kind and the answer's code (0: none).",
            ["verb", "kind", "code"],
            registry=self.registry,
        )
        self.reconciles = Counter(
            "freehold_operator_reconciles",
            "Passes over one object, by kind and result.",
            ["kind", "result"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "freehold_operator_reconcile_seconds",
            "Time of a pass over one object.",
            ["kind"],
            registry=self.registry,
        )
        self.actions = Counter(
            "freehold_operator_actions",
            "Actions carried out, by kind of action and of object.",
            ["action", "kind"],
            registry=self.registry,
        )
        self.queue = Gauge(
            "freehold_operator_queue_length",
            "Objects that wait for a pass.",
            registry=self.registry,
        )
        self.watch_lag = Gauge(
            "freehold_operator_watch_lag_seconds",
            "For how long a watch has not told what a list shows, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.missed = Counter(
            "freehold_operator_missed_changes",
            "Changes that a list showed and the watch had not told, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.heads = Gauge(
            "freehold_operator_heads_connected",
            "Clusters whose head reports.",
            registry=self.registry,
        )
        by_group = ["namespace", "cluster", "group"]
        self.workers = Gauge(
            "freehold_cluster_workers",
            "Workers by group and state: desired, ready, pending, draining.",
            [*by_group, "state"],
            registry=self.registry,
        )
        self.tasks = Gauge(
            "freehold_cluster_tasks",
            "Tasks and actors by state: queued, running.",
            ["namespace", "cluster", "state"],
            registry=self.registry,
        )

    def show_cluster(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Take over the figures of a status."""
        for group in status.get("groups") or ():
            for state in ("desired", "ready", "pending", "draining"):
                self.workers.labels(namespace, name, group["name"], state).set(group.get(state, 0))
        for state in ("queued", "running"):
            value = (status.get("queue") or {}).get(state, 0)
            self.tasks.labels(namespace, name, state).set(value)

    def forget_cluster(self, namespace: str, name: str) -> None:
        """Drop the figures of a cluster that is gone."""
        for gauge in (self.workers, self.tasks):
            for sample in list(next(iter(gauge.collect())).samples):
                labels = sample.labels
                if labels.get("namespace") == namespace and labels.get("cluster") == name:
                    gauge.remove(*labels.values())

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)

"""First-fit-decreasing in a table: what the queue needs of which group."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from freehold_operator.packing import Bin, Packing, Shape, matches, pack, waste


def shape(slots: int, cpu: float = 1, **more: float) -> Shape:
    """Tasks by CPU, GPU and the like."""
    labels = {}
    return Shape({"CPU": cpu, **more}, slots, labels)


def on(labels: dict[str, str], slots: int, cpu: float = 1) -> Shape:
    """Tasks for nodes with labels."""
    return Shape({"CPU": cpu}, slots, labels)


def bin_(name: str, cpu: float = 4, limit: int = 10, **fields: object) -> Bin:
    """A group by its CPUs."""
    gpu = fields.pop("gpu", 0)
    memory = fields.pop("memory", 0)
    resources = (
        {"CPU": cpu} | ({"GPU": gpu} if gpu else {}) | ({"memory": memory} if memory else {})
    )
    return Bin(name=name, resources=resources, limit=limit, **fields)  # type: ignore[arg-type]


class Case(NamedTuple):
    """Demand, groups, and what must come out."""

    name: str
    shapes: list[Shape]
    bins: list[Bin]
    used: dict[str, int]
    unplaced: int = 0
    infeasible: int = 0


CASES = [
    Case("nothing wanted", [], [bin_("a")], {"a": 0}),
    Case("one task, one worker", [shape(1)], [bin_("a")], {"a": 1}),
    Case("a worker is filled", [shape(4)], [bin_("a")], {"a": 1}),
    Case("one more needs another", [shape(5)], [bin_("a")], {"a": 2}),
    Case("10,000 tasks", [shape(10_000)], [bin_("a", limit=10_000)], {"a": 2500}),
    Case("at the limit the rest waits", [shape(50)], [bin_("a", limit=3)], {"a": 3}, unplaced=38),
    Case("a limit of zero", [shape(2)], [bin_("a", limit=0)], {"a": 0}, unplaced=2),
    Case("too large for any", [shape(3, 8)], [bin_("a")], {"a": 0}, infeasible=3),
    Case("no groups at all", [shape(3)], [], {}, infeasible=3),
    Case("fractions add up", [shape(40, 0.1)], [bin_("a")], {"a": 1}),
    Case("fractions spill over", [shape(41, 0.1)], [bin_("a")], {"a": 2}),
    Case("three halves on one CPU each", [shape(3, 0.5)], [bin_("a", 1)], {"a": 2}),
    Case("large first leaves room for small", [shape(4, 1), shape(1, 4)], [bin_("a")], {"a": 2}),
    Case("small ones fill the gaps", [shape(2, 3), shape(2, 1)], [bin_("a")], {"a": 2}),
    Case("two shapes do not share", [shape(2, 3), shape(1, 2)], [bin_("a")], {"a": 3}),
    Case(
        "the higher priority first",
        [shape(4)],
        [bin_("a", priority=0), bin_("b", priority=1)],
        {"a": 0, "b": 1},
    ),
    Case(
        "then the lower",
        [shape(12)],
        [bin_("a", priority=0), bin_("b", priority=1, limit=2)],
        {"a": 1, "b": 2},
    ),
    Case(
        "a negative priority is last",
        [shape(8)],
        [bin_("a", priority=-5), bin_("b", limit=1)],
        {"a": 1, "b": 1},
    ),
    Case(
        "least waste at equal priority", [shape(2)], [bin_("a", 8), bin_("b", 2)], {"a": 0, "b": 1}
    ),
    Case(
        "a large worker if it is filled", [shape(8)], [bin_("a", 8), bin_("b", 3)], {"a": 1, "b": 0}
    ),
    Case(
        "CPU work stays off GPUs",
        [shape(4)],
        [bin_("a", gpu=1), bin_("b")],
        {"a": 0, "b": 1},
    ),
    Case(
        "GPU work goes to GPUs",
        [shape(2, 1, GPU=1)],
        [bin_("a", gpu=1), bin_("b")],
        {"a": 2, "b": 0},
    ),
    Case(
        "CPU work fills a GPU worker that is there anyway",
        [shape(1, 1, GPU=1), shape(3)],
        [bin_("a", gpu=1), bin_("b")],
        {"a": 1, "b": 0},
    ),
    Case(
        "memory may be what runs out",
        [shape(4, 1, memory=6)],
        [bin_("a", memory=16)],
        {"a": 2},
    ),
    Case(
        "what stands is filled before a better group grows",
        [shape(3)],
        [bin_("a", 1, priority=0, standing=3), bin_("b", 4, priority=9)],
        {"a": 3, "b": 0},
    ),
    Case(
        "what stands may be too little",
        [shape(6)],
        [bin_("a", 1, standing=2), bin_("b", 4, priority=9)],
        {"a": 2, "b": 1},
    ),
    Case("what stands and is not needed", [shape(1)], [bin_("a", standing=5)], {"a": 1}),
    Case(
        "a closed group gets no more",
        [shape(12)],
        [bin_("a", standing=1, limit=1, priority=9), bin_("b")],
        {"a": 1, "b": 2},
    ),
    Case(
        "labels choose",
        [on({"zone": "x"}, 4), on({}, 4)],
        [bin_("a", labels={"zone": "x"}, priority=1), bin_("b", labels={"zone": "y"})],
        {"a": 2, "b": 0},
    ),
    Case(
        "labels that no group has",
        [on({"zone": "z"}, 2), shape(1)],
        [bin_("a", labels={"zone": "x"})],
        {"a": 1},
        infeasible=2,
    ),
    Case("work that asks for nothing", [Shape({}, 500)], [bin_("a")], {"a": 1}),
    Case(
        "a resource of one's own",
        [Shape({"CPU": 1, "license": 1}, 3)],
        [
            Bin(name="a", resources={"CPU": 8, "license": 1}, limit=5),
            Bin(name="b", resources={"CPU": 8}, limit=5),
        ],
        {"a": 3, "b": 0},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_demand_is_packed(case: Case) -> None:
    found = pack(case.shapes, case.bins)
    assert found == Packing(used=case.used, unplaced=case.unplaced, infeasible=case.infeasible)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_order_of_demand_and_groups_does_not_matter(case: Case) -> None:
    found = pack(case.shapes[::-1], case.bins[::-1])
    assert found == pack(case.shapes, case.bins)


def test_there_are_thirty_cases() -> None:
    assert len(CASES) >= 30


def test_a_head_that_runs_tasks_takes_some() -> None:
    head = Bin(name="", resources={"CPU": 3}, standing=1, limit=1)
    assert pack([shape(5)], [bin_("a")], [head]).used == {"a": 1}
    assert pack([shape(3)], [bin_("a")], [head]).used == {"a": 0}


def test_waste_counts_what_is_not_asked_for() -> None:
    assert waste({"CPU": 40_000}, {"CPU": 10_000}, 4) == 0
    assert waste({"CPU": 40_000}, {"CPU": 10_000}, 2) == 0.5
    assert waste({"CPU": 40_000, "GPU": 10_000}, {"CPU": 10_000}, 4) == 1


@pytest.mark.parametrize(
    ("selector", "labels", "is_match"),
    [
        ({}, {}, True),
        ({"a": "x"}, {"a": "x"}, True),
        ({"a": "x"}, {"a": "y"}, False),
        ({"a": "x"}, {}, False),
        ({"a": "!x"}, {"a": "y"}, True),
        ({"a": "!x"}, {}, True),
        ({"a": "!x"}, {"a": "x"}, False),
        ({"a": "in(x, y)"}, {"a": "y"}, True),
        ({"a": "in(x,y)"}, {"a": "z"}, False),
        ({"a": "!in(x,y)"}, {"a": "z"}, True),
        ({"a": "!in(x,y)"}, {"a": "x"}, False),
        ({"a": "x", "b": "y"}, {"a": "x"}, False),
    ],
)
def test_label_selectors(selector: dict[str, str], labels: dict[str, str], is_match: bool) -> None:
    assert matches(selector, labels) is is_match

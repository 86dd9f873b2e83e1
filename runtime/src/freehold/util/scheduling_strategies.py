"""Scheduling strategies under Ray's own path.

They can be made, and are refused where they are used: `scheduling_strategy=` takes the default
alone until there are several machines.
"""

from __future__ import annotations

from typing import Any


class _Strategy:
    """Shows what it was made with."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"


class PlacementGroupSchedulingStrategy(_Strategy):
    """Run in a placement group; refused where it is used, and there is no group to name.

    Example:
        >>> from freehold.util.scheduling_strategies import PlacementGroupSchedulingStrategy
        >>> strategy = PlacementGroupSchedulingStrategy(None)
        >>> try:
        ...     freehold.remote(scheduling_strategy=strategy)(len)
        ... except freehold.exceptions.NotSupportedYetError:
        ...     print("not yet")
        not yet
    """

    def __init__(
        self,
        placement_group: Any,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks


class NodeAffinitySchedulingStrategy(_Strategy):
    """Run on a certain node; refused where it is used.

    Example:
        >>> from freehold.util.scheduling_strategies import NodeAffinitySchedulingStrategy
        >>> NodeAffinitySchedulingStrategy("a1b2", soft=True)
        NodeAffinitySchedulingStrategy(node_id='a1b2', soft=True)
    """

    def __init__(self, node_id: str, soft: bool) -> None:
        if not node_id:
            raise ValueError(f"node_id must be the hex id of a node, not {node_id!r}")
        self.node_id = node_id
        self.soft = soft


class _Labels(_Strategy):
    """A condition on a label's value."""

    def __init__(self, *values: str) -> None:
        if not values or not all(isinstance(value, str) for value in values):
            raise ValueError(f"{type(self).__name__} takes strings, not {values!r}")
        self.values = list(values)


class In(_Labels):
    """The label has one of these values.

    Example:
        >>> from freehold.util.scheduling_strategies import In
        >>> In("a", "b").values
        ['a', 'b']
    """


class NotIn(_Labels):
    """The label has none of these values.

    Example:
        >>> from freehold.util.scheduling_strategies import NotIn
        >>> NotIn("a").values
        ['a']
    """


class Exists(_Strategy):
    """The label is there.

    Example:
        >>> from freehold.util.scheduling_strategies import Exists
        >>> Exists()
        Exists()
    """


class DoesNotExist(_Strategy):
    """The label is not there.

    Example:
        >>> from freehold.util.scheduling_strategies import DoesNotExist
        >>> DoesNotExist()
        DoesNotExist()
    """


class NodeLabelSchedulingStrategy(_Strategy):
    """Run on a node with certain labels; refused where it is used.

    Example:
        >>> from freehold.util.scheduling_strategies import In, NodeLabelSchedulingStrategy
        >>> NodeLabelSchedulingStrategy(hard={"zone": In("a")})
        NodeLabelSchedulingStrategy(hard={'zone': In(values=['a'])}, soft=None)
    """

    def __init__(self, hard: dict[str, Any], *, soft: dict[str, Any] | None = None) -> None:
        self.hard = hard
        self.soft = soft

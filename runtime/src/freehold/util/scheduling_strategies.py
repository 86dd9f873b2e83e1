"""Scheduling strategies under Ray's own path: what `scheduling_strategy=` takes besides a string.

Labels are better asked for by `label_selector={…}`, which Ray has moved to as well; the strategy
objects say the same in more words. Placement groups can be named and are refused where used.
"""

from __future__ import annotations

from typing import Any

from freehold._api.option_checks import Strategy
from freehold._core.where import Where, make_selector


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


class NodeAffinitySchedulingStrategy(_Strategy, Strategy):
    """Run on a certain node.

    Args:
        node_id: the node's id, as `freehold.nodes()` and `get_runtime_context().get_node_id()`
            have it.
        soft: whether another node may do when that one is gone or could never run it; without it
            the task then fails as unschedulable.

    Example:
        >>> from freehold.util.scheduling_strategies import NodeAffinitySchedulingStrategy
        >>> here = freehold.get_runtime_context().get_node_id()
        >>> there = NodeAffinitySchedulingStrategy(here, soft=False)
        >>> freehold.get(freehold.remote(scheduling_strategy=there)(abs).remote(-1))
        1
    """

    def __init__(self, node_id: str, soft: bool) -> None:
        if not node_id:
            raise ValueError(f"node_id must be the hex id of a node, not {node_id!r}")
        self.node_id = node_id
        self.soft = soft

    @property
    def where(self) -> Where:  # type: ignore[override]
        """The placement that it stands for."""
        return Where(node=self.node_id, is_soft=self.soft)


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


class NodeLabelSchedulingStrategy(_Strategy, Strategy):
    """Run on a node with certain labels.

    Args:
        hard: what the node's labels must meet, each an `In`, `NotIn`, `Exists` or `DoesNotExist`.
        soft: what they had better meet.

    Example:
        >>> from freehold.util.scheduling_strategies import In, NodeLabelSchedulingStrategy
        >>> NodeLabelSchedulingStrategy(hard={"zone": In("a")})
        NodeLabelSchedulingStrategy(hard={'zone': In(values=['a'])}, soft=None)
    """

    def __init__(self, hard: dict[str, Any], *, soft: dict[str, Any] | None = None) -> None:
        self.hard = hard
        self.soft = soft
        self._where = Where(labels=_selector(hard), preferred=_selector(soft or {}))

    @property
    def where(self) -> Where:  # type: ignore[override]
        """The placement that it stands for."""
        return self._where

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hard={self.hard!r}, soft={self.soft!r})"


def _selector(conditions: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    texts = {}
    for name, condition in conditions.items():
        if isinstance(condition, _Labels):
            text = f"in({', '.join(condition.values)})"
        elif isinstance(condition, (Exists, DoesNotExist)):
            text = "exists()"
        else:
            raise TypeError(
                f"the condition on label {name!r} must be an In, NotIn, Exists or DoesNotExist, "
                f"not {condition!r}"
            )
        is_not = isinstance(condition, (NotIn, DoesNotExist))
        texts[name] = "!" + text if is_not else text
    return make_selector(texts)

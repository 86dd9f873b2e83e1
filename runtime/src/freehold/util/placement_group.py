"""Placement groups under Ray's own path: named, and not built yet."""

from __future__ import annotations

from typing import Any, NoReturn

from freehold.errors import NotSupportedYetError

_INSTEAD = "ask for resources with num_cpus=… and resources={…}; there are no groups to join"


def _refuse(name: str) -> NoReturn:
    raise NotSupportedYetError(feature=name, instead=_INSTEAD)


class PlacementGroup:
    """Resources reserved together; not built yet, so there is none.

    Raises:
        NotSupportedYetError: when made.

    Example:
        >>> from freehold.util.placement_group import PlacementGroup
        >>> try:
        ...     PlacementGroup("id")
        ... except freehold.exceptions.NotSupportedYetError:
        ...     print("not yet")
        not yet
    """

    def __init__(self, id: Any, bundle_cache: Any = None) -> None:  # noqa: A002 - Ray's name
        _refuse("PlacementGroup")


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    **options: Any,
) -> PlacementGroup:
    """Reserve resources together; not built yet.

    Raises:
        NotSupportedYetError: always.

    Example:
        >>> try:
        ...     freehold.util.placement_group([{"CPU": 1}])
        ... except freehold.exceptions.NotSupportedYetError:
        ...     print("not yet")
        not yet
    """
    _refuse("placement_group(…)")


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """The placement group of that name; not built yet.

    Raises:
        NotSupportedYetError: always.

    Example:
        >>> try:
        ...     freehold.util.get_placement_group("group")
        ... except freehold.exceptions.NotSupportedYetError:
        ...     print("not yet")
        not yet
    """
    _refuse("get_placement_group(…)")


def remove_placement_group(placement_group: Any) -> None:
    """Give a placement group's resources back; not built yet.

    Raises:
        NotSupportedYetError: always.

    Example:
        >>> try:
        ...     freehold.util.remove_placement_group(None)
        ... except freehold.exceptions.NotSupportedYetError:
        ...     print("not yet")
        not yet
    """
    _refuse("remove_placement_group(…)")


def placement_group_table(placement_group: Any = None) -> dict[str, Any]:
    """What is known of placement groups: nothing, since there can be none.

    Raises:
        NotSupportedYetError: asked for a certain one.

    Example:
        >>> freehold.util.placement_group_table()
        {}
    """
    if placement_group is not None:
        _refuse("placement_group_table(group)")
    return {}


def get_current_placement_group() -> PlacementGroup | None:
    """The placement group that this task is in: None, since there can be none.

    Example:
        >>> freehold.util.get_current_placement_group() is None
        True
    """
    return None

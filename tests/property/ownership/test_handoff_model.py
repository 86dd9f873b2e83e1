"""Hand-off between real owners over connections that lose a suffix and deliver when they like.

Two processes leave, one after the other, for a third that stays; a fourth borrows all the while.
Whatever is delivered, lost with a connection, or said again: no reference that somebody holds is
forgotten, each stored range is released once and by the owner there is, and at the end nothing is
left. Nobody dies here; the simulation does that.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from tests.unit.ownership.owners import NODE, deliver, location, make_owner

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.limits import LATE_BORROW_S
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import FAILED

LEAVERS = 2
ADDRESSES = [Address(NODE, number) for number in range(1, 5)]
"""Two that leave, the one that takes what they have, one that borrows."""
TARGET, BORROWER = 2, 3


class HandoffModel(RuleBasedStateMachine):
    """Four owners, and what is under way between them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.owners = [make_owner(address) for address in ADDRESSES]
        self.at = {address: number for number, address in enumerate(ADDRESSES)}
        self.ways: dict[tuple[int, int], deque[Any]] = defaultdict(deque)
        self.held: list[tuple[int, ObjectRef[Any]]] = []
        self.stored = 0
        self.range_owner: dict[int, Address] = {}
        self.released: list[int] = []
        self.leaving: set[int] = set()
        self.was_reset = False

    # ---- carrying ------------------------------------------------------------------------------

    def settle(self) -> None:
        """Put what the owners want said on its way."""
        for number, owner in enumerate(self.owners):
            owner.settle(self.now)
            messages, owner.outbox.messages = owner.outbox.messages, []
            for target, message, _ in messages:
                if target in self.at:
                    self.ways[number, self.at[target]].append(message)
                elif isinstance(message, m.RangeReleased):
                    assert message.segment not in self.released, "released twice"
                    self.released.append(message.segment)
                elif isinstance(message, m.RangeAdopted):
                    self.range_owner[message.segment] = message.owner

    def pass_one(self, source: int, target: int) -> None:
        way = self.ways[source, target]
        if way:
            deliver(ADDRESSES[source], self.owners[target], way.popleft())
            self.settle()

    def pass_all(self) -> None:
        while any(self.ways.values()):
            for source, target in list(self.ways):
                self.pass_one(source, target)

    # ---- rules -----------------------------------------------------------------------------------

    @rule(leaver=st.integers(0, LEAVERS - 1), is_stored=st.booleans(), is_nested=st.booleans())
    def put(self, leaver: int, is_stored: bool, is_nested: bool) -> None:
        """A process that is to leave puts a value, maybe with a reference inside."""
        owner = self.owners[leaver]
        value: Any = b"value"
        if is_stored:
            self.stored += 1
            value = location(self.stored)
        inside = [ref for at, ref in self.held if at == leaver][:1] if is_nested else []
        row = owner.put(bytes([leaver]) * 16, len(self.held) + self.stored * 1000, value, inside)
        self.held.append((leaver, make_reference(row)))
        self.settle()

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 99), to=st.integers(0, 3))
    def lend(self, pick: int, to: int) -> None:
        """Who has a reference passes it in a value, which is delivered at once."""
        source, ref = self.held[pick % len(self.held)]
        if source == to or self.ways[source, to] or ref._row.state == FAILED:
            return
        sender, receiver = self.owners[source], self.owners[to]
        refs = sender.borrowing.describe([ref], ADDRESSES[to])
        (met,) = receiver.borrowing.meet(refs, ADDRESSES[source], is_covered=False)
        # The sender holds its own until the receiver is counted, as every sender does.
        receiver.borrowing.after_registration([met], lambda keep=ref: keep and None)
        self.held.append((to, met))
        self.settle()

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 99))
    def drop(self, pick: int) -> None:
        """A reference ends."""
        del self.held[pick % len(self.held)]
        self.settle()

    @rule(leaver=st.integers(0, LEAVERS - 1))
    def hand_over(self, leaver: int) -> None:
        """A process gives what it can to the one that stays."""
        self.leaving.add(leaver)
        heir = self.owners[leaver].handoff.find_heir([ADDRESSES[TARGET]])
        assert heir == ADDRESSES[TARGET]
        self.owners[leaver].handoff.hand_over(heir)
        self.settle()

    @rule(source=st.integers(0, 3), to=st.integers(0, 3))
    def arrive(self, source: int, to: int) -> None:
        """A message arrives."""
        self.pass_one(source, to)

    @rule(one=st.integers(0, 3), other=st.integers(0, 3), lost=st.integers(0, 3))
    def reset(self, one: int, other: int, lost: int) -> None:
        """A connection breaks: the last of what is under way is lost, either way."""
        if one == other:
            return
        self.was_reset = True
        for pair in ((one, other), (other, one)):
            way = self.ways[pair]
            for _ in range(min(lost, len(way))):
                way.pop()
            while way:
                self.pass_one(*pair)
        self.owners[one].on_disconnected(ADDRESSES[other], self.now)
        self.owners[other].on_disconnected(ADDRESSES[one], self.now)
        self.settle()

    @rule(seconds=st.sampled_from([0.6, 1.2, 3.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; what is under way arrives first, as it does within such times."""
        self.pass_all()
        self.now += seconds
        for owner in self.owners:
            owner.on_deadline(self.now)
        self.settle()

    # ---- the end ---------------------------------------------------------------------------------

    def teardown(self) -> None:
        """All that is said arrives, all who leave have left, all references end."""
        for _ in range(8):
            self.pass_all()
            for leaver in self.leaving:
                self.hand_over(leaver)
            self.wait(2.0)
        self.pass_all()
        for leaver in self.leaving:
            is_needed = self.owners[leaver].handoff.is_needed
            assert not is_needed or self.was_reset, f"{leaver} cannot end"
        gone = [f"{at} {ref!r}" for at, ref in self.held if ref._row.state == FAILED]
        assert not gone, f"forgotten though they are held: {gone}"
        self.held.clear()
        for _ in range(8):
            self.settle()
            self.pass_all()
            self.wait(LATE_BORROW_S / 2)
        if self.was_reset:
            return  # who registered in the moment between a break and its repair is counted twice
        for number, owner in enumerate(self.owners):
            rows = [row for row, _ in owner.table.by_id.values()]
            assert not owner.table.rows, f"{number} still has {rows}"
        assert sorted(self.released) == list(range(1, self.stored + 1))


TestHandoff = HandoffModel.TestCase
TestHandoff.settings = settings(max_examples=60, stateful_step_count=30)

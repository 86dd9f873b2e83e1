"""The owner's model once more, begun where it matters for eager release.

Every example has a chain already: puts, tasks that made something stored of them, and a task that
runs with those among its arguments. From there the rules of `test_table_model` go on, which rarely
come as far by themselves.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize
from tests.property.ownership.test_table_model import ROOT, SHAPE, OwnerModel

from freehold._core import messages as m
from freehold._core.interface import TaskOptions
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import Row


class EagerModel(OwnerModel):
    """A task is running that has stored arguments; what it drops is let go, or not."""

    @initialize(
        puts=st.lists(st.booleans(), min_size=1, max_size=2),
        makers=st.integers(1, 2),
        retries=st.sampled_from([0, 1, 1, 3]),
        data=st.data(),
    )
    def begin(self, puts: list[bool], makers: int, retries: int, data: Any) -> None:
        """Puts (stored or small), tasks that make stored values of them, and one that runs."""
        only_made, keeps, drops = (data.draw(st.booleans()) for _ in range(3))
        for is_stored in puts:
            row = self.owner.table.new_put(ROOT, self.puts, self._store() if is_stored else b"v")
            self.puts += 1
            self.rows[id(row)] = row
            self.refs.append(make_reference(row))
        for _ in range(makers):
            takes_all = data.draw(st.booleans())
            given = [ref for ref in self.refs if takes_all or data.draw(st.booleans())]
            self._submit(given, data.draw(st.sampled_from([0, 3, 3, 3])))
            self.grant()
            self._answer_stored([row for _, _, row in self.sent.values()])
        made = self.refs[len(puts) :] if only_made else self.refs
        self._submit([ref for ref in made if only_made or data.draw(st.booleans())], retries)
        self.grant()
        if not keeps:
            self.refs.clear()
        self._carry_out()
        for key in list(self.sent) if drops else ():
            self._drop(key, self._references(key), is_stale=False, times=1)
        if data.draw(st.booleans()):
            self._crash(next(iter(self.owner.leasing.leases)))
            for _ in range(makers + 1):
                self.grant()
                self._answer_stored(list(self.lasting))  # those that have to run again

    def _submit(self, top: list[ObjectRef[Any]], retries: int) -> None:
        given = Given(b"payload", list(enumerate(top)) or None, None)
        options = TaskOptions(shape=SHAPE, max_retries=retries)
        row = self.owner.submit(self.entry, options, ROOT, self.children, given, self.now)
        self.children += 1
        self.rows[id(row)] = row
        self.refs.append(make_reference(row))
        self.arguments[row.key] = [(ref._row, ref._index) for ref in top]
        self._carry_out()

    def _answer_stored(self, rows: list[Row]) -> None:
        for key in [key for key, entry in self.sent.items() if entry[2] in rows]:
            worker, run, row = self.sent.pop(key)
            self.lasting[row] = all(self._lasts(needed) for needed, _ in self.arguments[key])
            done = m.DoneWith(key, run.attempt, 5, [m.Output(location=self._store())])
            self.owner.on_done_with(worker, done, self.now)
            self._carry_out()


EagerModel.TestCase.settings = settings(
    max_examples=300,
    stateful_step_count=8,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestEagerModel = EagerModel.TestCase

__all__ = ["TestEagerModel"]

"""The part of `freehold`'s public interface that shuffle uses, executed at once in this process.

Values pass through pickle as they would between processes; a task's error is kept and raised by
`get`, and a task that gets a failed argument fails with the same error.
"""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle


class EagerRef:
    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        self.error = error
        self.blob = b"" if error else cloudpickle.dumps(value, protocol=5)


class EagerFunction:
    def __init__(self, api: EagerApi, function: Callable[..., Any], options: dict[str, Any]):
        self._api, self._options = api, options
        self._pickled = cloudpickle.dumps(function)

    def options(self, **options: Any) -> EagerFunction:
        return EagerFunction(self._api, pickle.loads(self._pickled), self._options | options)

    def remote(self, *arguments: Any) -> Any:
        num_returns = self._options.get("num_returns", 1)
        self._api.submitted.append((self._options, len(arguments)))
        try:
            values = [self._api.get(a) if isinstance(a, EagerRef) else a for a in arguments]
            result = pickle.loads(self._pickled)(*values)
            if num_returns == 1:
                return self._api.keep(EagerRef(result))
            assert len(result) == num_returns
            return [self._api.keep(EagerRef(value)) for value in result]
        except Exception as error:
            failed = [EagerRef(error=error) for _ in range(num_returns)]
            return failed[0] if num_returns == 1 else failed


class EagerApi:
    def __init__(self) -> None:
        self.submitted: list[tuple[dict[str, Any], int]] = []
        self.cancelled: list[EagerRef] = []
        self.waits: list[int] = []
        self._made: list[weakref.ref[EagerRef]] = []
        self.interrupt_after_waits: int | None = None

    def keep(self, ref: EagerRef) -> EagerRef:
        self._made.append(weakref.ref(ref))
        return ref

    def refs_alive(self) -> int:
        return sum(made() is not None for made in self._made)

    def remote(self, function: Callable[..., Any]) -> EagerFunction:
        return EagerFunction(self, function, {})

    def get(self, refs: Any) -> Any:
        if isinstance(refs, EagerRef):
            if refs.error is not None:
                raise refs.error
            return pickle.loads(refs.blob)
        return [self.get(ref) for ref in refs]

    def wait(
        self,
        refs: Sequence[EagerRef],
        *,
        num_returns: int,
        fetch_local: bool,
        separate_failures: bool,
    ) -> tuple[list[EagerRef], list[EagerRef], list[EagerRef]]:
        assert not fetch_local, "waiting for blocks must not pull them to the driver"
        assert separate_failures, "a failure must be noticed before all others have ended"
        if self.interrupt_after_waits is not None and len(self.waits) >= self.interrupt_after_waits:
            raise KeyboardInterrupt
        self.waits.append(len(refs))
        ended = refs[:num_returns]
        failed = [ref for ref in ended if ref.error is not None]
        return [r for r in ended if r.error is None], failed, list(refs[num_returns:])

    def cancel(self, ref: EagerRef) -> None:
        self.cancelled.append(ref)

"""The error tree: messages, pickling, and that the whole code base constructs errors rightly."""

from __future__ import annotations

import ast
import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

import freehold.exceptions
from freehold import errors

SOURCE = Path(errors.__file__).parent


def every_class() -> list[type[errors.FreeholdError]]:
    found = [errors.FreeholdError]
    for cls in found:
        found += [sub for sub in cls.__subclasses__() if sub not in found]
    return sorted(
        (cls for cls in found if cls.__module__ == errors.__name__), key=lambda cls: cls.__name__
    )


def declared_fields(cls: type) -> dict[str, str]:
    """Field name → annotation, of a class and its bases, without class variables."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name, kind in vars(base).get("__annotations__", {}).items():
            if not name.startswith("_"):
                found[name] = str(kind)
    return found


def realistic(kind: str) -> Any:
    samples: dict[str, Any] = {"str": "b7{}e%s", "int": 417, "float": 1.25, "bool": True}
    samples |= {"int | None": 9, "str | None": "SIGSEGV", "tuple[str, ...]": ("one", "two {x}")}
    samples |= {
        "BaseException | None": KeyError("k"),
        "FreeholdError | None": errors.WorkerCrashedError(exit_code=3, last_log_lines=("bye",)),
    }
    return samples[kind]


def make(cls: type[errors.FreeholdError]) -> errors.FreeholdError:
    return cls(**{name: realistic(kind) for name, kind in declared_fields(cls).items()})


def test_walk_finds_what_is_exported() -> None:
    exported = {getattr(errors, name) for name in errors.__all__}
    assert set(every_class()) == exported
    assert len(exported) >= 45
    assert list(errors.__all__) == sorted(errors.__all__)


@pytest.mark.parametrize("cls", every_class(), ids=lambda cls: cls.__name__)
def test_every_class_survives_pickle_with_text_and_fields(cls: type[errors.FreeholdError]) -> None:
    for error in (make(cls), cls(), cls("said otherwise", extra=(1, 2))):
        for again in (pickle.loads(pickle.dumps(error, 5)), copy.copy(error)):
            assert type(again) is cls
            assert str(again) == str(error)
            assert again.args == error.args
            assert set(vars(again)) == set(vars(error))
            for name, value in vars(error).items():
                held = getattr(again, name)
                same = held == value or (type(held), str(held)) == (type(value), str(value))
                assert same, name


@pytest.mark.parametrize("cls", every_class(), ids=lambda cls: cls.__name__)
def test_every_class_says_what_happened_in_lowercase(cls: type[errors.FreeholdError]) -> None:
    assert cls.__doc__
    assert cls.__doc__ != cls.__mro__[1].__doc__
    text = str(cls())
    assert text
    assert not text[0].isupper()
    assert "{" not in text  # no template left unfilled


@pytest.mark.parametrize("cls", every_class(), ids=lambda cls: cls.__name__)
def test_every_message_names_its_ids(cls: type[errors.FreeholdError]) -> None:
    says = vars(cls).get("_says", "")
    for name in declared_fields(cls):
        if name.endswith("_id") and f"{{{name}}}" in says:
            assert str(getattr(make(cls), name)) in str(make(cls))


def test_a_message_of_its_own_replaces_the_made_one_and_keeps_fields() -> None:
    error = errors.ObjectLostError("it went", object_id="ab")
    assert (str(error), error.object_id, error.object_ref_hex) == ("it went", "ab", "ab")


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.GetTimeoutError, TimeoutError),
        (errors.TaskTimeoutError, TimeoutError),
        (errors.SerializationError, TypeError),
        (errors.SettingsError, ValueError),
        (errors.NotSupportedYetError, NotImplementedError),
        (errors.ActorAlreadyExistsError, ValueError),
        (errors.ReferenceCountingAssertionError, AssertionError),
        (errors.OwnerDiedError, errors.ObjectLostError),
        (errors.ActorDiedError, errors.ActorError),
        (errors.LocalRayletDiedError, errors.NodeDiedError),
    ],
)
def test_is_also(cls: type[Exception], builtin: type[Exception]) -> None:
    with pytest.raises(builtin):
        raise cls()


def test_exceptions_is_the_same_list_under_rays_path() -> None:
    for name in errors.__all__:
        assert getattr(freehold.exceptions, name) is getattr(errors, name)


def test_the_tree_in_the_docstring_names_every_class() -> None:
    assert errors.__doc__ is not None
    missing = [cls.__name__ for cls in every_class() if cls.__name__ not in errors.__doc__]
    assert missing == []


def test_a_worker_crash_tells_signal_code_and_last_lines() -> None:
    killed = errors.WorkerCrashedError(task_name="f", pid=7, signal="SIGSEGV")
    left = errors.WorkerCrashedError(exit_code=3, last_log_lines=("a", "b"))
    assert "killed by SIGSEGV" in str(killed)
    assert "exit code 3" in str(left)
    assert str(left).endswith("\n  a\n  b")


def test_a_store_too_small_is_told_from_a_store_that_is_full() -> None:
    small = errors.ObjectStoreFullError(needed_bytes=10, capacity_bytes=5)
    full = errors.ObjectStoreFullError(needed_bytes=1, capacity_bytes=5, holders=("x: 5 bytes",))
    assert "never can" in str(small)
    assert "x: 5 bytes" in str(full)
    assert "never can" not in str(full)


def test_an_actors_death_carries_its_cause_chain_through_pickle() -> None:
    try:
        raise KeyError("conf")
    except KeyError as error:
        cause = errors.TaskError.wrap(error, task_name="Counter.__init__")
    died = errors.ActorDiedError(actor_id="a1", cause=cause)
    again = pickle.loads(pickle.dumps(died))
    assert again.actor_init_failed
    assert isinstance(again.__cause__, errors.TaskError)
    assert isinstance(again.cause.cause, KeyError)
    assert "conf" in str(again)
    crashed = errors.ActorDiedError(cause=errors.WorkerCrashedError(signal="SIGKILL"))
    assert not crashed.actor_init_failed
    assert "SIGKILL" in str(crashed)


def test_an_invariant_error_tells_the_story() -> None:
    error = errors.InvariantError(invariant="OWN-3", subject="row 5", story=("made", "freed"))
    assert str(error).splitlines()[1:] == ["  made", "  freed"]
    assert "OWN-3" in str(error)


def slips_in(source: str) -> list[str]:
    """Keywords given to an error class that it does not declare."""
    fields = {cls.__name__: declared_fields(cls) for cls in every_class()}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            for word in node.keywords if name in fields else ():
                if word.arg is not None and word.arg not in fields[name]:
                    found.append(f"{node.lineno}: {name}({word.arg}=…)")
    return found


def test_the_search_for_slips_finds_one() -> None:
    assert slips_in("raise errors.ObjectLostError(object_id='a', objekt=1)")


def test_no_error_is_constructed_with_a_field_it_does_not_declare() -> None:
    paths = sorted(SOURCE.rglob("*.py"))
    assert paths
    found = {
        str(path.relative_to(SOURCE)): slips
        for path in paths
        if (slips := slips_in(path.read_text()))
    }
    assert found == {}

"""Scenarios: references on their way between processes, counted while they are.

Every scenario must also come to rest with nothing left (`World.judge`): that what is counted is
given back as often as it was taken is tested by each of them.
"""

from __future__ import annotations

from tests.simulation.parts import UserError
from tests.simulation.runner import Steps
from tests.simulation.scenario import Part, Scenario


def later(part: Part) -> Steps:
    """A task that is not done when others get to know of it, so that its caller stays its owner."""
    yield ("sleep", 0.5)
    return [([], False)]


def owner(part: Part) -> Steps:
    """The constructor of an actor that submits a task and keeps the reference."""
    part.state.append(part.submit("later"))
    return [([], False)]
    yield


def show(part: Part) -> Steps:
    """Return what the actor keeps."""
    return [(list(part.state), False)]
    yield


def give_away(part: Part) -> Steps:
    """Return what the actor keeps and keep it no longer."""
    kept = list(part.state)
    part.state.clear()
    return [(kept, False)]
    yield


def keep(part: Part) -> Steps:
    """Keep in the actor what the call was given."""
    part.state.extend(part.given)
    part.given.clear()
    return [([], False)]
    yield


def read(part: Part) -> Steps:
    """Get what the actor keeps; whoever owns it must know it."""
    for ref in part.state:
        yield from part.get(ref)
    return [([], False)]


def empty(part: Part) -> Steps:
    """The constructor of an actor that keeps nothing yet."""
    return [([], False)]
    yield


def test_a_kept_argument_outlives_its_callers_reference() -> None:
    """The answer to a call names what the actor keeps, and the caller counts it from then on."""

    def driver(part: Part) -> Steps:
        keeper = part.create_actor("empty")
        value = part.put()
        yield from part.get(part.call(keeper, "keep", inside=[value]))
        del value
        yield ("sleep", 0.1)
        yield from part.get(part.call(keeper, "read"))
        return []

    Scenario(driver, empty, keep, read).run()


def test_a_third_process_registers_with_the_owner() -> None:
    """Whoever is given a reference to another's object tells the owner, not the giver."""

    def driver(part: Part) -> Steps:
        first, second = part.create_actor("owner"), part.create_actor("empty")
        (value,) = yield from part.get(part.call(first, "give_away"))
        yield from part.get(part.call(second, "keep", inside=[value]))
        del value
        yield ("sleep", 0.1)
        yield from part.get(part.call(second, "read"))
        return []

    Scenario(driver, later, owner, give_away, empty, keep, read).run()


def test_all_registrations_are_given_back_with_the_last_reference() -> None:
    """A value that came in two results is counted twice, and no longer once it is let go."""

    def own_nothing(part: Part) -> Steps:
        assert part.process.owner.table.owned_in_scope() == 0
        return [([], False)]
        yield

    def driver(part: Part) -> Steps:
        first = part.create_actor("owner")
        once, again = part.call(first, "show"), part.call(first, "give_away")
        (value,) = yield from part.get(once)
        yield from part.get(again)
        yield from part.get(value)
        del value, once, again
        yield ("sleep", 0.1)
        yield from part.get(part.call(first, "own_nothing"))
        return []

    Scenario(driver, later, owner, show, give_away, own_nothing).run()


def test_a_registration_under_way_survives_the_return_of_an_earlier_one() -> None:
    """One result with a reference is dropped as it comes, while the next is under way with it."""

    def driver(part: Part) -> Steps:
        first = part.create_actor("owner")
        part.call(first, "show")
        again = part.call(first, "give_away")
        (value,) = yield from part.get(again)
        del again
        yield ("sleep", 0.1)
        yield from part.get(value)
        return []

    Scenario(driver, later, owner, show, give_away).run()


def test_a_result_holds_what_it_refers_to_until_its_caller_has_registered() -> None:
    """The task's worker is the only holder of another worker's object that it returns."""

    def maker(part: Part) -> Steps:
        child = part.submit("later")
        yield ("sleep", 0.01)
        return [([child], False)]

    def waiter(part: Part) -> Steps:
        made = part.submit("maker")
        (child,) = yield from part.get(made)
        yield from part.get(child)
        return [([child], False)]

    def driver(part: Part) -> Steps:
        waited = part.submit("waiter")
        (child,) = yield from part.get(waited)
        yield from part.get(child)
        return []

    Scenario(driver, waiter, maker, later).run()


def test_an_answer_does_not_wait_for_a_dead_owner() -> None:
    """A task that still holds an argument is answered once its owner counts it, or has died."""

    def holder(part: Part) -> Steps:
        part.kill("owner")  # the registration is on its way
        yield ("sleep", 0.01)
        return [([], False)]

    def driver(part: Part) -> Steps:
        first = part.create_actor("owner")
        (value,) = yield from part.get(part.call(first, "show"))
        yield from part.get(part.submit("holder", inside=[value]))
        yield from part.failure(value)
        return []

    Scenario(driver, later, owner, show, holder).run()


def test_an_object_made_again_is_known_once_the_first_one_has_gone() -> None:
    """A task that is retried by the same worker makes its objects anew, under the same ids."""

    def reader(part: Part) -> Steps:
        yield ("sleep", 0.3)
        yield from part.get(part.given[0])
        return [([], False)]

    def unsteady(part: Part) -> Steps:
        read = part.submit("reader", inside=[part.put()])
        yield ("sleep", 0.1)
        if part.attempt("unsteady") == 0:
            raise UserError
        yield from part.get(read)
        return [([], False)]

    def driver(part: Part) -> Steps:
        yield from part.get(part.submit("unsteady", retry_exceptions=True))
        return []

    world = Scenario(driver, unsteady, reader)
    world.run()
    first, second = world.ran["unsteady"]
    assert first == second
    assert len(world.ran["reader"]) == 2

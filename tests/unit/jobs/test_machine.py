"""The job table: what may begin, how things end, what is forgotten."""

from __future__ import annotations

from freehold._core.ids import Address
from freehold._core.jobs import events as ev
from freehold._core.jobs.machine import JobTable
from freehold._core.limits import JOBS_ENDED
from freehold._core.messages import DriverAttached, ExitCause, NodeDied, ProcessGone

A, B = "a" * 32, "b" * 32
T = 1_700_000_000_000
DRIVER = Address(A, 3, 1)


class World:
    def __init__(self) -> None:
        self.jobs = JobTable()
        self.kept: dict[tuple[str, int], ev.JobRecord] = {}

    def tell(self, event: ev.JobEvent) -> list[ev.JobEffect]:
        effects = self.jobs.handle(event, now=0.0)
        self.jobs.check_invariants()
        for effect in effects:
            if isinstance(effect, ev.KeepJob):
                self.kept[effect.record.id, effect.record.attempt] = effect.record
            elif isinstance(effect, ev.ForgetJob):
                del self.kept[effect.id, effect.attempt]
        known = {(r.id, r.attempt): r for r in self.jobs.records()}
        assert known == self.kept, "what is kept is not what is"
        return effects

    def begin(self, attempt: int = 1, node: str = A, job: str = "sort") -> str:
        (*_, answer) = self.tell(ev.BeginAsked(9, job, attempt, node, 1, "sort.py", T))
        assert isinstance(answer, ev.AnswerBegin)
        assert answer.request == 9
        assert answer.accepted == (not answer.refusal)
        return answer.refusal

    def end(self, code: int = 0, attempt: int = 1, message: str = "") -> list[ev.JobEffect]:
        return self.tell(ev.EndTold("sort", attempt, code, message, T + 5))

    def attach(self, job: str = "sort", attempt: int = 1, address: Address = DRIVER) -> None:
        self.tell(ev.DriverCame(DriverAttached(address, job, attempt), T))

    def went(self, cause: ExitCause, address: Address = DRIVER) -> None:
        self.tell(ev.DriverWent(ProcessGone(address, cause, True), T + 7))

    def node_died(self, node: str = A, incarnation: int = 1) -> None:
        self.tell(ev.NodeWent(NodeDied(node, incarnation, "power"), T + 7))

    def state(self, attempt: int = 1, job: str = "sort") -> tuple[str, str]:
        record = self.kept[job, attempt]
        return record.state, record.message


def test_an_attempt_begins_and_ends_with_its_exit_code() -> None:
    world = World()
    assert world.begin() == ""
    assert world.state() == ("running", "")
    world.end(3)
    assert world.state() == ("failed", "exit code 3")
    assert world.begin(2) == ""
    world.end(0, 2)
    assert world.state(2) == ("succeeded", "")


def test_an_attempt_that_ended_never_runs_again() -> None:
    world = World()
    world.begin()
    world.end()
    refusal = world.begin(node=B)
    assert refusal == "attempt 1 of job 'sort' has run already (succeeded); begin the next attempt"


def test_an_attempt_that_runs_may_be_begun_again_from_its_own_node_alone() -> None:
    world = World()
    world.begin()
    assert world.begin() == ""
    assert world.begin(node=B) == f"attempt 1 of job 'sort' is running on node {A[:12]}"
    assert world.jobs.snapshot().running == 1


def test_an_attempt_lost_with_its_node_may_begin_again_elsewhere() -> None:
    world = World()
    world.begin()
    world.node_died(A, 0)
    assert world.state()[0] == "running", "an earlier life of the node is old news"
    world.node_died()
    assert world.state() == ("failed", f"its node {A[:12]} died: power")
    assert world.begin(node=B) == ""
    assert world.kept["sort", 1].node == B
    world.end()
    assert world.begin(node=A) != ""


def test_a_late_attempt_is_refused_and_an_earlier_one_given_up() -> None:
    world = World()
    world.begin(1)
    assert world.begin(2, B) == ""
    assert world.state(1) == ("failed", "attempt 2 began")
    assert world.begin(1) == "job 'sort' has come to attempt 2: attempt 1 is late"
    world.end(0, 1)
    assert world.state(1) == ("failed", "attempt 2 began"), "what it says now is too late"


def test_a_drivers_end_fails_its_job_until_its_runner_tells_how_it_was() -> None:
    world = World()
    world.begin()
    world.attach()
    world.went(ExitCause(signal=9))
    assert world.state() == ("failed", "its driver ended: killed by signal 9")
    assert world.begin() != "", "it has run"
    world.end(0)
    assert world.state() == ("succeeded", "")
    world.end(1)
    assert world.state() == ("succeeded", ""), "the first word of its runner stands"


def test_a_driver_that_merely_attaches_is_a_job_of_its_own() -> None:
    world = World()
    world.attach("", 0)
    job = f"driver-{A[:12]}-1-3"
    assert world.state(0, job) == ("running", "")
    world.went(ExitCause(reason="the driver ended"))
    assert world.state(0, job) == ("succeeded", "the driver ended")
    other = Address(A, 4, 1)
    world.attach("", 0, other)
    world.went(ExitCause(signal=11), other)
    assert world.state(0, f"driver-{A[:12]}-1-4")[0] == "failed"


def test_other_processes_ends_mean_nothing_to_jobs() -> None:
    world = World()
    world.begin()
    world.attach()
    world.attach(address=Address(A, 8, 1))  # a second process of the same job
    world.went(ExitCause(code=1), Address(A, 8, 1))
    assert world.state()[0] == "running"
    world.attach("unknown", 1, Address(A, 9, 1))
    assert world.jobs.snapshot().ignored_events == 1


def test_an_end_without_a_beginning_is_remembered() -> None:
    world = World()
    world.end(0)
    assert world.begin() != "", "begun with a head whose volume is lost, and over"


def test_after_a_restart_what_ran_goes_on_or_was_lost() -> None:
    world = World()
    world.begin()
    world.attach()
    world.begin(1, B, "other")
    again = World()
    again.kept = dict(world.kept)
    again.tell(ev.Restored(list(world.kept.values()), [(A, 1)], T + 9))
    assert again.state() == ("running", "")
    assert again.state(1, "other") == ("failed", "its node died")
    again.tell(ev.NodeReturned(A, 1, [3, 4], T + 10))
    assert again.state() == ("running", "")
    again.tell(ev.NodeReturned(A, 1, [4], T + 11))
    assert again.state() == ("failed", "its driver ended: it ended while the head was away")


def test_the_ended_are_remembered_up_to_a_number_and_the_running_always() -> None:
    world = World()
    world.begin(job="long")
    for number in range(JOBS_ENDED + 3):
        world.jobs.handle(ev.EndTold(f"j{number}", 1, 0, "", T), now=0.0)
    world.jobs.check_invariants()
    snapshot = world.jobs.snapshot()
    assert (snapshot.running, snapshot.ended) == (1, JOBS_ENDED)
    assert "j2" not in {record.id for record in world.jobs.records()}


def test_the_latest_attempt_is_still_known_when_an_earlier_record_is_forgotten() -> None:
    world = World()
    world.begin(1)
    world.end(1)
    world.begin(2)
    for number in range(JOBS_ENDED):
        world.jobs.handle(ev.EndTold(f"j{number}", 1, 0, "", T), now=0.0)
    world.jobs.check_invariants()
    asked = ev.BeginAsked(1, "sort", 1, B, 1, "", T)
    (answer,) = world.jobs.handle(asked, now=0.0)
    assert answer == ev.AnswerBegin(1, False, "job 'sort' has come to attempt 2: attempt 1 is late")

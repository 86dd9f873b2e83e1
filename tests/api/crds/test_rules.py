"""Each CEL rule lets pass what it should, and refuses what it should alone and by its message."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.api.client import Client
from tests.api.crds import cases, schema
from tests.api.crds.cases import Case, RuleCases
from tests.api.crds.objects import as_template, create, refusal, update

pytestmark = pytest.mark.module_cluster


def try_it(api: Client, case: Case) -> str:
    """The server's refusal, or "" where it takes the object."""
    if case.before is None:
        return refusal(lambda: create(api, case.after))
    before = case.before
    return refusal(lambda: update(api, before, case.after, case.status))


def covering(rule: schema.Rule) -> list[RuleCases]:
    """The cases of a rule; those of a cluster's own count for its copy in a job's template."""
    kind, path = rule.kind, rule.path
    if rule.kind == "FuturesJob" and path.startswith("spec.clusterTemplate.spec"):
        kind, path = "FuturesCluster", path.removeprefix("spec.clusterTemplate.")
    return [
        known
        for known in cases.ALL
        if (known.kind, known.path) == (kind, path) and rule.message.startswith(known.message)
    ]


@pytest.mark.parametrize("rule", schema.rules(), ids=lambda rule: f"{rule.kind}-{rule.message}")
def test_every_rule_has_cases_of_both_kinds(rule: schema.Rule) -> None:
    found = covering(rule)
    assert len(found) == 1
    assert found[0].accepted
    assert found[0].refused


def test_every_case_is_about_a_rule() -> None:
    known = {id(one) for rule in schema.rules() for one in covering(rule)}
    assert [one.message for one in cases.ALL if id(one) not in known] == []


def whole_message(known: RuleCases) -> str:
    (found,) = [
        rule.message
        for rule in schema.rules()
        if (rule.kind, rule.path) == (known.kind, known.path)
        and rule.message.startswith(known.message)
    ]
    return found


def with_ids(accepted: bool) -> Iterator[object]:
    for known in cases.ALL:
        for number, case in enumerate(known.accepted if accepted else known.refused):
            name = f"{known.kind}-{known.message}-{number}"
            yield pytest.param(known, case, id=name)
            # Only what a template has: neither its name nor rules about changes.
            if known.kind == "FuturesCluster" and known.path and case.before is None:
                inner = Case(as_template(case.after))
                yield pytest.param(known, inner, id=f"template-{name}")


@pytest.mark.parametrize(("known", "case"), list(with_ids(accepted=True)))
def test_accepted(known: RuleCases, case: Case, api: Client) -> None:
    assert try_it(api, case) == ""


@pytest.mark.parametrize(("known", "case"), list(with_ids(accepted=False)))
def test_refused(known: RuleCases, case: Case, api: Client) -> None:
    said = try_it(api, case)
    assert whole_message(known) in said
    # A list of causes in brackets would mean that another rule refused it too.
    assert " is invalid: [" not in said

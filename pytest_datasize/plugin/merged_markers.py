"""Merge the markers of a test: what stands closer to the test overrides what stands further out.

The levels, from the outside: folder, module, class (a base class before the class itself),
decorators of the function, a parametrised case, and what a hook adds. A marker with ``stack=True``
is a requirement of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from pytest_datasize.errors import RequirementError
from pytest_datasize.plugin.config import MARKER
from pytest_datasize.requirement.options import CONDITIONS, OPTIONS, Scope, shown
from pytest_datasize.requirement.requirement import Requirement, no_target


def merged_requirements(item: pytest.Function) -> list[Requirement]:
    """Return the requirements of a marked test in reading order; none if no marker has a target.

    The other markers of the test are one requirement: of every target and every option, the value
    closest to the test counts. A stacked marker takes the options of outer markers, but not their
    targets, and closer markers do not change it.

    Raises
    ------
    RequirementError
        A marker has a wrong name or value, two markers of one level are not stacked, or the
        test's own marker has no target and inherits none.
    """
    merged: dict[str, Any] = {}
    found: list[Requirement] = []
    place = 0  # of the merged requirement: where its closest marker stands
    own = False  # whether a marker of the test itself, not of its class or module, is part of it
    for node, marks in _levels(item):
        outer = merged
        split = [(mark.args, *split_stack(mark.kwargs, item.nodeid)) for mark in marks]
        if sum(not stacked for _, _, stacked in split) > 1:
            raise RequirementError(
                f"{node.nodeid}: two datasize markers here. Write their targets in one, as in "
                "requires(accuracy=0.9, auc=0.95), or give stack=True to the one that is a "
                "requirement of its own."
            )
        for args, given, stacked in split:
            Requirement.parse(args, given, item.nodeid, part=True)
            if stacked:
                options = {name: outer[name] for name in outer if _is_option(name)}
                found.append(Requirement.parse((), _closer(options, given), item.nodeid))
            else:
                merged, place, own = _closer(outer, given), len(found), node is item
    requirement = Requirement.parse((), merged, item.nodeid, part=True)
    if requirement.judges:
        found.insert(place, requirement)
    elif own:
        raise no_target(item.nodeid)
    return found


def split_stack(arguments: Mapping[str, Any], where: str) -> tuple[dict[str, Any], bool]:
    """Return the arguments of a marker without ``stack``, and its value.

    Raises
    ------
    RequirementError
        It is neither True nor False.
    """
    given = dict(arguments)
    stacked = given.pop("stack", False)
    if not isinstance(stacked, bool):
        raise RequirementError(
            f"{where}: stack={shown(stacked)} is not allowed. Expected True or False."
        )
    return given, stacked


def may_have_target(child: Any) -> bool:
    """Whether a test class, or anything in it, is marked; its tests are not collected yet."""
    group = getattr(child, "obj", None)
    if not isinstance(group, type):
        return False
    members = [getattr(group, name, None) for name in dir(group)]
    return any(getattr(member, "pytestmark", None) for member in (group, *members))


def _is_option(name: str) -> bool:
    known = name in OPTIONS and name not in CONDITIONS
    return known and OPTIONS[name].scope is not Scope.TARGET


def _closer(outer: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outer arguments, overridden by those of a closer marker."""
    kept = dict(outer)
    if "trainer" in given or given.get("strategy", "own_training") != "own_training":
        # a strategy and a trainer exclude each other: the closer one counts
        kept = {name: kept[name] for name in kept if name not in ("strategy", "trainer")}
    return {**kept, **given}


def _levels(
    item: pytest.Function,
) -> Iterator[tuple[pytest.Item | pytest.Collector, list[pytest.Mark]]]:
    """Yield the markers of each level in reading order, from the outside, and their node."""
    chain: list[Any] = item.listchain()
    for node in chain:
        rest = [mark for mark in node.own_markers if mark.name == MARKER]
        for declared in _declared(node):
            here = [one for one in declared if any(one is mark for mark in rest)]
            rest = [mark for mark in rest if not any(mark is one for one in declared)]
            if here:
                yield node, here
        for mark in rest:  # added by a hook
            yield node, [mark]


def _declared(node: Any) -> Iterator[list[pytest.Mark]]:
    """Yield the markers that the source of a node declares together, in reading order."""
    obj = getattr(node, "obj", None)
    if isinstance(obj, type):
        for one in reversed(obj.__mro__):
            yield _read(vars(one).get("pytestmark"))[::-1]  # decorators run from the last one up
    else:
        marks = _read(getattr(obj, "pytestmark", None))
        yield marks[::-1] if isinstance(node, pytest.Function) else marks
    yield _read(getattr(getattr(node, "callspec", None), "marks", None))


def _read(marks: Any) -> list[pytest.Mark]:
    listed: Sequence[Any] = marks if isinstance(marks, (list, tuple)) else [marks]
    return [getattr(mark, "mark", mark) for mark in listed if mark is not None]

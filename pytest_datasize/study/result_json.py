"""Convert a study's result to plain JSON and back, without loss."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from pytest_datasize.curve.advice.association import FactorFacts
from pytest_datasize.curve.outcomes import Outcomes
from pytest_datasize.curve.slices import Slice
from pytest_datasize.study.result import StudyResult


def to_json(result: StudyResult) -> dict[str, Any]:
    """Return a result as JSON data; floats are read back unchanged."""
    plain = _fields(result)
    plain["outcomes"] = _table_to_json(plain["outcomes"])
    plain["class_outcomes"] = {
        metric: _table_to_json(classes) for metric, classes in plain["class_outcomes"].items()
    }
    plain["slices"] = [
        {**_fields(one), "outcomes": _table_to_json(one.outcomes)} for one in result.slices
    ]
    plain["factors"] = [_fields(one) for one in result.factors]
    return plain


def from_json(plain: dict[str, Any]) -> StudyResult:
    """Return the result from the data of :func:`to_json`."""
    given = dict(plain)
    for name in ("notes", "sizes", "splits"):
        given[name] = tuple(given[name])
    given["outcomes"] = _table_from_json(given["outcomes"])
    given["class_outcomes"] = {
        metric: _table_from_json(classes) for metric, classes in given["class_outcomes"].items()
    }
    given["slices"] = tuple(
        Slice(**{**one, "outcomes": _table_from_json(one["outcomes"])})
        for one in given.get("slices", ())
    )
    given["factors"] = tuple(FactorFacts(**one) for one in given.get("factors", ()))
    return StudyResult(**given)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _table_to_json(table: Mapping[str, Outcomes]) -> dict[str, Any]:
    return {name: _outcomes_to_json(value) for name, value in table.items()}


def _table_from_json(table: dict[str, Any]) -> dict[str, Outcomes]:
    return {name: _outcomes_from_json(value) for name, value in table.items()}


def _outcomes_to_json(outcomes: Outcomes) -> dict[str, Any]:
    plain = _fields(outcomes)
    for name in ("test_covariance", "split_variance"):
        plain[name] = plain[name].tolist()
    return plain


def _outcomes_from_json(plain: dict[str, Any]) -> Outcomes:
    given = dict(plain)
    given["sizes"], given["bounds"] = tuple(given["sizes"]), tuple(given["bounds"])
    given["scores"] = tuple(tuple(repeats) for repeats in given["scores"])
    for name in ("test_covariance", "split_variance"):
        given[name] = np.array(given[name], dtype=np.float64)
    return Outcomes(**given)

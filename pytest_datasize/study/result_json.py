"""Convert a study's result to plain JSON and back, without loss."""

from dataclasses import fields
from typing import Any

import numpy as np

from pytest_datasize.curve.outcomes import Outcomes
from pytest_datasize.study.result import StudyResult


def to_json(result: StudyResult) -> dict[str, Any]:
    """Return a result as JSON data; floats are read back unchanged."""
    plain = {field.name: getattr(result, field.name) for field in fields(result)}
    for name in ("outcomes", "class_outcomes"):
        plain[name] = {key: _outcomes_to_json(value) for key, value in plain[name].items()}
    return plain


def from_json(plain: dict[str, Any]) -> StudyResult:
    """Return the result from the data of :func:`to_json`."""
    given = dict(plain)
    for name in ("notes", "sizes", "splits"):
        given[name] = tuple(given[name])
    for name in ("outcomes", "class_outcomes"):
        given[name] = {key: _outcomes_from_json(value) for key, value in given[name].items()}
    return StudyResult(**given)


def _outcomes_to_json(outcomes: Outcomes) -> dict[str, Any]:
    plain = {field.name: getattr(outcomes, field.name) for field in fields(outcomes)}
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

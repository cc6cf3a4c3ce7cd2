"""The marker functions that users import: ``from pytest_datasize import datasize``."""

import ast
import linecache
import sys
from typing import Any

import pytest

from pytest_datasize.errors import RequirementError
from pytest_datasize.plugin.merged_markers import split_stack
from pytest_datasize.requirement.requirement import Requirement

__all__ = ["represents", "requires"]


def requires(*args: Any, **arguments: Any) -> pytest.MarkDecorator:
    """Require that the images suffice for the given scores.

    Parameters
    ----------
    **arguments
        Metric targets in (0, 1): ``accuracy``, ``balanced_accuracy``, ``f1_micro``,
        ``f1_macro``, ``auc``, ``recall_per_class``, ...; metrics of single classes also take one
        target for each class, such as ``{"crack": 0.95, "*": 0.8}``, and operating points a class
        and two numbers, such as ``{"class": "crack", "precision": 0.9, "recall": 0.8}``; and
        options: ``dataset``, ``test_dataset``, ``group``, ``unit``, ``slices``, ``min_slice``,
        ``checks``, ``allow_outside``, ``max_pixels``, ``backbone``, ``weights``, ``precision``,
        ``strategy``, ``augment``, ``unfreeze``, ``trainer``, ``preset``, ``budget``,
        ``direction``, ``bounds``, ``image_size``, ``sizes``, ``repeats``, ``confidence``,
        ``second_look``, ``undecided``, ``trusted_range``, ``max_increase``, ``law``,
        ``test_fraction``, ``sampling``, ``seed``, ``device``, ``cost_per_image``,
        ``cost_per_group``, ``image_budget``; ``images_per_class`` (a number, or
        ``"rule-of-thumb"``) alone or with targets. Options without a target are defaults for the
        tests of a module or class.
        ``stack=True``: a requirement of its own, judged besides that of the other markers.

    Returns
    -------
    pytest.MarkDecorator
        ``pytest.mark.datasize(**arguments)``, for functions, classes and ``pytestmark``.

    Raises
    ------
    RequirementError
        At import time, if a name is unknown or a value is not allowed.

    Examples
    --------
    >>> from pytest_datasize import datasize
    >>> @datasize.requires(accuracy=0.9)
    ... def test_enough_images(): ...
    >>> datasize.requires(accuracy=90)
    Traceback (most recent call last):
        ...
    pytest_datasize.errors.RequirementError: ... accuracy=90 is not allowed (write 0.9 for 90 %). \
Expected a number above 0 and below 1, such as 0.9.
    """
    __tracebackhide__ = True
    return _marker(args, arguments)


def represents(*args: Any, **arguments: Any) -> pytest.MarkDecorator:
    """Require that the images are like those of the deployment.

    Parameters
    ----------
    **arguments
        ``deployment``: a folder of images from where the model will run, labelled or not
        (default: fixture ``datasize_deployment_dataset``); ``false_alarms``: how often images
        that are alike may be called different; and all arguments of :func:`requires`. With targets
        such as ``accuracy=0.9`` the deployment images must be labelled: the score on them is
        projected and judged too.

    Returns
    -------
    pytest.MarkDecorator
        ``pytest.mark.datasize(represents=True, **arguments)``.

    Raises
    ------
    RequirementError
        At import time, if a name is unknown or a value is not allowed.

    Examples
    --------
    >>> from pytest_datasize import datasize
    >>> @datasize.represents(deployment="data/field_samples")
    ... def test_the_right_images(): ...
    """
    __tracebackhide__ = True
    return _marker(args, {"represents": True, **arguments})


def _marker(args: tuple[Any, ...], arguments: dict[str, Any]) -> pytest.MarkDecorator:
    __tracebackhide__ = True
    try:
        given, _ = split_stack(arguments, "")
        Requirement.parse(args, given, "", part=True)  # a closer or outer marker may add targets
    except RequirementError as problem:
        caller = sys._getframe(2)
        where = _decorated_name(caller.f_code.co_filename, caller.f_lineno)
        raise RequirementError(f"{where}: {str(problem).removeprefix(': ')}") from None
    mark: pytest.MarkDecorator = pytest.mark.datasize(*args, **arguments)
    return mark


def _decorated_name(filename: str, line: int) -> str:
    """Return the name of the decorated object, so that an import error names the test."""
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:  # lines that are not a complete file: doctest, notebook
        return f"{filename}:{line}"

    def find(node: ast.AST, path: str) -> str | None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = f"{path}::{child.name}"
                if any(d.lineno <= line <= (d.end_lineno or 0) for d in child.decorator_list):
                    return name
                if found := find(child, name):
                    return found
        return None

    return find(tree, filename) or f"{filename}:{line}"

"""Show the warnings about a gate at its marker, which its author can change."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_datasize.errors import DatasizeWarning
from pytest_datasize.plugin.source_lines import places
from pytest_datasize.plugin.unforeseen import guarded
from pytest_datasize.reports.records.record_types import Record


def warn_at(item: pytest.Item, record: Record) -> None:
    """Issue the message of a record as a warning at the line of its marker."""
    path = str(item.config.rootpath / (record["file"] or item.path))
    warnings.warn_explicit(DatasizeWarning(record["message"]), None, path, record["line"] or 1)


@contextmanager
def shown_at(item: pytest.Item) -> Iterator[None]:
    """Move the warnings of the plugin to the first marker of a test.

    They are issued deep within the plugin, by code that does not know of a test. Those of other
    libraries stay where they are. Filters apply as always: an ``error`` is raised where the warning
    is issued.

    Raises
    ------
    DatasizeError
        A filter for the file of the test makes a warning an error.
    """
    [(file, line)] = places(item, 1)
    path = str(item.config.rootpath / file)
    said: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as said:
            yield
    except BaseException:
        for one in said:  # no filter may replace what was raised
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)
        raise
    for one in said:
        if issubclass(one.category, DatasizeWarning) and one.filename != path:
            guarded(warnings.warn_explicit, one.message, None, path, line)
        else:  # the filters have let it through where it was issued
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)

"""PYTEST_DONT_REWRITE: gathers the records of a session, writes its reports, publishes them.

Made at every pytest start, so what a report needs is imported when it is written.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pytest_datasize.errors import DatasizeError
from pytest_datasize.plugin.session import gates_of
from pytest_datasize.reports.registry import PUBLISHERS, REPORTS


def add_options(group: Any, parser: pytest.Parser) -> None:
    """Offer the options of all reports."""
    for name, (_, meaning) in REPORTS.items():
        group.addoption(f"--datasize-{name}", metavar="PATH", help=meaning)
    group.addoption(
        "--datasize-baseline",
        metavar="PATH",
        help="JSON of an earlier run to compare with; where there is none yet, this run is "
        "written there",
    )
    group.addoption(
        "--datasize-publish",
        metavar="NAMES",
        help=f"where to publish besides: auto (default; {', '.join(PUBLISHERS)}, each only where "
        "the environment sets it up), none, or some of these names",
    )
    parser.addini("datasize_publish", "where to publish (default: auto), see --datasize-publish")


def published(config: pytest.Config) -> tuple[str, ...]:
    """Return where results may be published.

    Raises
    ------
    pytest.UsageError
        A name is unknown.
    """
    text = config.getoption("datasize_publish") or config.getini("datasize_publish") or "auto"
    if text in ("auto", "none"):
        return tuple(PUBLISHERS) if text == "auto" else ()
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in PUBLISHERS:
            raise pytest.UsageError(
                f"--datasize-publish={text}: {name!r} is unknown. "
                f"Allowed: auto, none, {', '.join(PUBLISHERS)}."
            )
    return names


class Reporter:
    """Gathers the records of all gates where the session is controlled, and reports them."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.records: list[dict[str, Any]] = []
        self.comparisons: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.published = published(config)
        here = config.invocation_params.dir
        self.paths = {
            name: here / path for name in REPORTS if (path := config.getoption(f"datasize_{name}"))
        }
        baseline = config.getoption("datasize_baseline")
        self.baseline: Path | None = here / baseline if baseline else None
        self.first = self.baseline is not None and not self.baseline.exists()
        self.lock: Path | None = None
        if config.getoption("datasize_lock"):
            from pytest_datasize.reports.records import lock

            self.lock = config.rootpath / lock.NAME
        self._check()

    def _check(self) -> None:
        """Find out before hours of training what would go wrong after them."""
        if self.paths or self.baseline:
            from pytest_datasize.reports.records.files import check_writable
        try:
            if self.lock:
                from pytest_datasize.reports.records import lock

                lock.read(self.lock)
            if self.baseline:
                from pytest_datasize.reports.records.baseline import Baseline

                Baseline.read(self.baseline)
            for name, path in self.paths.items():
                check = getattr(import_module(REPORTS[name][0]), "check", None)
                if check:
                    check(path)
        except DatasizeError as problem:
            raise pytest.UsageError(str(problem)) from None
        wanted = {f"--datasize-{name}": path for name, path in self.paths.items()}
        if self.first and self.baseline:
            wanted["--datasize-baseline"] = self.baseline
        for option, path in wanted.items():
            try:
                check_writable(path)
            except OSError as problem:
                raise pytest.UsageError(
                    f"{option}={path}: cannot be written: {problem.strerror}"
                ) from None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the records out of a test's report."""
        found = getattr(report, "datasize", [])
        self.records += found
        if report.when == "call":
            self.comparisons += [
                (report.nodeid, str(text))
                for name, text in report.user_properties
                if name == "datasize_comparison"
            ]
        if found and self.config.getoption("htmlpath", None):  # pytest-html writes a page
            from pytest_datasize.reports.formats.pytest_html import add_extras

            add_extras(report, found)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the files that were asked for."""
        # a test that is run again or reports in parts still is one gate: the last word counts
        last = {
            (r["nodeid"], r["order"], str(r["metric"] or r.get("check", {}).get("kind"))): r
            for r in self.records
        }
        self.records = [last[key] for key in sorted(last)]
        if any(record["metric"] is not None for record in self.records):
            from pytest_datasize.reports.records import past_runs

            past_runs.remember(gates_of(self.config).store, self.records, self.config.rootpath)
        if self.config.option.collectonly or not (
            self.paths or self.first or self.lock or (self.records and self.published)
        ):
            return
        from pytest_datasize.reports.records import result_file

        if self.lock:
            from pytest_datasize.reports.records import lock

            lock.write(self.lock, self.records)
        self.run = result_file.content(self.records, int(exitstatus), self.config.rootpath)
        for name, path in self.paths.items():
            self._write(name, path)
        judged = any(record["metric"] is not None for record in self.records)
        if self.first and self.baseline and judged:
            result_file.write(self.baseline, self.run)
            self.notes.append(f"no baseline yet: this run is recorded as one in {self.baseline}")

    def _write(self, name: str, path: Path) -> None:
        try:
            import_module(REPORTS[name][0]).write(path, self.run)
        except OSError as problem:  # a disk may fill up while a gate trains
            self.notes.append(f"--datasize-{name}={path}: not written: {problem}")
        else:
            self.notes.append(f"written: {path}")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print what was found, and publish it where the environment is set up for that."""
        if self.comparisons:
            from pytest_datasize.reports.formats import terminal

            terminal.write_comparisons(terminalreporter, self.comparisons)
        if not self.records:
            return
        from pytest_datasize.reports.formats import terminal

        terminal.write(terminalreporter, self.records, self.notes)
        if self.config.option.collectonly:
            return
        for name in self.published:
            module = import_module(PUBLISHERS[name])
            if module.configured():
                module.publish(self.run, self.config.rootpath, terminalreporter.write_line)

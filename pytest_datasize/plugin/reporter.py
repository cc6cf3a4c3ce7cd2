"""Collect the records of a session, write its reports and publish them (PYTEST_DONT_REWRITE).

Imported when the first gate reports, or when an option requests a report; the imports of a report
run when it is written. An exception in a report becomes one line of output: hours of training must
not end in an internal error.
"""

import warnings
from collections.abc import Callable, Generator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_datasize.errors import DatasizeError
from pytest_datasize.plugin.session import gates_of
from pytest_datasize.reports.records.selection import target_name
from pytest_datasize.reports.registry import PUBLISHERS, REPORTS

if TYPE_CHECKING:
    from pytest_datasize.reports.records.record_types import ComparisonRecord, Record, RunContent


def published(config: pytest.Config) -> tuple[str, ...]:
    """Return the names of the services to which results may be published.

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
    """Collects and reports the records of all gates; runs in the controlling process only."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.records: list[Record] = []
        self.comparisons: list[ComparisonRecord] = []
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.run: RunContent | None = None
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
        """Check the report options before training, so that no report fails after hours of it."""
        wanted = {f"--datasize-{name}": path for name, path in self.paths.items()}
        if self.first and self.baseline:
            wanted["--datasize-baseline"] = self.baseline
        if self.lock:
            wanted["--datasize-lock"] = self.lock
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
        if wanted:
            from pytest_datasize.reports.records.files import check_writable
        for option, path in wanted.items():
            try:
                check_writable(path)
            except (OSError, ValueError) as problem:  # ValueError: a null character in the path
                said = getattr(problem, "strerror", None) or problem
                raise pytest.UsageError(f"{option}={path}: cannot be written: {said}") from None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the records from a test's report."""
        found = getattr(report, "datasize", [])
        self.records += found
        if report.when == "call":
            self.comparisons += getattr(report, "datasize_comparisons", [])
        if found and self.config.getoption("htmlpath", None):  # pytest-html writes a page
            self._try("the page of pytest-html lacks a curve", self._add_extras, report, found)

    @staticmethod
    def _add_extras(report: pytest.TestReport, found: "list[Record]") -> None:
        from pytest_datasize.reports.formats.pytest_html import add_extras

        add_extras(report, found)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the requested reports, the JSON file first: others can be drawn from it later."""
        # a test that is rerun or reports in parts is one gate: the last report counts
        last = {_key(record): record for record in self.records}
        self.records = [last[key] for key in sorted(last)]
        judged = any(record["metric"] is not None for record in self.records)
        seen = self.records or self.comparisons
        wanted = self.paths or self.first or self.lock or (seen and self.published)
        collected_only = self.config.option.collectonly
        if wanted and not collected_only:
            self._try("no report can be written", self._make_run, int(exitstatus))
        if self.run is not None and "json" in self.paths:
            self._write("json", self.paths["json"])
        if self.lock and not collected_only:
            self._try(f"--datasize-lock: {self.lock}: not written", self._write_lock, self.lock)
        if judged:
            self._try("history: this run is not kept", self._remember)
        if self.run is None:
            return
        if self.first and self.baseline and judged:
            self._try(f"--datasize-baseline={self.baseline}: not written", self._write_baseline)
        for name, path in self.paths.items():
            if name != "json":
                self._write(name, path)

    def _try(self, failure: str, action: Callable[..., None], *arguments: Any) -> None:
        """Run one action; an exception becomes one line at the end of the session.

        Warnings are not raised as errors: ``filterwarnings = error`` is for tests, and a
        deprecation inside a plotting library or a tracker must not cost a report.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                action(*arguments)
        except (Exception, SystemExit) as problem:  # a disk may fill up while a gate trains
            from pytest_datasize.reports.records.text import problem_text

            self.problems.append(f"{failure}: {problem_text(problem)}")

    def _make_run(self, exit_status: int) -> None:
        from pytest_datasize.reports.records import result_file
        from pytest_datasize.reports.wording.overview import headline

        self.run = result_file.content(
            self.records,
            exit_status,
            self.config.rootpath,
            command=["pytest", *map(str, self.config.invocation_params.args)],
            headline=headline(self.records),
            comparisons=self.comparisons,
        )

    def _write(self, name: str, path: Path) -> None:
        def write() -> None:
            import_module(REPORTS[name][0]).write(path, self.run)
            self.notes.append(f"written: {path}")

        self._try(f"--datasize-{name}={path}: not written", write)

    def _write_lock(self, path: Path) -> None:
        from pytest_datasize.reports.records import lock

        lock.write(path, self.records)

    def _write_baseline(self) -> None:
        from pytest_datasize.reports.records import result_file

        if self.baseline and self.run:
            result_file.write(self.baseline, self.run)
            self.notes.append(f"no baseline yet: this run is recorded as one in {self.baseline}")

    def _remember(self) -> None:
        from pytest_datasize.reports.records import past_runs

        past_runs.remember(gates_of(self.config).store, self.records, self.config.rootpath)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the summary, and publish it to the services that the environment configures."""
        if self.comparisons:
            self._try("the comparisons cannot be shown", self._compare, terminalreporter)
        if self.records:
            self._try("the summary cannot be shown", self._show, terminalreporter)
        if terminalreporter.verbosity >= 0 and self.records:
            self._say(terminalreporter, self.notes)
        if self.run is not None and self.records:
            for name in self.published:
                self._try(f"{name}: not published", self._publish, name, terminalreporter)
        # failures are shown with -q, too
        self._say(terminalreporter, [f"datasize: {problem}" for problem in self.problems])

    @staticmethod
    def _say(terminalreporter: Any, lines: list[str]) -> None:
        if lines:
            from pytest_datasize.reports.records.text import one_line

            terminalreporter.ensure_newline()
        for line in lines:
            terminalreporter.write_line(one_line(line))

    def _compare(self, terminalreporter: Any) -> None:
        from pytest_datasize.reports.formats import terminal

        terminal.write_comparisons(terminalreporter, self.comparisons)

    def _show(self, terminalreporter: Any) -> None:
        from pytest_datasize.reports.formats import terminal

        terminal.write(terminalreporter, self.records)

    def _publish(self, name: str, terminalreporter: Any) -> None:
        module = import_module(PUBLISHERS[name])
        if module.configured():
            module.publish(self.run, self.config.rootpath, terminalreporter.write_line)


class LastLine:
    """Prints the outcome of the run below pytest's own summary, where readers look first."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None]:
        """Let all other summaries come first."""
        yield
        records = self._reporter.records
        if records and (terminalreporter.verbosity >= 0 or any(r["failed"] for r in records)):
            self._reporter._try("the headline cannot be shown", self._show, terminalreporter)

    def _show(self, terminalreporter: Any) -> None:
        from pytest_datasize.reports.formats import terminal

        terminal.write_headline(terminalreporter, self._reporter.records)


def _key(record: "Record") -> tuple[str, int, str]:
    """Return the key of a record: the test, its requirement, the metric or condition."""
    check: Any = record.get("check")
    name = target_name(record) if record["metric"] else str((check or {}).get("kind"))
    return record["nodeid"], record["order"], name

"""Define the pytest hooks and options (PYTEST_DONT_REWRITE).

Imported at every pytest start, so neither this module nor its imports may import anything heavy.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_datasize.errors import RequirementError
from pytest_datasize.plugin.command_line import (
    declare,
    help_text,
    refuse_unknown,
    refuse_unknown_ini,
)
from pytest_datasize.plugin.config import (
    MARKER,
    ini_options,
    is_marked,
    refuse_moved_root,
    wants_reports,
)
from pytest_datasize.plugin.fixtures import (
    _datasize_evidence,
    datasize_augment,
    datasize_backbone,
    datasize_compare,
    datasize_dataset,
    datasize_deployment_dataset,
    datasize_result,
    datasize_study,
    datasize_test_dataset,
    datasize_trainer,
)
from pytest_datasize.plugin.session import COMPARED, close_gates, gates_of

if TYPE_CHECKING:
    from pytest_datasize.plugin.reporter import Reporter

__all__ = [
    "_datasize_evidence",
    "datasize_augment",
    "datasize_backbone",
    "datasize_compare",
    "datasize_dataset",
    "datasize_deployment_dataset",
    "datasize_result",
    "datasize_study",
    "datasize_test_dataset",
    "datasize_trainer",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add every option of the marker to the command line and the ini file."""
    declare(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Refuse unknown options of ours, once every conftest.py has declared its own."""
    yield
    refuse_unknown(parser, args)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Print the help of the plugin, where it is asked for."""
    if not config.getoption("datasize_help"):
        return None
    print(help_text(), end="")
    return 0


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and check the ini file."""
    config.addinivalue_line(
        "markers",
        "datasize(**targets_and_options): fail unless the images suffice for the target scores; "
        "for example datasize(accuracy=0.9). Written as @datasize.requires(accuracy=0.9).",
    )
    refuse_unknown_ini(config)
    ini_options(config)
    refuse_moved_root(config)
    named = config.getoption("datasize_config")
    if named and not (config.invocation_params.dir / named).is_file():
        raise pytest.UsageError(f"--datasize-config={named}: no such file")
    if not hasattr(config, "workerinput"):
        if wants_reports(config):
            add_reporter(config)
        else:
            config.pluginmanager.register(FirstReport(config), "datasize-first-report")


def add_reporter(config: pytest.Config) -> "Reporter":
    """Register what gathers and writes the records of a session."""
    from pytest_datasize.plugin.reporter import LastLine, Reporter

    reporter = Reporter(config)
    config.pluginmanager.register(reporter, "datasize-reporter")
    config.pluginmanager.register(LastLine(reporter), "datasize-last-line")
    return reporter


class FirstReport:
    """Registers the reporter when the first test reports something for it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hand the first report on; later ones reach the reporter itself."""
        properties = (name for name, _ in report.user_properties)
        if hasattr(report, "datasize") or "datasize_comparison" in properties:
            self._config.pluginmanager.unregister(self)
            add_reporter(self._config).pytest_runtest_logreport(report)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the workers and close the store of the gates."""
    close_gates(config)


def pytest_collect_file(file_path: Any, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the gates of a ``datasize.yaml``."""
    if file_path.name != "datasize.yaml":
        return None
    from pytest_datasize.plugin.yaml_file import YamlFile

    file: pytest.Collector = YamlFile.from_parent(parent, path=file_path)
    return file


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Report a wrong marker as a collection error, before anything is trained."""
    report = yield
    problems = []
    children = report.result or []
    for node in children:
        if is_marked(node):
            try:
                gates_of(collector.config).attach(node)
            except RequirementError as problem:
                problems.append(str(problem))
    if not problems and any(mark.name == MARKER for mark in collector.own_markers):
        problems += gates_of(collector.config).without_target(collector, children)
    if problems:
        report.outcome = "failed"
        report.longrepr = "\n".join(dict.fromkeys(problems))
        report.result = []
        gates_of(collector.config).refused = True
    return report


def pytest_exception_interact(node: Any, call: pytest.CallInfo[Any]) -> None:
    """Detect a wrong ``datasize.requires`` that stopped the import of a test module."""
    if call.when == "collect" and call.excinfo and call.excinfo.errisinstance(RequirementError):
        gates_of(node.config).refused = True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Attach a gate whose marker was added after collection."""
    if is_marked(item):
        try:
            gates_of(item.config).attach(item)
        except RequirementError as problem:
            wrong = str(problem)
        else:
            return
        pytest.fail(wrong, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Judge the gate; if it fails, the test's body does not run."""
    if is_marked(item):
        gates_of(item.config).decide(item)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the records to the test's report, which also leaves a pytest-xdist worker."""
    report = yield
    if is_marked(item):
        gates_of(item.config).amend(item, call, report)
    if report.when == "call" and (compared := item.stash.get(COMPARED, None)):
        report.datasize_comparisons = compared  # type: ignore[attr-defined]
    return report

"""Define the pytest hooks and options (PYTEST_DONT_REWRITE).

Imported at every pytest start, so neither this module nor its imports may import anything heavy.
"""

import argparse
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_datasize.errors import RequirementError
from pytest_datasize.plugin.config import (
    add_report_options,
    ini_options,
    is_gate,
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
from pytest_datasize.requirement.options import OPTIONS

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

MODES = ("run", "locked", "check", "plan", "skip")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add every option of the marker to the command line and the ini file."""
    group = parser.getgroup("datasize", "image data sufficiency (pytest-datasize)")
    group.addoption(
        "--datasize",
        dest="datasize_mode",
        choices=MODES,
        default="run",
        help="run: train and judge (default); locked: judge by datasize.lock.json alone; check: "
        "only read every image and report findings; plan: print what would be trained and what "
        "it would cost; skip: skip the gates",
    )
    add_report_options(group, parser)
    group.addoption(
        "--datasize-config",
        metavar="PATH",
        help="settings file (default: datasize.yaml in the root directory)",
    )
    group.addoption(
        "--datasize-store",
        metavar="PATH",
        help="folder that keeps what was measured for the next run, or 'off' (default: in "
        "pytest's cache folder)",
    )
    parser.addini("datasize_store", "like --datasize-store")
    group.addoption(
        "--datasize-refresh",
        action="store_true",
        help="measure again, whatever the store holds",
    )
    group.addoption(
        "--datasize-verify",
        action="store_true",
        help="read every image again, also where its file seems unchanged",
    )
    group.addoption(
        "--datasize-lock",
        action="store_true",
        help="write the verdicts to datasize.lock.json, to be committed",
    )
    for name, option in OPTIONS.items():
        flag = f"--datasize-{name.replace('_', '-')}"
        group.addoption(
            flag,
            dest=f"datasize_{name}",
            metavar="VALUE",
            type=_checked(name),
            help=option.help,
        )
        parser.addini(f"datasize_{name}", f"{option.help} (default: {option.default})")


def _checked(name: str) -> Any:
    def check(text: str) -> Any:
        try:
            return OPTIONS[name].parse_text(name, text, "")
        except RequirementError as problem:
            raise argparse.ArgumentTypeError(str(problem)) from None

    return check


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and check the ini file."""
    config.addinivalue_line(
        "markers",
        "datasize(**targets_and_options): fail unless the images suffice for the target scores; "
        "for example datasize(accuracy=0.9). Written as @datasize.requires(accuracy=0.9).",
    )
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
    for node in report.result or []:
        if isinstance(node, pytest.Item) and is_gate(node):
            try:
                gates_of(collector.config).attach(node)
            except RequirementError as problem:
                problems.append(str(problem))
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
    if is_gate(item):
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
    if is_gate(item):
        gates_of(item.config).decide(item)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the records to the test's report, which also leaves a pytest-xdist worker."""
    report = yield
    if is_gate(item):
        gates_of(item.config).amend(item, call, report)
    if report.when == "call" and (compared := item.stash.get(COMPARED, None)):
        report.datasize_comparisons = compared  # type: ignore[attr-defined]
    return report

"""A marked test as a gate: its requirements, their settings, the evidence, the verdict.

Imported when the first gate is collected; studies only when the first gate runs.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_datasize.errors import DatasizeError, DatasizeWarning, RequirementError
from pytest_datasize.requirement import OPTIONS, Requirement
from pytest_datasize.session import MARKER, command_line_options, ini_options
from pytest_datasize.settings import CONFIG_NAME, Settings, YamlConfig, read_yaml, resolve

if TYPE_CHECKING:
    from pytest_datasize.study import Study, StudyResult

EVIDENCE_FIXTURE = "_datasize_evidence"
_FIXTURES = {
    "dataset": "datasize_dataset",
    "test_dataset": "datasize_test_dataset",
    "backbone": "datasize_backbone",
}
_OF_THE_VERDICT = ("confidence", "undecided", "trusted_range")
_PATHS = ("dataset", "test_dataset", "weights")


@dataclass(frozen=True)
class Asked:
    """One requirement of a test, with the settings of its place."""

    requirement: Requirement
    settings: Settings


@dataclass
class Gate:
    """What is known about one marked test; grows as it is set up and called."""

    asked: tuple[Asked, ...]
    results: list["StudyResult"] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    broken: bool = False


_GATE = pytest.StashKey[Gate]()


class Gates:
    """All gates of one session, and what they share: settings, studies, embeddings."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.command_line = command_line_options(config)
        self.ini = ini_options(config)
        self._yaml: dict[Path, YamlConfig] = {}
        self._studies: dict[Any, StudyResult] = {}
        self._kept: list[Any] = []  # objects whose id() stands in a key must stay alive
        self._embeddings: dict[str, Any] = {}
        self.refused = False

    # -- collection ---------------------------------------------------------------------------

    def attach(self, item: pytest.Item) -> None:
        """Read the markers of a test; raise :class:`RequirementError` when one is wrong."""
        if not isinstance(item, pytest.Function):
            raise RequirementError(f"{item.nodeid}: only test functions can be datasize gates.")
        markers = reversed(list(item.iter_markers(MARKER)))  # in reading order
        requirements = [Requirement.parse(m.args, m.kwargs, item.nodeid) for m in markers]
        yaml = self.yaml_of(item)
        asked = tuple(Asked(r, self.settings(r.options, yaml)) for r in requirements)
        item.stash[_GATE] = Gate(asked)
        if EVIDENCE_FIXTURE not in item.fixturenames:
            # a list of its own: parametrised tests share one, and not all need carry the marker
            item.fixturenames = [*item.fixturenames, EVIDENCE_FIXTURE]

    def yaml_of(self, item: pytest.Item) -> YamlConfig:
        """Settings file of a test: its own for a YAML gate, else that of the session."""
        own = item.path if item.path.suffix in (".yaml", ".yml") else None
        return self.yaml(own)

    def yaml(self, path: Path | None = None) -> YamlConfig:
        """Read a settings file once; the session's when no path is given."""
        if path is None:
            named = self.config.getoption("datasize_config")
            path = (
                self.config.invocation_params.dir / named
                if named
                else self.config.rootpath / CONFIG_NAME
            )
            if not named and not path.is_file():
                return YamlConfig(path)
        if path not in self._yaml:
            self._yaml[path] = read_yaml(path)
        return self._yaml[path]

    def settings(self, marker: Mapping[str, Any], yaml: YamlConfig) -> Settings:
        """Merge all layers, the marker's options the strongest."""
        return resolve(
            ("marker", marker),
            ("command line", self.command_line),
            (str(yaml.path), yaml.defaults),
            ("ini file", self.ini),
        )

    # -- set-up -------------------------------------------------------------------------------

    def gather(self, request: pytest.FixtureRequest) -> Gate:
        """Train what the test's requirements need; fail its set-up when that is impossible."""
        __tracebackhide__ = True
        item = request.node
        gate: Gate = item.stash[_GATE]
        mode = self.config.getoption("datasize_mode")
        if mode == "skip":
            gate.records = [self._plain_record(item, "skipped", "--datasize=skip")]
            pytest.skip("--datasize=skip: image data sufficiency is not judged")
        broken = ""
        try:
            if self.refused and not self.config.option.continue_on_collection_errors:
                # pytest itself stops here, but pytest-xdist runs what it could collect
                raise RequirementError("not trained: another gate is wrong, see the errors above.")
            if mode == "plan":
                self._plan(request, gate)
            else:
                gate.results = [self._result(request, asked) for asked in gate.asked]
        except DatasizeError as problem:
            broken = str(problem)
        if broken:  # outside the except block, or pytest would show a chain of exceptions
            gate.broken = True
            gate.records = [self._plain_record(item, "error", broken)]
            pytest.fail(broken, pytrace=False)
        if mode == "plan":
            pytest.skip("--datasize=plan: nothing is trained")
        return gate

    def study(self, request: pytest.FixtureRequest, options: Mapping[str, Any]) -> "Study":
        """Build a study for imperative use, with the settings of the session."""
        checked = {
            name: OPTIONS[name].parse(name, value, "datasize_study")
            for name, value in options.items()
            if name in OPTIONS or self._unknown(name)
        }
        return self._study(request, self.settings(checked, self.yaml()))

    @staticmethod
    def _unknown(name: str) -> bool:
        raise RequirementError(
            f"datasize_study: unknown name {name!r}. Allowed: {', '.join(sorted(OPTIONS))}."
        )

    def _result(self, request: pytest.FixtureRequest, asked: Asked) -> "StudyResult":
        options = self._options(request, asked.settings)
        key: tuple[Any, ...] = tuple((name, _identity(value)) for name, value in options.items())
        until = None
        if (confidence := asked.settings["confidence"]) is not None:
            from pytest_datasize.sequential import Certainty

            # how many repeats are trained then depends on the targets
            until = Certainty(asked.requirement.targets, confidence)
            key += (confidence, *sorted(asked.requirement.targets.items()))
        if key not in self._studies:
            self._kept += options.values()
            self._studies[key] = self._study(request, asked.settings).run(until)
        return self._studies[key]

    def _plan(self, request: pytest.FixtureRequest, gate: Gate) -> None:
        from pytest_datasize.reports.record import plan_record

        for order, asked in enumerate(gate.asked):
            plan = self._study(request, asked.settings).plan()
            targets = asked.requirement.targets
            gate.records.append(plan_record(request.node.nodeid, order, targets, plan))

    def _study(self, request: pytest.FixtureRequest, settings: Settings) -> "Study":
        from pytest_datasize.reports.progress import Progress
        from pytest_datasize.study import Study

        return Study(
            **self._options(request, settings),
            cache=self._embeddings,
            on_progress=Progress(self.config),
        )

    def _options(self, request: pytest.FixtureRequest, settings: Settings) -> dict[str, Any]:
        """Fill in fixtures where no layer says anything, and make paths absolute."""
        values = {
            name: value for name, value in settings.values.items() if name not in _OF_THE_VERDICT
        }
        for name, fixture in _FIXTURES.items():
            if settings.is_default(name):
                found = request.getfixturevalue(fixture)
                if found is not None:
                    values[name] = OPTIONS[name].parse(name, found, f"fixture {fixture}")
        if values["dataset"] is None:
            raise DatasizeError(
                "no data set: give dataset='path' in the marker, override the fixture "
                "datasize_dataset in conftest.py, or set `defaults: {dataset: ...}` in "
                f"{CONFIG_NAME}."
            )
        for name in _PATHS:
            values[name] = self._located(name, values[name], self._base(settings.origin[name]))
        backbone = values["backbone"]
        if isinstance(backbone, str) and backbone.startswith("local-dir:"):
            folder = self._base(settings.origin["backbone"]) / backbone.removeprefix("local-dir:")
            values["backbone"] = f"local-dir:{folder}"
        return values

    def _base(self, origin: str) -> Path:
        """Folder from which the relative paths of a layer start."""
        if origin == "command line":
            return self.config.invocation_params.dir
        if origin.endswith((".yaml", ".yml")):
            return Path(origin).parent
        return self.config.rootpath

    def _located(self, name: str, value: Any, base: Path) -> Any:
        if not isinstance(value, str) or value in OPTIONS[name].choices:
            return value
        if name in ("dataset", "test_dataset"):
            for yaml in (*self._yaml.values(), self.yaml()):
                if value in yaml.datasets:
                    return str(yaml.path.parent / yaml.datasets[value])
        return str(base / value)

    # -- call and report ----------------------------------------------------------------------

    def decide(self, item: pytest.Item) -> None:
        """Judge the evidence; fail the test in its call phase when it does not suffice."""
        __tracebackhide__ = True
        gate = item.stash.get(_GATE, None)
        if gate is None:
            return
        from pytest_datasize.reports import explain
        from pytest_datasize.reports.record import records

        failures = []
        gate.records = []
        for order, (asked, result) in enumerate(zip(gate.asked, gate.results, strict=True)):
            confidence, trusted = asked.settings["confidence"], asked.settings["trusted_range"]
            verdict = result.verdict(confidence, trusted, **asked.requirement.targets)
            found = records(item.nodeid, order, verdict, result)
            gate.records += found
            for record in found:
                if record["verdict"] == "undecided" and asked.settings["undecided"] == "warn":
                    warnings.warn(DatasizeWarning(record["message"]), stacklevel=1)
                elif record["verdict"] != "sufficient":
                    failures.append(record)
        if failures:
            pytest.fail(explain.failure(failures), pytrace=False)

    def amend(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Attach the records to the report that ends the gate's work."""
        gate = item.stash.get(_GATE, None)
        if gate is None:
            return
        if report.when == "call" or (report.when == "setup" and not report.passed):
            if not gate.records:  # another fixture failed or skipped before this gate was judged
                gate.records = [self._plain_record(item, report.outcome, "not judged")]
            report.datasize = gate.records  # type: ignore[attr-defined]
        if gate.broken and report.when == "setup" and hasattr(report, "wasxfail"):
            # xfail expects a data set that is too small, not one that cannot be judged
            del report.wasxfail
            report.outcome = "failed"

    @staticmethod
    def _plain_record(item: pytest.Item, verdict: str, message: str) -> dict[str, Any]:
        from pytest_datasize.reports.record import plain_record

        return plain_record(item.nodeid, verdict, message)


def _identity(value: Any) -> Any:
    """Stand for an option's value in a key: itself when it is plain, else the very object."""
    plain = isinstance(value, (str, int, float, type(None))) or (
        isinstance(value, tuple) and all(isinstance(entry, (int, float)) for entry in value)
    )
    return value if plain else ("object", id(value))

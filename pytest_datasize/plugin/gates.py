"""Run a marked test as a gate: its requirements, their settings, the evidence, the verdict.

Imported when the first gate is collected; study modules only when the first gate runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_datasize.errors import DatasetError, DatasizeError, RequirementError
from pytest_datasize.plugin.config import (
    EVIDENCE_FIXTURE,
    MARKER,
    command_line_options,
    ini_options,
    open_store,
)
from pytest_datasize.plugin.junit import note_properties
from pytest_datasize.plugin.merged_markers import may_have_target, merged_requirements
from pytest_datasize.plugin.study_options import (
    OF_A_STUDY,
    deployment,
    frozen,
    session_key,
    study_options,
)
from pytest_datasize.plugin.unforeseen import add_traceback, guarded
from pytest_datasize.plugin.verdicts import (
    ConfiguredRequirement,
    Evidence,
    committed_condition,
    final_records,
    known_verdict,
    locked_verdict,
    verdict_of,
)
from pytest_datasize.plugin.warning_places import shown_at
from pytest_datasize.reports.records.record_types import ConditionRecord, PlainRecord, Record
from pytest_datasize.reports.records.selection import is_judged
from pytest_datasize.reports.records.text import printable, sendable
from pytest_datasize.requirement.options import OPTIONS
from pytest_datasize.requirement.requirement import asked_task, check_slices, check_units, no_target
from pytest_datasize.requirement.settings import (
    CONFIG_NAME,
    Layer,
    Settings,
    YamlConfig,
    read_yaml,
    resolve,
)
from pytest_datasize.requirement.spelling import nearest
from pytest_datasize.requirement.targets import points_of
from pytest_datasize.study.engines import Engines

if TYPE_CHECKING:
    from pytest_datasize.reports.records.baseline import Baseline
    from pytest_datasize.store import Store
    from pytest_datasize.study.before_training import StudyCheck
    from pytest_datasize.study.ladder import Ladder
    from pytest_datasize.study.study import Study


@dataclass
class Gate:
    """State of one marked test, filled in during its set-up and call."""

    requirements: tuple[ConfiguredRequirement, ...]
    markers: tuple[pytest.Mark, ...] = ()  # kept alive: their values are compared by id
    content: Any = None  # of the markers, at the time they were read
    evidence: list[Evidence | None] = field(default_factory=list)  # None: nothing is trained
    conditions: list[ConditionRecord] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


_GATE = pytest.StashKey[Gate]()


def _content(markers: tuple[pytest.Mark, ...]) -> Any:
    """Return the content of markers, to detect a later change."""
    return [[frozen(marker.args), frozen(marker.kwargs)] for marker in markers]


class Gates:
    """All gates of one session, and their shared settings, studies and embeddings."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.command_line = command_line_options(config)
        self.ini = ini_options(config)
        self._yaml: dict[Path, YamlConfig] = {}
        self._ladders: dict[Any, Ladder] = {}
        self._checks: dict[Any, StudyCheck] = {}
        self._kept: list[Any] = []  # objects whose id() is part of a key must stay alive
        self._store: Store | None = None
        self._engines = Engines()
        self.baseline = self._baseline()
        self.refused = False

    # -- collection ---------------------------------------------------------------------------

    def attach(self, item: pytest.Function) -> None:
        """Read the markers of a test; raise :class:`RequirementError` if one is wrong.

        Called when the test is collected and again before its set-up: a conftest.py may have
        added, replaced or changed a marker in between.
        """
        markers = tuple(item.iter_markers(MARKER))
        content = _content(markers)
        if _GATE in item.stash and item.stash[_GATE].content == content:
            return
        yaml = self.yaml_of(item)
        base = yaml.path.parent if yaml.path == item.path else self.config.rootpath
        found = []
        for requirement in merged_requirements(item):
            layer = Layer("marker", requirement.options, base)
            settings = self.settings(layer, yaml)
            if settings["min_slice"] and not settings["slices"]:
                raise RequirementError(
                    f"{requirement.where}: min_slice needs slices: name the factors whose values "
                    "are judged, such as slices=['site', 'lighting']."
                )
            origin = settings.layers.get("min_slice", layer)
            place = "" if origin is layer else f": {origin.name}"
            check_slices(settings.values, f"{requirement.where}{place}")
            check_units(settings.values, requirement.where)
            found.append(ConfiguredRequirement(requirement, settings, yaml))
        item.stash[_GATE] = Gate(tuple(found), markers, content)
        if found and EVIDENCE_FIXTURE not in item.fixturenames:
            # a list of its own: parametrised tests share one, and not all need carry the marker
            item.fixturenames = [*item.fixturenames, EVIDENCE_FIXTURE]

    def without_target(
        self, collector: pytest.Collector, children: Sequence[pytest.Item | pytest.Collector]
    ) -> list[str]:
        """Return the problem of a marked module or class if no test in it has a target."""
        tests = [child for child in children if isinstance(child, (pytest.Function, pytest.Class))]
        targets = (
            bool(child.stash[_GATE].requirements)
            if _GATE in child.stash
            else may_have_target(child)
            for child in tests
        )
        if not tests or any(targets):  # a doctest is no gate and needs no target
            return []
        return [str(no_target(collector.nodeid))]

    def yaml_of(self, item: pytest.Item) -> YamlConfig:
        """Return the settings file of a test: its own for a YAML gate, else the session's."""
        own = item.path if item.path.suffix in (".yaml", ".yml") else None
        return self.yaml(own)

    def yaml(self, path: Path | None = None) -> YamlConfig:
        """Read a settings file once; without a path, the session's."""
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

    def settings(self, marker: Layer, yaml: YamlConfig) -> Settings:
        """Merge all layers; the marker's options override the others."""
        return resolve(
            marker,
            Layer("command line", self.command_line, self.config.invocation_params.dir),
            Layer(str(yaml.path), yaml.defaults, yaml.path.parent),
            Layer("ini file", self.ini, self.config.rootpath),
        )

    # -- set-up -------------------------------------------------------------------------------

    def gather(self, request: pytest.FixtureRequest) -> Gate:
        """Measure or load the evidence of the test's requirements; on an error, fail the set-up."""
        item = request.node
        gate: Gate = item.stash[_GATE]
        # a test that is run again (reruns, flaky) sets its gate up again
        gate.evidence, gate.conditions, gate.records = [], [], []
        mode = self.config.getoption("datasize_mode")
        if mode == "skip":
            gate.records = [self._plain_record(item, "skipped", "--datasize=skip")]
            pytest.skip("--datasize=skip: image data sufficiency is not judged")
        broken = ""
        try:
            if self.refused and not self.config.option.continue_on_collection_errors:
                # pytest itself stops here, but pytest-xdist runs what it could collect
                raise RequirementError("not trained: another gate is wrong, see the errors above.")
            with shown_at(item):
                if mode == "plan":
                    self._plan(request, gate)
                elif mode == "check":
                    self._check(request, gate)
                else:
                    for order, configured in enumerate(gate.requirements):
                        gate.conditions += self._conditions(request, order, configured)
                        trains = bool(configured.targets)
                        gate.evidence.append(
                            self._gathered(request, order, configured) if trains else None
                        )
        except DatasizeError as problem:
            add_traceback(item, "setup", problem)
            broken = str(problem)
        if broken:  # outside the except block, or pytest would show a chain of exceptions
            if not gate.records:
                gate.records = [self._plain_record(item, "error", broken)]
            pytest.fail(printable(broken), pytrace=False)
        if mode in ("check", "plan"):
            pytest.skip(f"--datasize={mode}: nothing is trained")
        return gate

    def study(self, request: pytest.FixtureRequest, options: Mapping[str, Any]) -> "Study":
        """Build a study for use inside a test, with the settings of the session."""
        mode = self.config.getoption("datasize_mode")
        if mode != "run":
            pytest.skip(f"--datasize={mode}: nothing is trained")
        checked = {}
        for name, value in options.items():
            if name not in OF_A_STUDY:
                raise RequirementError(
                    f"datasize_study: unknown name {name!r}{nearest(name, OF_A_STUDY) or '.'} "
                    f"Allowed: {', '.join(sorted(OF_A_STUDY))}."
                )
            checked[name] = OPTIONS[name].parse(name, value, "datasize_study")
        yaml = self.yaml()
        layer = Layer("datasize_study", checked, self.config.rootpath)
        return self._study(study_options(request, self.settings(layer, yaml), yaml))

    def _gathered(
        self, request: pytest.FixtureRequest, order: int, configured: ConfiguredRequirement
    ) -> Evidence:
        """Load the cached verdict for a requirement, or measure its evidence."""
        options = self._options(request, configured)
        key = session_key(options)
        if configured.confidence is not None:  # the number of repeats depends on the targets
            key += (configured.confidence, frozen(configured.targets))
        if key not in self._ladders:
            from pytest_datasize.study.ladder import Ladder

            self._kept += options.values()
            self._ladders[key] = Ladder(self._study(options), configured.until)
        evidence = Evidence(self._ladders[key], configured, self.locked)
        if self.locked:
            nodeid = sendable(request.node.nodeid)
            configured.locked = guarded(
                locked_verdict, self.config.rootpath, nodeid, order, configured, evidence
            )
        elif not guarded(known_verdict, self.store, configured, evidence):
            evidence.climb  # noqa: B018 (measures now: training belongs to the set-up phase)
        return evidence

    @staticmethod
    def _options(
        request: pytest.FixtureRequest, configured: ConfiguredRequirement
    ) -> dict[str, Any]:
        """Return the options of a requirement's study; its metrics may say what the labels are."""
        options = study_options(request, configured.settings, configured.yaml)
        if points := points_of(configured.requirement.targets):
            options["operating_points"] = {**(options["operating_points"] or {}), **points}
        if options["trainer"] is None:
            options["task"] = asked_task(
                [*configured.requirement.targets, *configured.targets.get("min_slice", ())],
                options["task"],
                configured.requirement.where,
            )
        return options

    def _conditions(
        self, request: pytest.FixtureRequest, order: int, configured: ConfiguredRequirement
    ) -> list[ConditionRecord]:
        """Return the records of the conditions besides scores."""
        from pytest_datasize.plugin import conditions

        settings = configured.settings
        found: list[ConditionRecord] = []
        if settings["images_per_class"] is None and not settings["represents"]:
            return []
        options = self._options(request, configured)
        study = self._study({**options, "test_dataset": None})
        if (per_class := settings["images_per_class"]) is not None:
            strategy = settings["strategy"]
            found.append(guarded(conditions.images_per_class, study, per_class, strategy))
        if settings["represents"]:
            field = deployment(request, settings, configured.yaml)
            nodeid = sendable(request.node.nodeid)
            known = (
                partial(committed_condition, self.config.rootpath, nodeid, order, kind="represents")
                if self.locked
                else None
            )
            alarms = settings["false_alarms"]
            found.append(guarded(conditions.represents, study, field, alarms, known))
        return [{**record, "order": order} for record in found]

    @property
    def locked(self) -> bool:
        """Whether gates are judged only from the committed record."""
        return bool(self.config.getoption("datasize_mode") == "locked")

    @property
    def store(self) -> "Store":
        """The store of the session, opened on first use."""
        if self._store is None:
            self._store = open_store(self.config)
        return self._store

    def close(self) -> None:
        """Stop the workers and close the store."""
        self._engines.close()
        if self._store is not None:
            self._store.close()
            self._store = None

    def _plan(self, request: pytest.FixtureRequest, gate: Gate) -> None:
        from pytest_datasize.reports.records.record import plan_record
        from pytest_datasize.study.ladder import Ladder

        for order, configured in enumerate(gate.requirements):
            options = self._options(request, configured)
            if not configured.targets:
                nothing = "--datasize=plan: this requirement trains nothing"
                gate.records.append(self._plain_record(request.node, "skipped", nothing))
                continue
            ladder = Ladder(self._study(options))
            guarded(ladder.check, configured.targets)
            plans = guarded(lambda: list(ladder.plans()))  # noqa: B023 (called at once)
            targets = dict(configured.requirement.targets)
            for metric, target in configured.targets.get("min_slice", {}).items():
                targets[f"{metric} of every slice"] = target
            gate.records.append(plan_record(request.node.nodeid, order, targets, plans))

    def _check(self, request: pytest.FixtureRequest, gate: Gate) -> None:
        from pytest_datasize.images.findings import in_full
        from pytest_datasize.reports.records.record import check_record

        errors = []
        for order, configured in enumerate(gate.requirements):
            options = self._options(request, configured)
            key = session_key(options)
            if key not in self._checks:
                self._kept += options.values()
                self._checks[key] = guarded(self._study(options).check)
            context = self._study(options).context
            guarded(context.check_targets, configured.targets)
            guarded(context.check_points)
            check = self._checks[key]
            gate.records.append(check_record(request.node.nodeid, order, check))
            errors += [line for finding in check.errors for line in in_full(finding)]
        if errors:
            raise DatasetError("\n".join(dict.fromkeys(errors)))

    def _study(self, options: Mapping[str, Any]) -> "Study":
        from pytest_datasize.plugin.progress import Progress
        from pytest_datasize.study.study import Study

        progress = Progress(self.config)
        return Study(**options, store=self.store, engines=self._engines, on_progress=progress)

    # -- call and report ----------------------------------------------------------------------

    def decide(self, item: pytest.Item) -> None:
        """Judge the evidence; fail the test in its call phase if a requirement is not met."""
        gate = item.stash.get(_GATE, None)
        now = _content(tuple(item.iter_markers(MARKER)))
        if gate is None or gate.content != now or len(gate.evidence) != len(gate.requirements):
            pytest.fail(
                "the datasize marker was added or changed too late to be judged; do so before the "
                "test is set up",
                pytrace=False,
            )
        if not gate.requirements:
            return
        broken = ""
        try:
            with shown_at(item):
                gate.records, failure = guarded(self._decided, item, gate)
        except DatasizeError as problem:
            add_traceback(item, "call", problem)
            broken = str(problem)
        if broken:  # outside the except block, or pytest would show a chain of exceptions
            gate.records = [self._plain_record(item, "error", broken)]
            pytest.fail(printable(broken), pytrace=False)
        if failure:
            pytest.fail(printable(failure), pytrace=False)

    def _decided(self, item: pytest.Item, gate: Gate) -> tuple[list[Record], str]:
        """Return the records of a gate, and the text of its failure (empty if it is met)."""
        from pytest_datasize.reports.wording import explain

        records = final_records(
            item,
            [configured.settings for configured in gate.requirements],
            [
                verdict_of(self.store, configured, evidence) if evidence else []
                for configured, evidence in zip(gate.requirements, gate.evidence, strict=True)
            ],
            self.baseline,
            gate.conditions,
            self.config.getoption("datasize_level"),
        )
        failures = [record for record in records if record["failed"]]
        return records, explain.failure(failures) if failures else ""

    def amend(
        self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        """Attach the records to the last report of the gate."""
        gate = item.stash.get(_GATE, None)
        if gate is not None and not gate.requirements:  # its markers only set options
            return
        gate = gate or Gate(())
        broken = call.excinfo is not None and not call.excinfo.errisinstance(
            (pytest.skip.Exception, pytest.xfail.Exception)
        )
        not_judged = (report.when == "setup" and broken) or (
            report.when == "call" and any(r["verdict"] == "error" for r in gate.records)
        )
        if not_judged and hasattr(report, "wasxfail"):
            # xfail expects a data set that is too small, not one that cannot be judged
            del report.wasxfail
            report.outcome = "failed"
        if report.when == "call" or (report.when == "setup" and not report.passed):
            if not gate.records:  # another fixture failed or skipped before this gate was judged
                reason = f"not judged: {call.excinfo.exconly()}" if call.excinfo else "not judged"
                gate.records = [self._plain_record(item, "error" if broken else "skipped", reason)]
            if report.skipped and hasattr(report, "wasxfail"):
                for record in gate.records:  # no action is needed
                    record["failed"] = False
                    if is_judged(record):
                        record["notes"].append(f"xfail, as expected: {sendable(report.wasxfail)}")
            report.datasize = gate.records  # type: ignore[attr-defined]
            note_properties(item, report, gate.records)

    def _baseline(self) -> "Baseline | None":
        path = self.config.getoption("datasize_baseline")
        if path is None:
            return None
        from pytest_datasize.reports.records.baseline import Baseline

        return Baseline.read(self.config.invocation_params.dir / path)

    @staticmethod
    def _plain_record(
        item: pytest.Item, verdict: Literal["error", "skipped"], message: str
    ) -> PlainRecord:
        from pytest_datasize.plugin.source_lines import places
        from pytest_datasize.reports.records.record import plain_record

        [(file, line)] = places(item, 1)
        return {**plain_record(item.nodeid, verdict, message), "file": file, "line": line}

"""A marked test as a gate: its requirements, their settings, the evidence, the verdict.

Imported when the first gate is collected; studies only when the first gate runs.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_datasize.errors import (
    DatasetError,
    DatasizeError,
    DatasizeWarning,
    RequirementError,
    TrainingError,
)
from pytest_datasize.options import OF_ADVICE, OPTIONS, nearest
from pytest_datasize.reports.junit import note_properties
from pytest_datasize.reports.text import printable, sendable
from pytest_datasize.requirement import Requirement
from pytest_datasize.sequential import Certainty
from pytest_datasize.session import MARKER, command_line_options, ini_options, open_store
from pytest_datasize.settings import (
    CONFIG_NAME,
    Layer,
    Settings,
    YamlConfig,
    located,
    read_yaml,
    resolve,
)

if TYPE_CHECKING:
    from pytest_datasize.reports.baseline import Baseline
    from pytest_datasize.result import StudyCheck, StudyResult
    from pytest_datasize.store import Store
    from pytest_datasize.study import Study

_T = TypeVar("_T")

EVIDENCE_FIXTURE = "_datasize_evidence"
_FIXTURES = {
    "dataset": "datasize_dataset",
    "test_dataset": "datasize_test_dataset",
    "backbone": "datasize_backbone",
}
_OF_THE_VERDICT = ("confidence", "undecided", "trusted_range", "max_increase", *OF_ADVICE)


@dataclass
class Asked:
    """One requirement of a test, with the settings of its place and the named data sets there."""

    requirement: Requirement
    settings: Settings
    yaml: YamlConfig
    locked: list[dict[str, Any]] | None = None  # its records in the committed file

    @property
    def confidence(self) -> float | None:
        """How sure the verdict must be."""
        confidence: float | None = self.settings["confidence"]
        return confidence

    @property
    def until(self) -> Certainty | None:
        """When enough repeats are trained; None for all of them."""
        if self.confidence is None:
            return None
        return Certainty(self.requirement.targets, self.confidence)

    def verdict_key(self, evidence: str) -> str:
        """Name a verdict by its evidence and by what was asked of it."""
        from pytest_datasize.reports.json import SCHEMA
        from pytest_datasize.store import key_of

        asked = [SCHEMA, self.requirement.targets, self.confidence, self.settings["trusted_range"]]
        return key_of(
            [evidence, *asked, self.settings["cost_per_image"], self.settings["image_budget"]]
        )


class Evidence:
    """What one requirement is judged by: measured, or found in the store, when it is needed."""

    def __init__(self, study: "Study", until: Certainty | None, locked: bool) -> None:
        self.study, self._until, self._locked = study, until, locked
        self._result: StudyResult | None = None

    @property
    def measured(self) -> bool:
        """Whether the result is at hand."""
        return self._result is not None

    @property
    def result(self) -> "StudyResult":
        """The result; it is measured here unless the store has it.

        Raises
        ------
        DatasizeError
            It cannot be measured, or must not be (``--datasize=locked``).
        """
        if self._result is None:
            if self._locked:
                raise DatasizeError(
                    "datasize_result: --datasize=locked measures nothing, and the committed record "
                    "holds verdicts, not the evidence."
                )
            self._result = _guarded(self.study.run, self._until)
        return self._result


@dataclass
class Gate:
    """What is known about one marked test; grows as it is set up and called."""

    asked: tuple[Asked, ...]
    evidence: list[Evidence | None] = field(default_factory=list)  # None: nothing is trained
    conditions: list[dict[str, Any]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


_GATE = pytest.StashKey[Gate]()


class Gates:
    """All gates of one session, and what they share: settings, studies, embeddings."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.command_line = command_line_options(config)
        self.ini = ini_options(config)
        self._yaml: dict[Path, YamlConfig] = {}
        self._evidence: dict[Any, Evidence] = {}
        self._checks: dict[Any, StudyCheck] = {}
        self._kept: list[Any] = []  # objects whose id() stands in a key must stay alive
        self._store: Store | None = None
        self.baseline = self._baseline()
        self.refused = False

    # -- collection ---------------------------------------------------------------------------

    def attach(self, item: pytest.Item) -> None:
        """Read the markers of a test; raise :class:`RequirementError` when one is wrong.

        Called when the test is collected and again before its set-up: a conftest.py may have
        added a marker in between.
        """
        markers = list(item.iter_markers(MARKER))
        if _GATE in item.stash and len(item.stash[_GATE].asked) == len(markers):
            return
        if not isinstance(item, pytest.Function):
            raise RequirementError(f"{item.nodeid}: only test functions can be datasize gates.")
        yaml = self.yaml_of(item)
        base = yaml.path.parent if yaml.path == item.path else self.config.rootpath
        asked = []
        for marker in reversed(markers):  # in reading order
            requirement = Requirement.parse(marker.args, marker.kwargs, item.nodeid)
            layer = Layer("marker", requirement.options, base)
            asked.append(Asked(requirement, self.settings(layer, yaml), yaml))
        item.stash[_GATE] = Gate(tuple(asked))
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

    def settings(self, marker: Layer, yaml: YamlConfig) -> Settings:
        """Merge all layers, the marker's options the strongest."""
        return resolve(
            marker,
            Layer("command line", self.command_line, self.config.invocation_params.dir),
            Layer(str(yaml.path), yaml.defaults, yaml.path.parent),
            Layer("ini file", self.ini, self.config.rootpath),
        )

    # -- set-up -------------------------------------------------------------------------------

    def gather(self, request: pytest.FixtureRequest) -> Gate:
        """Train what the test's requirements need; fail its set-up when that is impossible."""
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
            elif mode == "check":
                self._check(request, gate)
            else:
                for order, asked in enumerate(gate.asked):
                    gate.conditions += self._conditions(request, order, asked)
                    trains = bool(asked.requirement.targets)
                    gate.evidence.append(self._gathered(request, order, asked) if trains else None)
        except DatasizeError as problem:
            broken = str(problem)
        if broken:  # outside the except block, or pytest would show a chain of exceptions
            if not gate.records:
                gate.records = [self._plain_record(item, "error", broken)]
            pytest.fail(printable(broken), pytrace=False)
        if mode in ("check", "plan"):
            pytest.skip(f"--datasize={mode}: nothing is trained")
        return gate

    def study(self, request: pytest.FixtureRequest, options: Mapping[str, Any]) -> "Study":
        """Build a study for imperative use, with the settings of the session."""
        mode = self.config.getoption("datasize_mode")
        if mode != "run":
            pytest.skip(f"--datasize={mode}: nothing is trained")
        allowed = [name for name in OPTIONS if name not in _OF_THE_VERDICT]
        checked = {}
        for name, value in options.items():
            if name not in allowed:
                raise RequirementError(
                    f"datasize_study: unknown name {name!r}{nearest(name, allowed) or '.'} "
                    f"Allowed: {', '.join(sorted(allowed))}."
                )
            checked[name] = OPTIONS[name].parse(name, value, "datasize_study")
        yaml = self.yaml()
        layer = Layer("datasize_study", checked, self.config.rootpath)
        return self._study(self._options(request, self.settings(layer, yaml), yaml))

    def _gathered(self, request: pytest.FixtureRequest, order: int, asked: Asked) -> Evidence:
        """Make sure of what a requirement is judged by: the verdict of before, or the evidence."""
        options = self._options(request, asked.settings, asked.yaml)
        key: tuple[Any, ...] = tuple((name, _identity(value)) for name, value in options.items())
        if asked.confidence is not None:  # how many repeats are trained depends on the targets
            key += (asked.confidence, *sorted(asked.requirement.targets.items()))
        if key not in self._evidence:
            self._kept += options.values()
            self._evidence[key] = Evidence(self._study(options), asked.until, self.locked)
        evidence = self._evidence[key]
        if self.locked:
            nodeid = sendable(request.node.nodeid)
            asked.locked = _guarded(self._locked_verdict, nodeid, order, asked, evidence)
        elif not evidence.measured and not _guarded(self._known_verdict, asked, evidence):
            evidence.result.check(asked.requirement.targets)
        return evidence

    def _conditions(
        self, request: pytest.FixtureRequest, order: int, asked: Asked
    ) -> list[dict[str, Any]]:
        """Return the records of what is asked besides scores."""
        from pytest_datasize import conditions

        settings, found = asked.settings, []
        if settings["images_per_class"] is None and not settings["represents"]:
            return []
        options = self._options(request, settings, asked.yaml)
        study = self._study({**options, "test_dataset": None})
        if (per_class := settings["images_per_class"]) is not None:
            strategy = settings["strategy"]
            found.append(_guarded(conditions.images_per_class, study, per_class, strategy))
        if settings["represents"]:
            if self.locked:
                raise DatasizeError(
                    "represents: --datasize=locked embeds nothing, and datasize.lock.json holds no "
                    "comparison of images. Run this gate without --datasize=locked."
                )
            field = self._deployment(request, settings, asked.yaml)
            found.append(_guarded(conditions.represents, study, field, settings["false_alarms"]))
        return [{**record, "order": order} for record in found]

    def _deployment(
        self, request: pytest.FixtureRequest, settings: Settings, yaml: YamlConfig
    ) -> Any:
        """Return the images of the deployment: from the settings, else from the fixture."""
        value = settings["deployment"]
        if value is None:
            value = request.getfixturevalue("datasize_deployment_dataset")
        base = settings.base("deployment", self.config.rootpath)
        return located("deployment", value, base, yaml)

    def _known_verdict(self, asked: Asked, evidence: Evidence) -> list[dict[str, Any]] | None:
        """Return the records of a verdict that was given on the same evidence before."""
        key = evidence.study.key()
        found = key and self.store.get("verdict", asked.verdict_key(key))
        return found or None

    def _locked_verdict(
        self, nodeid: str, order: int, asked: Asked, evidence: Evidence
    ) -> list[dict[str, Any]]:
        from pytest_datasize import lock

        subject = self._subject(asked, evidence)
        found = lock.find(self.config.rootpath / lock.NAME, nodeid, order, subject)
        return [{**record, "subject": subject} for record in found]

    @staticmethod
    def _subject(asked: Asked, evidence: Evidence) -> dict[str, Any]:
        """Say what a verdict is about: the images, the options, and what is asked of them."""
        return {
            **evidence.study.subject(),
            "asked": {
                **asked.requirement.targets,
                "confidence": asked.confidence,
                "trusted_range": asked.settings["trusted_range"],
            },
        }

    @property
    def locked(self) -> bool:
        """Whether gates are judged by the committed record alone."""
        return bool(self.config.getoption("datasize_mode") == "locked")

    @property
    def store(self) -> "Store":
        """The store of the session, opened when it is first needed."""
        if self._store is None:
            self._store = open_store(self.config)
        return self._store

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _judged(self, asked: Asked, evidence: Evidence) -> list[dict[str, Any]]:
        """Return the records of a requirement, judged now or before."""
        if asked.locked is not None:
            return asked.locked
        if known := self._known_verdict(asked, evidence):
            return known
        from pytest_datasize.reports.record import records

        verdict = evidence.result.verdict(
            asked.confidence, asked.settings["trusted_range"], **asked.requirement.targets
        )
        subject = self._subject(asked, evidence)
        money = asked.settings["cost_per_image"], asked.settings["image_budget"]
        found = [{**one, "subject": subject} for one in records(verdict, evidence.result, *money)]
        if key := evidence.study.key():
            self.store.put("verdict", asked.verdict_key(key), found)
        return found

    def _plan(self, request: pytest.FixtureRequest, gate: Gate) -> None:
        from pytest_datasize.reports.record import plan_record

        for order, asked in enumerate(gate.asked):
            options = self._options(request, asked.settings, asked.yaml)
            if not asked.requirement.targets:
                nothing = "--datasize=plan: this requirement trains nothing"
                gate.records.append(self._plain_record(request.node, "skipped", nothing))
                continue
            plan = _guarded(self._study(options).plan)
            targets = asked.requirement.targets
            gate.records.append(plan_record(request.node.nodeid, order, targets, plan))

    def _check(self, request: pytest.FixtureRequest, gate: Gate) -> None:
        from pytest_datasize.images.findings import in_full
        from pytest_datasize.reports.record import check_record

        errors = []
        for order, asked in enumerate(gate.asked):
            options = self._options(request, asked.settings, asked.yaml)
            key = tuple((name, _identity(value)) for name, value in options.items())
            if key not in self._checks:
                self._kept += options.values()
                self._checks[key] = _guarded(self._study(options).check)
            check = self._checks[key]
            gate.records.append(check_record(request.node.nodeid, order, check))
            errors += [line for finding in check.errors for line in in_full(finding)]
        if errors:
            raise DatasetError("\n".join(dict.fromkeys(errors)))

    def _study(self, options: Mapping[str, Any]) -> "Study":
        from pytest_datasize.reports.progress import Progress
        from pytest_datasize.study import Study

        return Study(**options, store=self.store, on_progress=Progress(self.config))

    def _options(
        self, request: pytest.FixtureRequest, settings: Settings, yaml: YamlConfig
    ) -> dict[str, Any]:
        """Fill in fixtures where no layer says anything, and make paths absolute."""
        values = {
            name: value for name, value in settings.values.items() if name not in _OF_THE_VERDICT
        }
        if values["preset"] is not None:
            from pytest_datasize.presets import preset

            unset = set(preset(values["preset"]).options) - set(settings.layers)
            values.update(dict.fromkeys(unset))
        for name, fixture in _FIXTURES.items():
            if name not in settings.layers:
                found = request.getfixturevalue(fixture)
                if found is not None:
                    values[name] = OPTIONS[name].parse(name, found, f"fixture {fixture}")
        if settings["represents"] and values["test_dataset"] is None:
            values["test_dataset"] = self._deployment(request, settings, yaml)
        if values["dataset"] is None:
            raise DatasizeError(
                "no data set: give dataset='path' in the marker, override the fixture "
                "datasize_dataset in conftest.py, or set `defaults: {dataset: ...}` in "
                f"{CONFIG_NAME}."
            )
        self._choose_training(request, settings, values)
        for name in ("dataset", "test_dataset", "weights", "backbone"):
            base = settings.base(name, self.config.rootpath)
            values[name] = located(name, values[name], base, yaml)
        return values

    @staticmethod
    def _choose_training(
        request: pytest.FixtureRequest, settings: Settings, values: dict[str, Any]
    ) -> None:
        """Settle which of trainer and strategy counts, and what ``augment=True`` means."""
        chosen, given = settings.layers.get("strategy"), settings.layers.get("trainer")
        if given is not None and given is not chosen:
            values["strategy"] = "own_training"
        elif given is None and (
            (chosen is None and values["preset"] is None) or values["strategy"] == "own_training"
        ):
            found = request.getfixturevalue("datasize_trainer")
            if found is not None:
                where = "fixture datasize_trainer"
                values["trainer"] = OPTIONS["trainer"].parse("trainer", found, where)
                values["strategy"] = "own_training"
        if values["augment"] is True:
            found = request.getfixturevalue("datasize_augment")
            where = "fixture datasize_augment"
            if found is not None:
                values["augment"] = OPTIONS["augment"].parse("augment", found, where)

    # -- call and report ----------------------------------------------------------------------

    def decide(self, item: pytest.Item) -> None:
        """Judge the evidence; fail the test in its call phase when it does not suffice."""
        gate = item.stash.get(_GATE, None)
        if gate is None or len(gate.evidence) != len(list(item.iter_markers(MARKER))):
            pytest.fail(
                "the datasize marker came too late to be judged; add it before the test is set up",
                pytrace=False,
            )
        from pytest_datasize.decision import decided
        from pytest_datasize.reports import explain

        gate.records = decided(
            item,
            [asked.settings for asked in gate.asked],
            [
                self._judged(asked, evidence) if evidence else []
                for asked, evidence in zip(gate.asked, gate.evidence, strict=True)
            ],
            self.baseline,
            gate.conditions,
        )
        failures = [record for record in gate.records if record["failed"]]
        if failures:
            pytest.fail(printable(explain.failure(failures)), pytrace=False)

    def amend(
        self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        """Attach the records to the report that ends the gate's work."""
        gate = item.stash.get(_GATE, Gate(()))
        broken = call.excinfo is not None and not call.excinfo.errisinstance(
            (pytest.skip.Exception, pytest.xfail.Exception)
        )
        if broken and report.when == "setup" and hasattr(report, "wasxfail"):
            # xfail expects a data set that is too small, not one that cannot be judged
            del report.wasxfail
            report.outcome = "failed"
        if report.when == "call" or (report.when == "setup" and not report.passed):
            if not gate.records:  # another fixture failed or skipped before this gate was judged
                reason = f"not judged: {call.excinfo.exconly()}" if call.excinfo else "not judged"
                verdict = "error" if broken else "skipped"
                gate.records = [self._plain_record(item, verdict, reason)]
            if report.skipped and hasattr(report, "wasxfail"):
                for record in gate.records:  # nothing that anyone must act on
                    record["failed"] = False
                    if "notes" in record:
                        record["notes"].append(f"xfail, as expected: {sendable(report.wasxfail)}")
            report.datasize = gate.records  # type: ignore[attr-defined]
            note_properties(item, report, gate.records)

    def _baseline(self) -> "Baseline | None":
        path = self.config.getoption("datasize_baseline")
        if path is None:
            return None
        from pytest_datasize.reports.baseline import Baseline

        return Baseline.read(self.config.invocation_params.dir / path)

    @staticmethod
    def _plain_record(item: pytest.Item, verdict: str, message: str) -> dict[str, Any]:
        from pytest_datasize.reports.place import places
        from pytest_datasize.reports.record import plain_record

        [(file, line)] = places(item, 1)
        return {**plain_record(item.nodeid, verdict, message), "file": file, "line": line}


def _guarded(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call into a study; what no one foresaw is an error of ours, told without a traceback."""
    try:
        return function(*arguments)
    except DatasizeError:
        raise
    except DatasizeWarning as warning:
        raise DatasetError(f"{warning} (a warning, which pytest's filters make an error)") from None
    except Exception as problem:
        frame = traceback.extract_tb(problem.__traceback__)[-1]
        raise TrainingError(
            f"unexpected {type(problem).__name__}: {problem} "
            f"({Path(frame.filename).name}:{frame.lineno}). "
            "The gate was not judged; please report this."
        ) from problem


def _identity(value: Any) -> Any:
    """Stand for an option's value in a key: itself when it is plain, else the very object."""
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    plain = isinstance(value, (str, int, float, type(None))) or (
        isinstance(value, tuple) and all(isinstance(entry, (int, float)) for entry in value)
    )
    return value if plain else ("object", id(value))

"""Define the types of all records, which sessions write, reports read and the JSON file holds.

A record is plain JSON data, so that it leaves a worker process and becomes a file as it is. Five
kinds exist; ``metric`` and ``verdict`` distinguish them, see
:mod:`pytest_datasize.reports.records.selection`. ``result.schema.json`` publishes the same shapes;
a test compares the two. The parts of a judged record are in ``record_parts`` and ``advice_types``.
"""

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict, final

from pytest_datasize.reports.records.advice_types import Advice
from pytest_datasize.reports.records.record_parts import (
    BaselineChange,
    Derived,
    Evidence,
    FactorRow,
    Groups,
    Guess,
    HeldOutImages,
    Lever,
    MeasuredTrend,
    Model,
    NeighbourBound,
    Remedies,
    RequiredImages,
    SelfCheck,
    SliceName,
    SliceRow,
    Weights,
)

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

# -- parts of the records ---------------------------------------------------------------------


class Contents(TypedDict):
    """A set of images, identified by its content."""

    number: int
    fingerprint: str


class Subject(TypedDict):
    """What a verdict depends on: the images, the options and the targets."""

    images: Contents
    asked: dict[str, Any]
    options: dict[str, Any]
    deployment: NotRequired[Contents]


class DataCheck(TypedDict):
    """One finding about the images."""

    check: str
    level: Literal["error", "warning", "note"]
    text: str
    count: int
    names: list[str]


class ImagesPerClass(TypedDict):
    """The condition that every class has enough images."""

    kind: Literal["images_per_class"]
    images_per_class: int
    reason: str
    class_counts: dict[str, int]
    short: dict[str, int]
    source: str


class Outlier(TypedDict):
    """An image far from all images of the other side."""

    image: str
    distance: float
    unusual: bool
    picture: str | None


class Represents(TypedDict):
    """The condition that the images are like those of the deployment."""

    kind: Literal["represents"]
    false_alarms: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    auc: float
    auc_low: float
    auc_high: float
    p_value: float
    mmd: float
    mmd_p_value: float
    compared: list[int]
    source: str
    deployment: str
    images: int
    deployment_images: int
    outside: float
    outside_low: float
    outside_high: float
    least_alike: list[Outlier]
    unseen: list[Outlier]
    copies: int


# -- the records ------------------------------------------------------------------------------

_ClassName = TypedDict("_ClassName", {"class": str | None})


class Projection(_ClassName, RequiredImages):
    """The target, and the numbers of the learning curve for it."""

    slice: NotRequired[SliceName | None]

    metric: str
    target: float
    operating_point: NotRequired[dict[str, float] | None]
    available: int
    score_at_available: float
    score_at_available_low: float
    score_at_available_high: float
    ceiling: float
    ceiling_low: float
    ceiling_high: float
    probability_sufficient: float


class _Head(TypedDict):
    """Source line of a requirement, and whether it fails its test."""

    nodeid: str
    order: int
    file: str | None
    line: int | None
    failed: bool
    message: str


class GateRecord(_Head, Projection, Evidence):
    """A judged requirement: one metric with its target, verdict, evidence and advice.

    `unit` is what `available`, `required`, `sizes`, the curve and `derived` count (`image` if it is
    missing). `total`, `n_test` and `class_counts` are always images.
    """

    class_targets: NotRequired[dict[str, float] | None]
    confidence: float | None
    level: NotRequired[float]
    required_sure: NotRequired[int | None]
    score_sure: NotRequired[float]
    held_out: NotRequired[HeldOutImages]
    unit: NotRequired[Literal["image", "group"]]
    groups: NotRequired[Groups | None]
    guessing: NotRequired[Guess | None]
    trend: NotRequired[MeasuredTrend]
    neighbour_bound: NotRequired[NeighbourBound | None]
    verdict: Literal["sufficient", "undecided", "insufficient", "unreachable"]
    total: int
    extrapolated: bool
    tellable: bool
    n_test: int
    n_test_distinct: int
    test_margin: float
    test_images_to_tell: int | None
    self_check: SelfCheck | None
    remedies: Remedies | None
    repeats: int
    sampling: str
    test_source: str
    n_trials: int
    n_trials_planned: int
    source: str
    task: NotRequired[str]
    class_counts: dict[str, int]
    amounts: NotRequired[dict[str, int] | None]
    notes: list[str]
    backbone: str
    weights: Weights
    image_size: int
    precision: NotRequired[str]
    features: NotRequired[str]
    strategy: str
    models: NotRequired[list[Model]]
    levers: NotRequired[list[Lever]]
    law: str
    device: str
    seed: int
    timings: dict[str, float]
    settings: dict[str, Json]
    baseline: BaselineChange | None
    advice: NotRequired[Advice | None]
    derived: NotRequired[Derived]
    subject: NotRequired[Subject]
    slices: NotRequired[list[SliceRow]]
    slices_reason: NotRequired[str]
    factors: NotRequired[list[FactorRow]]


class _NoScores(_Head):
    """A record without scores: every number of a judgement is None."""

    metric: None
    target: None
    required: None
    required_low: None
    required_high: None
    score_at_available: None
    score_at_available_low: None
    score_at_available_high: None
    ceiling: None
    ceiling_low: None
    ceiling_high: None
    probability_sufficient: None


class PlannedModel(TypedDict):
    """A model that would be trained, unless a cheaper one meets the targets."""

    name: Literal["small input", "full input", "second look", "as asked"]
    strategy: str
    image_size: int
    n_trials: int
    sizes: list[int]
    repeats: int
    seconds: float | None


class PlanRecord(_NoScores):
    """The planned training (``--datasize=plan``)."""

    verdict: Literal["planned"]
    available: int
    total: int
    n_test: int
    source: str
    class_counts: dict[str, int]
    sizes: list[int]
    repeats: int
    n_trials: int
    backbone: str
    strategy: str
    device: str
    image_size: int
    estimated_seconds: float | None
    forwards: NotRequired[int]
    backwards: NotRequired[int]
    stored_bytes: NotRequired[int]
    shed: NotRequired[str]
    unit: NotRequired[Literal["image", "group"]]
    models: NotRequired[list[PlannedModel]]


class CheckRecord(_NoScores):
    """The data check of the images (``--datasize=check``)."""

    verdict: Literal["checked", "error"]
    available: int | None
    unit: NotRequired[Literal["image", "group"]]
    total: int
    source: str
    test_source: str | None
    class_counts: dict[str, int]
    checks: list[DataCheck]


class ConditionRecord(_NoScores):
    """A condition without training."""

    verdict: Literal["met", "unmet"]
    available: None
    check: ImagesPerClass | Represents
    subject: NotRequired[Subject]
    settings: NotRequired[dict[str, Json]]


@final
class PlainRecord(_NoScores):
    """A gate that was not judged: an error, or skipped."""

    verdict: Literal["error", "skipped"]
    available: None


Record: TypeAlias = GateRecord | PlanRecord | CheckRecord | ConditionRecord | PlainRecord


class ComparedStrategy(TypedDict):
    """One strategy of a comparison; images count the whole data set, None: no number suffices.

    `lost` is the score lost with half, and with 13 %, of the images.
    """

    name: str
    score: float
    score_low: float
    score_high: float
    required: int | None
    required_low: int | None
    required_high: int | None
    best: float
    best_low: float
    best_high: float
    seconds: float
    lost: list[float]


class StrategyWorth(TypedDict):
    """The multiple of today's images with which `against` scores what `name` scores now."""

    name: str
    against: str
    times: float | None
    low: float | None
    high: float | None


class ComparisonRecord(TypedDict):
    """A comparison of strategies on the same images; `fewest` None: it cannot be told."""

    nodeid: str
    metric: str
    target: float
    source: str
    images: int
    unit: NotRequired[Literal["image", "group"]]
    fewest: str | None
    strategies: list[ComparedStrategy]
    worth: list[StrategyWorth]
    text: str


class RunContent(TypedDict):
    """A whole run: the content of the JSON file, from which all reports are drawn.

    `digest` is the SHA-256 of everything else, as :func:`result_file.digest_of` computes it: a
    report that shows it was drawn from this very content.
    """

    schema: int
    created: str
    commit: str | None
    exit_status: int
    platform: str
    versions: dict[str, str]
    requirements: list[Record]
    headline: NotRequired[str]
    command: NotRequired[list[str]]
    dirty: NotRequired[bool | None]
    comparisons: NotRequired[list[ComparisonRecord]]
    digest: NotRequired[str]


# -- the history of a store -------------------------------------------------------------------


class PastRecord(Projection):
    """A judged requirement in the history of a store."""

    nodeid: str
    order: int
    verdict: str
    message: str
    total: int
    held_out: NotRequired[HeldOutImages]
    unit: NotRequired[Literal["image", "group"]]
    fingerprint: str | None


class PastRun(TypedDict):
    """The judged requirements of one session."""

    when: str
    commit: str | None
    records: list[PastRecord]

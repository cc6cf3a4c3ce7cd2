"""Define the types of all records, which sessions write, reports read and the JSON file holds.

A record is plain JSON data, so that it leaves a worker process and becomes a file as it is. Five
kinds exist; ``metric`` and ``verdict`` distinguish them, see
:mod:`pytest_datasize.reports.records.selection`. ``result.schema.json`` publishes the same shapes;
a test compares the two.
"""

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict, final

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

# -- parts of a judged record -----------------------------------------------------------------


class SelfCheck(TypedDict):
    """What the curve without its largest sizes predicts for the largest, and the measured mean."""

    left_out: int
    size: int
    predicted: float
    low: float
    high: float
    measured: float


class Remedies(TypedDict):
    """What would decide an undecided verdict, each number by itself."""

    repeats: int | None
    test_images: int | None
    training_images: int | None
    text: str


class Measured(TypedDict):
    """Mean score per size, with its 90 % interval."""

    mean: list[float]
    low: list[float]
    high: list[float]


class Curve(TypedDict):
    """The true mean score at `n` training images: median and interval of probability `level`."""

    level: float
    n: list[int]
    score: list[float]
    low: list[float]
    high: list[float]


class Fit(TypedDict):
    """Inputs of the curve's fit, besides the scores."""

    n_test: int
    pool: int
    test_covariance: list[list[float]]
    split_variance: list[float]
    bounds: list[float | None]
    sign: Literal[-1, 1]


class ClassRow(TypedDict):
    """One class: images, recall at the largest size, and required images if it was judged."""

    name: str
    images: int
    recall: float
    recall_low: float
    recall_high: float
    required: NotRequired[int | None]
    required_low: NotRequired[int | None]
    required_high: NotRequired[int | None]


class Evidence(TypedDict):
    """The measured scores, the curve and the inputs of its fit."""

    sizes: list[int]
    scores: list[list[float]]
    measured: Measured
    curve: Curve
    fit: Fit
    classes: list[ClassRow]


class Weights(TypedDict):
    """Source of the weights, and their hash (empty for weights without a file)."""

    source: str
    sha256: str


class Model(TypedDict):
    """A model that was tried for the target, or why it was not; `judged`: its verdict counts.

    `level` is the probability at which it counts as enough; `seconds` what its training would take,
    if it was left out for lack of time.
    """

    name: Literal["small input", "full input", "second look", "as asked"]
    strategy: str
    image_size: int | None
    features: str
    judged: bool
    verdict: str | None
    score: float | None
    score_low: float | None
    score_high: float | None
    required: int | None
    probability: float | None
    level: float | None
    seconds: float | None
    reason: str


class Lever(TypedDict):
    """Something that could raise the score, with its measured or bounded gain.

    `value` is the option's value, or the number of labels or images; `gain` None: not tried.
    `reaches` says whether the target lies within the gain, `effort` what it takes, in seconds of
    a person's work.
    """

    kind: Literal["train", "image_size", "backbone", "augment", "labels", "collect"]
    value: str | int | bool | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    images: int | None
    reaches: bool | None
    effort: float


class PlannedModel(TypedDict):
    """A model that would be trained, unless a cheaper one meets the targets."""

    name: Literal["small input", "full input", "second look", "as asked"]
    strategy: str
    image_size: int
    n_trials: int
    sizes: list[int]
    repeats: int
    seconds: float | None


class BaselineChange(TypedDict):
    """Changes since an earlier run; pairs are (then, now)."""

    found: bool
    exceeded: bool
    beyond_noise: bool
    text: str
    lines: list[str]
    required: NotRequired[list[int | None]]
    available: NotRequired[list[int]]
    score_at_available: NotRequired[list[float]]
    ceiling: NotRequired[list[float]]


class Groups(TypedDict):
    """Number of the pool's groups, and of their images; near-duplicates join groups."""

    number: int
    images: int


class Converted(TypedDict):
    """The numbers of the data set in the other unit, with today's `per_group` images in a group.

    Groups that are converted from images are a rough estimate, since images were measured.
    """

    unit: Literal["image", "group"]
    per_group: float
    today: int
    required: int | None
    missing: int | None


class Missing(TypedDict):
    """Missing images beyond those available, and the 90 % interval; `high` None: no upper end."""

    images: int
    low: int
    high: int | None


class CountRange(TypedDict):
    """Range of a whole number."""

    least: int
    most: int


class ScoreRange(TypedDict):
    """Lowest and highest score of the repeats, per size."""

    least: list[float]
    most: list[float]


class HeldOutImages(TypedDict):
    """What is held out of the images that are collected: a share of them, or a fixed number."""

    share: float
    images: int


class DataSet(TypedDict):
    """Counts in images of the data set, those held out included; None: no number suffices.

    If the `unit` of the record is groups, all numbers count groups. `images` are those of today;
    `required` is their number for the target with its 90 % interval, `sure` the number that
    suffices with a probability of 90 %. `missing` are those to add.
    """

    images: int
    required: int | None
    required_low: int | None
    required_high: int | None
    sure: int | None
    missing: int | None
    missing_low: int | None
    missing_high: int | None
    missing_sure: int | None


class Guess(TypedDict):
    """Scores without looking at the images: always the class `name`, and labels at random."""

    name: str
    majority: float
    chance: float


class NeighbourSpace(TypedDict):
    """Error of the nearest neighbour in one form of an embedding, at an input size in pixels."""

    space: str
    image_size: int
    error: float


class NeighbourBound(TypedDict):
    """The score that nearest neighbours allow: one minus a lower bound of the Bayes error.

    `error` is the smallest error of the nearest neighbour, in the embedding `space`; `later` is the
    score that is allowed if it keeps falling with more images. `says` is about the target: the
    neighbours allow it (`allows`); they agree that it is out of reach (`agrees`); they may allow it
    later, since the error still falls (`falling`); or the model scores more than they allow, and
    there is no usable bound (`nothing`). Neighbours of `asked` images were searched among `among`
    of `images`.
    """

    allowed: float
    allowed_low: float
    allowed_high: float
    later: float
    error: float
    error_low: float
    error_high: float
    asked: int
    among: int
    images: int
    says: Literal["allows", "agrees", "falling", "nothing"]
    space: NeighbourSpace
    spaces: list[NeighbourSpace]


class MeasuredTrend(TypedDict):
    """Whether the scores rise, are flat or fall, over which training sizes."""

    direction: Literal["rising", "flat", "falling"]
    first: int
    last: int


class Derived(TypedDict):
    """Numbers that follow from the rest of a record, so that no report computes them.

    `missing` counts training images; `data_set` counts all images that are collected; `converted`
    is there where groups are known.
    """

    missing: Missing | None
    data_set: DataSet
    converted: NotRequired[Converted | None]
    close: bool
    times_measured: float | None
    probability_insufficient: float
    repeats: ScoreRange
    class_images: CountRange
    label_gain: float | None
    frozen_parameters: int | None


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


# -- advice -----------------------------------------------------------------------------------


class ClassAdvice(TypedDict):
    """A class's recall with all its training images, and with twice as many."""

    name: str
    images: int
    recall: float
    recall_low: float
    recall_high: float
    doubled: float
    doubled_low: float
    doubled_high: float


class Spent(TypedDict):
    """Images that a budget buys class by class, their cost, and the score that they bring."""

    images: dict[str, int]
    total: int
    cost: float
    score: float
    score_low: float
    score_high: float


class Collection(TypedDict):
    """The next images to collect, spread over the classes, and the score that they bring.

    `total` is what reaches the target, at most the number of missing images and of today's;
    `images` sums to it. `proportional` is the score of as many in today's proportions.
    """

    total: int
    images: dict[str, int]
    score: float
    score_low: float
    score_high: float
    proportional: float


class Purchase(TypedDict):
    """What a budget buys in current proportions."""

    images: int
    score: float
    score_low: float
    score_high: float
    probability: float


class Step(TypedDict):
    """What so many more images of the data set would bring; `cost` None: no price is known."""

    more: int
    cost: float | None
    score: float
    score_low: float
    score_high: float
    probability: float


class Money(TypedDict):
    """What the missing images cost, and what a budget buys."""

    price: float
    shortfall: float | None
    shortfall_low: float | None
    shortfall_high: float | None
    budget: float | None
    buys: Purchase | None
    bought_by_class: Spent | None


class RuleOfThumb(TypedDict):
    """The answer of the rule of thumb for these images, and whether the verdict agrees."""

    images_per_class: int
    reason: str
    fewest: int
    met: bool
    agrees: bool | None


class Neighbours(TypedDict):
    """How often nearest neighbours in the embedding share a label."""

    share: float
    low: float
    high: float
    chance: float
    images: int
    skill: float
    domain: Literal["near", "middling", "far"]


class Suspect(TypedDict):
    """An image whose held-out predictions contradict its label."""

    image: str
    label: str
    likely: str
    probability: float
    picture: str | None


class Labels(TypedDict):
    """Doubtful labels among those judged, the most doubtful first."""

    judged: int
    number: int
    suspects: list[Suspect]


class TransferGain(TypedDict):
    """Accuracy of frozen features against that of the same network from random weights."""

    images: int
    frozen: float
    scratch: float
    gain: float
    low: float | None
    high: float | None
    repeats: int


class GroupMember(TypedDict):
    """One image of a group of near-duplicates."""

    image: str
    label: str
    picture: str | None


class CopyGroup(TypedDict):
    """A group of near-duplicates: its size, and the images that are shown."""

    images: int
    shown: list[GroupMember]


class Redundancy(TypedDict):
    """Effective number of independent images in a pool with near-duplicates."""

    images: int
    different: int
    effective: float
    low: float
    high: float
    measured: bool
    number: int
    contested: int
    groups: list[CopyGroup]


class Parameters(TypedDict):
    """Parameters of the model, in all and trained, and their number per image."""

    trained: int
    in_all: int
    per_image: float
    reason: str


class Advice(TypedDict):
    """What to do about a judged requirement."""

    classes: list[ClassAdvice]
    collection: Collection | None
    collection_reason: str | None
    money: Money | None
    money_reason: str | None
    rule: RuleOfThumb
    neighbours: Neighbours | None
    labels: Labels
    transfer: NotRequired[TransferGain | None]
    redundancy: NotRequired[Redundancy | None]
    parameters: NotRequired[Parameters | None]
    steps: NotRequired[list[Step]]
    without_interval: NotRequired[dict[str, str]]


# -- parts of the other records ---------------------------------------------------------------


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


class RequiredImages(TypedDict):
    """The required number of images and its 90 % interval; None if no number suffices."""

    required: int | None
    required_low: int | None
    required_high: int | None


class SliceName(TypedDict):
    """A slice: the images in which a factor has a value."""

    factor: str
    value: str


class SliceRow(SliceName, RequiredImages):
    """One slice and its score for the target of the record; None where it cannot be judged.

    `images` are those of the pool, `n_test` the different test images of the slice, `measured` the
    mean score of these alone at the largest size. `score` is projected with all images; `required`
    counts the whole data set, `in_slice` the part of it in the slice if the slices keep their
    shares. A slice that is too small has no `score`. `decides` is true of the slice that decides.
    """

    images: int
    n_test: int
    n_groups: int | None
    measured: float | None
    score: float | None
    score_low: float | None
    score_high: float | None
    in_slice: int | None
    in_slice_low: int | None
    in_slice_high: int | None
    probability: float | None
    decides: bool


class FactorRow(TypedDict):
    """One factor, and how well it predicts the class: itself, with shuffled values, and at best.

    A `share` of the class `class_name` has the value `value`, and `share_of_others` of the others.
    `units` counts images, or groups of them, as `unit` says; `untested` is empty if the factor was
    tested.
    """

    name: str
    values: int
    units: int
    untested: str
    p_value: float | None
    guessed: float
    shuffled: float
    possible: float
    value: str
    class_name: str
    share: float
    share_of_others: float
    tells: bool
    unit: NotRequired[Literal["image", "group"]]


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

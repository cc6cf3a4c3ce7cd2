"""Define the types of the parts of a judged record: evidence, numbers, models and slices."""

from typing import Literal, NotRequired, TypedDict


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

"""Define the types of the advice in a judged record."""

from typing import Literal, NotRequired, TypedDict


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

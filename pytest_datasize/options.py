"""What can be asked and set: the tables of metrics, strategies and options, and their checks.

The marker, the command line, ``datasize.yaml`` and the ini file are all checked against these
tables, so a new option is one line here. Pure Python: imported at every pytest start.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pytest_datasize.checks import parse_levels
from pytest_datasize.errors import RequirementError

METRICS: dict[str, str] = {
    "accuracy": "pytest_datasize.metrics:accuracy",
    "balanced_accuracy": "pytest_datasize.metrics:balanced_accuracy",
    "f1_micro": "pytest_datasize.metrics:f1_micro",
    "f1_macro": "pytest_datasize.metrics:f1_macro",
    "auc": "pytest_datasize.metrics:auc",
    "recall_per_class": "pytest_datasize.metrics:recall_per_class",
}
"""Metric name → ``module:function``; each scores in [0, 1], higher is better."""

WORST_CLASS = "recall_per_class"
"""The metric that is judged for every class by itself."""

STRATEGIES: dict[str, str] = {
    "feature_extraction": "pytest_datasize.transfer.feature_extraction:run",
    "fine_tuning": "pytest_datasize.transfer.fine_tuning:run",
    "from_scratch": "pytest_datasize.transfer.from_scratch:run",
    "own_training": "pytest_datasize.transfer.own_training:run",
}
"""Strategy name → ``module:function`` that trains and scores all trials of a plan."""


class Option(NamedTuple):
    """One thing that can be set: how it is checked, what it means, what it is by default."""

    check: Callable[[Any], Any]
    expected: str
    help: str
    default: Any = None
    from_text: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()

    def parse(self, name: str, value: Any, where: str) -> Any:
        """Return the checked value; raise :class:`RequirementError` that says what is allowed."""
        try:
            return self.check(value)
        except (TypeError, ValueError) as problem:
            hint = nearest(value, self.choices) if isinstance(value, str) else ""
            reason = f" ({problem})" if str(problem) else ""
            place = f"{where}: " if where else ""
            raise RequirementError(
                f"{place}{name}={shown(value)} is not allowed{reason}{hint or '.'} "
                f"Expected {self.expected}."
            ) from None

    def parse_text(self, name: str, text: Any, where: str) -> Any:
        """Like :meth:`parse`, for a value that arrives as text (command line, ini file)."""
        try:
            value = self.from_text(text) if isinstance(text, str) else text
        except (KeyError, ValueError):
            value = text
        return self.parse(name, value, where)


def _integer(low: int, high: int | None = None) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError
        if value < low or (high is not None and value > high):
            raise ValueError
        return value

    return check


def _fraction(low: float, high: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError
        if not low < value < high:
            raise ValueError(f"write {value / 100:g} for {value:g} %" if 1 < value < 100 else "")
        return float(value)

    return check


def _number_from(low: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError
        if not low <= value < float("inf"):
            raise ValueError
        return float(value)

    return check


def _choice(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError
        return str(value)

    return check


def _sizes(value: Any) -> tuple[int | float, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError
    for size in value:
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not size > 0:
            raise ValueError(f"{size!r} is neither a number of images nor a share of the pool")
        if isinstance(size, float) and size > 1:
            raise ValueError(f"{size!r}: a share of the pool is at most 1.0")
    if len({type(size) for size in value}) > 1:
        raise ValueError("whole numbers and shares are mixed")
    if len(set(value)) < 3:
        raise ValueError(f"{len(set(value))} different sizes")
    return tuple(sorted(set(value)))


def _sizes_from_text(text: str) -> list[int | float]:
    def one(word: str) -> int | float:
        word = word.strip()
        if word.endswith("%"):
            return float(word[:-1]) / 100
        return float(word) if "." in word else int(word)

    return [one(word) for word in text.split(",") if word.strip()]


def _dataset(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)) or value == "":
        raise TypeError
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _group(value: Any) -> Any:
    if value is None or isinstance(value, (bytes, bool)) or (isinstance(value, str) and not value):
        raise TypeError
    if not (callable(value) or isinstance(value, Sequence) or hasattr(value, "__array__")):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _flag_from_text(text: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
        text.strip().lower()
    ]


def _levels(value: Any) -> str:
    """One text for one meaning, so that studies with equal settings are one study."""
    if isinstance(value, Mapping):
        value = ",".join(f"{name}={level}" for name, level in value.items())
    if not isinstance(value, str):
        raise TypeError
    return ",".join(f"{name}={level}" for name, level in sorted(parse_levels(value).items()))


def _backbone(value: Any) -> Any:
    if value == "" or not (isinstance(value, str) or hasattr(value, "state_dict")):
        raise TypeError
    return value


def _path_or_word(value: Any) -> str:
    text = os.fspath(value)
    if not isinstance(text, str) or not text:
        raise TypeError
    return text


def _device(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    kind, colon, index = value.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError
    if colon and not (kind == "cuda" and index.isdigit()):
        raise ValueError
    return value


def _images_per_class(value: Any) -> int | str:
    return "rule-of-thumb" if value == "rule-of-thumb" else _integer(1)(value)


def _prices(value: Any) -> Any:
    """One price, or class → price as sorted pairs, so that equal settings stay equal."""
    if isinstance(value, tuple):
        value = dict(value)
    if not isinstance(value, dict):
        return _number_from(0.0)(value)
    if not value or not all(isinstance(name, str) and name for name in value):
        raise TypeError
    return {name: _number_from(0.0)(price) for name, price in sorted(value.items())}


def _prices_from_text(text: str) -> Any:
    if "=" not in text:
        return float(text)
    pairs = (pair.rpartition("=") for pair in text.split(","))
    return {name.strip(): float(price) for name, _, price in pairs}


SOURCES_BY_NAME = ("folder", "manifest", "coco", "yolo", "webdataset", "huggingface", "torchvision")
"""What may stand before a path, as in ``coco:data/train``, to say how it is to be read."""


def _augment(value: Any) -> Any:
    if not (isinstance(value, bool) or callable(value)):
        raise TypeError
    return value


def _trainer(value: Any) -> Any:
    if isinstance(value, str):
        module, colon, function = value.partition(":")
        if not (module and colon and function):
            raise ValueError
    elif not callable(value):
        raise TypeError
    return value


def _direction(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError
    for metric, way in value.items():
        if not isinstance(metric, str) or way not in ("higher", "lower"):
            raise ValueError
        if metric in METRICS and way != "higher":
            raise ValueError(f"higher {metric} is better")
    return dict(value)


def _bounds(value: Any) -> dict[str, tuple[float, float]]:
    if not isinstance(value, Mapping):
        raise TypeError
    found = {}
    for metric, ends in value.items():
        if not isinstance(metric, str) or isinstance(ends, str) or len(ends) != 2:
            raise ValueError
        low = float("-inf") if ends[0] is None else float(ends[0])
        high = float("inf") if ends[1] is None else float(ends[1])
        if not low < high:
            raise ValueError
        if metric in METRICS and (low, high) != (0.0, 1.0):
            raise ValueError(f"{metric} lies in 0 to 1")
        found[metric] = (low, high)
    return found


def _pairs_from_text(text: str) -> dict[str, Any]:
    """Read ``loss=lower`` or ``loss=0..inf``, several separated by commas."""
    found: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        low, dots, high = value.partition("..")
        found[name] = (float(low), float(high)) if dots else value
    return found


def _budget(value: Any) -> float:
    """Read seconds, or a text such as ``1h30m``."""
    if isinstance(value, str):
        found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", value.strip())
        if not found:
            raise ValueError
        value = sum(
            int(n or 0) * unit for n, unit in zip(found.groups(), (3600, 60, 1), strict=True)
        )
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    if not 0 < value < float("inf"):
        raise ValueError
    return float(value)


_DATASET = (
    "a folder, a file (manifest, COCO, YOLO or tar shards), a name from `datasets:` in "
    "datasize.yaml, torchvision:NAME, a pair (images, labels) of arrays, a map-style torch Dataset "
    "or a Hugging Face Dataset"
)

OPTIONS: dict[str, Option] = {
    "dataset": Option(_dataset, _DATASET, "labelled images the gate speaks about"),
    "test_dataset": Option(
        _dataset, _DATASET, "held-out images; without it every repeat sets a stratified part aside"
    ),
    "group": Option(
        _group,
        "the name of a column, a regular expression over paths, a function of a path or one value "
        "per image",
        "images that belong together, such as frames of one patient: they never stand on both "
        "sides of a split",
    ),
    "checks": Option(
        _levels,
        "check=level pairs such as duplicates=error,sizes=ignore",
        "how serious each check of the data set is (docs/checks.md has the table)",
        "",
    ),
    "allow_outside": Option(
        _flag,
        "true or false",
        "whether links and manifests may lead outside the data set's folder",
        False,
        from_text=_flag_from_text,
    ),
    "max_pixels": Option(
        _integer(1),
        "a whole number of pixels",
        "largest width x height that is decoded",
        178_956_970,
        from_text=int,
    ),
    "backbone": Option(
        _backbone,
        "a timm model name, 'local-dir:PATH' or a torch.nn.Module",
        "pretrained model whose embeddings are used",
        "tf_efficientnet_lite0",
    ),
    "weights": Option(
        _path_or_word,
        "'auto', 'hub', 'embedded' or the path of a weights file",
        "where the backbone's weights come from",
        "auto",
        choices=("auto", "hub", "embedded"),
    ),
    "precision": Option(
        _choice("auto", "float32", "bfloat16", "float16"),
        "one of: auto, float32, bfloat16, float16",
        "what the backbone calculates in (auto: half where the hardware is fast in it and the "
        "embeddings stay the same within a stated tolerance)",
        "auto",
        choices=("auto", "float32", "bfloat16", "float16"),
    ),
    "strategy": Option(
        _choice(*STRATEGIES),
        f"one of: {', '.join(STRATEGIES)}",
        "how the backbone is transferred",
        "feature_extraction",
        choices=tuple(STRATEGIES),
    ),
    "augment": Option(
        _augment,
        "True, False or a transform of a PIL image, such as a torchvision.transforms.v2.Compose",
        "train on augmented views of the training images, too; test images stay as they are",
        False,
        from_text=_flag_from_text,
    ),
    "unfreeze": Option(
        _integer(1, 10_000),
        "a whole number of stages from 1",
        "final stages that fine_tuning trains (default: a sixth of them, at least one)",
        from_text=int,
    ),
    "trainer": Option(
        _trainer,
        "a function (train, test, *, seed, device) or 'module:function'",
        "training of one's own, run once per trial instead of a strategy",
    ),
    "preset": Option(
        _choice("keras-sample-size", "flowers-transfer"),
        "one of: keras-sample-size, flowers-transfer",
        "a published recipe, for every option that is not given otherwise",
        choices=("keras-sample-size", "flowers-transfer"),
    ),
    "budget": Option(
        _budget,
        "a time such as '10m', '90s' or '1h30m', or a number of seconds",
        "time that training may take: repeats are left out first, then the largest sizes",
    ),
    "direction": Option(
        _direction,
        "metric → 'higher' or 'lower', such as {'loss': 'lower'}; as text loss=lower",
        "which way the trainer's own metrics are better (default: higher)",
        from_text=_pairs_from_text,
    ),
    "bounds": Option(
        _bounds,
        "metric → (low, high), None for an open end, such as {'loss': (0, None)}; as text "
        "loss=0..inf",
        "range of the trainer's own metrics (default: 0 to 1)",
        from_text=_pairs_from_text,
    ),
    "image_size": Option(
        _integer(16, 4096),
        "a whole number of pixels from 16 to 4096",
        "side of the backbone's input in pixels (default: the backbone's own)",
        from_text=int,
    ),
    "sizes": Option(
        _sizes,
        "at least 3 different training sizes, either whole numbers of images (50, 200, 800) "
        "or shares of the pool (0.05, 0.25, 1.0)",
        "training sizes (default: about eight, from a few images per class to the whole pool)",
        from_text=_sizes_from_text,
    ),
    "repeats": Option(
        _integer(2, 1000),
        "a whole number from 2 to 1000",
        "repeats of every training size",
        10,
        from_text=int,
    ),
    "confidence": Option(
        _fraction(0.5, 1.0),
        "a number above 0.5 and below 1, such as 0.9",
        "how sure the verdict must be (default: the median of the projection decides)",
        from_text=float,
    ),
    "undecided": Option(
        _choice("fail", "warn"),
        "one of: fail, warn",
        "whether a verdict that lacks the confidence asked for fails or warns",
        "fail",
        choices=("fail", "warn"),
    ),
    "trusted_range": Option(
        _number_from(1.0),
        "a number from 1, such as 4",
        "times the largest measured size beyond which a number is called an extrapolation",
        4.0,
        from_text=float,
    ),
    "max_increase": Option(
        _number_from(0.0),
        "a share from 0, such as 0.2 for at most 20 % more",
        "how much the required images may rise against --datasize-baseline (default: any amount)",
        from_text=float,
    ),
    "cost_per_image": Option(
        _prices,
        "a number from 0, or a price for each class such as {'rust': 2, '*': 0.5}",
        "price of one more training image, in all or by class (rust=2,*=0.5); required images and "
        "plans are told in money",
        from_text=_prices_from_text,
    ),
    "image_budget": Option(
        _number_from(0.0),
        "a number from 0",
        "money for more images (with cost_per_image): the report says what it buys",
        from_text=float,
    ),
    "images_per_class": Option(
        _images_per_class,
        "a whole number from 1, or 'rule-of-thumb'",
        "images that every class must have; counted, nothing is trained for it",
        from_text=lambda text: int(text) if text.strip().isdigit() else text,
        choices=("rule-of-thumb",),
    ),
    "represents": Option(
        _flag,
        "True or False",
        "whether the images must be like those of the deployment",
        False,
        from_text=_flag_from_text,
    ),
    "deployment": Option(
        _dataset,
        _DATASET + ", or a folder of images without labels",
        "images from where the model will run",
    ),
    "false_alarms": Option(
        _fraction(0.0, 0.5),
        "a number above 0 and below 0.5, such as 0.01",
        "how often images that are alike may be called different",
        0.01,
        from_text=float,
    ),
    "law": Option(
        _choice("power", "power2", "exponential", "m4"),
        "one of: power, power2, exponential, m4",
        "family of learning curves",
        "power",
        choices=("power", "power2", "exponential", "m4"),
    ),
    "test_fraction": Option(
        _fraction(0.0, 0.9),
        "a number above 0 and below 0.9, such as 0.2",
        "share of the images that every repeat sets aside for testing",
        0.2,
        from_text=float,
    ),
    "sampling": Option(
        _choice("stratified", "balanced", "replacement"),
        "one of: stratified, balanced, replacement",
        "class shares of the subsamples: as in the pool, or equal; or draws with replacement",
        "stratified",
        choices=("stratified", "balanced", "replacement"),
    ),
    "seed": Option(
        _integer(0, 2**32 - 1),
        "a whole number from 0 to 4294967295",
        "seed of all splits and subsamples",
        0,
        from_text=int,
    ),
    "device": Option(
        _device,
        "auto, cpu, cuda, cuda:N or mps",
        "where the backbone and the heads run",
        "auto",
        choices=("auto", "cpu", "cuda", "mps"),
    ),
}
"""Option name → how it is checked; the same for every layer of the settings."""

CONDITIONS = ("images_per_class", "represents")
"""Options that ask for something by themselves, without a target and without training."""

OF_ADVICE = (
    "cost_per_image",
    "image_budget",
    "images_per_class",
    "represents",
    "deployment",
    "false_alarms",
)
"""Options that change nothing that is measured by training."""

TARGET = Option(_fraction(0.0, 1.0), "a number above 0 and below 1, such as 0.9", "target")


def target_within(bounds: tuple[float, float]) -> Option:
    """Check targets of a metric that a trainer declares, inside its bounds."""
    low, high = bounds
    return Option(
        _fraction(low, high), f"a number above {low:g} and below {high:g}, as declared", "target"
    )


def nearest(word: str, allowed: Sequence[str]) -> str:
    """Return a hint at the allowed word most like a wrong one, or an empty string."""
    from difflib import get_close_matches  # only wrong input pays for it

    close = get_close_matches(str(word), allowed, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(value: object) -> str:
    """Return a value as people may read it in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Define the table of options.

The marker, the command line, ``datasize.yaml``, the ini file, ``Study`` and every cache key are
made from this table, so that a new option is one entry here. Its :class:`Scope` says which cached
results depend on it. Pure Python: imported at every pytest start.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, NamedTuple, TypedDict

from pytest_datasize.errors import RequirementError
from pytest_datasize.requirement import validators
from pytest_datasize.requirement.registries import AUTO, ENGINES, OPENVINO, STRATEGIES, TORCH
from pytest_datasize.requirement.spelling import nearest
from pytest_datasize.requirement.tasks import BY_IMAGE, TASKS
from pytest_datasize.requirement.units import IMAGE, UNITS

_LONGEST = 600
"""Longest reason in a message, in characters: a list of all checks fits."""


class Scope(Enum):
    """What depends on an option; :mod:`pytest_datasize.study.cache_keys` derives keys from it."""

    IMAGES = "which images there are; keys hold their contents, labels and groups instead"
    EMBEDDING = "how an image becomes an embedding; backbone and weights are keyed by their content"
    DRAW = "which images a trial trains and is tested on"
    TRIAL = "how a model is trained and scored"
    PLAN = "which trials there are"
    EVIDENCE = "what is computed from all trials together"
    TARGET = "further targets, keyed with the others"
    VERDICT = "how the evidence is judged"
    ADVICE = "what the report adds to the verdict"
    CONDITION = "what is checked without training"
    OUTCOME = "how a session acts on a verdict, each time anew: in no key"
    RUNTIME = "where and how fast it runs: in no key"


class Option(NamedTuple):
    """One option: its scope, how its value is checked, and what it means.

    The default of an option that was `added` after results were stored enters no cache key, so that
    earlier results stay valid.
    """

    scope: Scope
    check: Callable[[Any], Any]
    expected: str
    help: str
    default: Any = None
    from_text: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()
    added: bool = False

    def parse(self, name: str, value: Any, where: str) -> Any:
        """Return the checked value; raise :class:`RequirementError` that says what is allowed."""
        try:
            return self.check(value)
        except RequirementError:
            raise
        except Exception as problem:  # a value of the user may fail in any way
            hint = nearest(value, self.choices) if isinstance(value, str) else ""
            reason = f" ({_cut(str(problem), _LONGEST)})" if str(problem) else ""
            place = f"{where}: " if where else ""
            raise RequirementError(
                f"{place}{name}={shown(value)} is not allowed{reason}{hint or '.'} "
                f"Expected {self.expected}."
            ) from None

    def parse_text(self, name: str, text: Any, where: str) -> Any:
        """Like :meth:`parse`, for a value that arrives as text (command line, ini file)."""
        try:
            value = self.from_text(text) if isinstance(text, str) else text
        except Exception:  # the check says what is wrong
            value = text
        return self.parse(name, value, where)


_DATASET = (
    "a folder, a file (manifest, COCO, YOLO or tar shards), a name from `datasets:` in "
    "datasize.yaml, torchvision:NAME, a pair (images, labels) of arrays, a map-style torch Dataset "
    "or a Hugging Face Dataset"
)


class StudyOptions(TypedDict, total=False):
    """Options of a study besides its images; the only list of them, one entry per option.

    The type is for callers of :class:`pytest_datasize.Study`, where None means the default.
    """

    test_dataset: Annotated[
        Any,
        Option(
            Scope.IMAGES,
            validators.dataset,
            _DATASET,
            "held-out images; without it every repeat sets a stratified part aside",
        ),
    ]
    task: Annotated[
        str | None,
        Option(
            Scope.IMAGES,
            validators.choice(AUTO, *TASKS),
            f"one of: {AUTO}, {', '.join(TASKS)}",
            "what the labels are: one class per image, a set of labels, numbers, masks or boxes "
            "(auto: as the metrics or the data say)",
            AUTO,
            choices=(AUTO, *TASKS),
        ),
    ]
    group: Annotated[
        Any,
        Option(
            Scope.IMAGES,
            validators.group,
            "the name of a column, a regular expression over paths, a function of a path or one "
            "value per image",
            "images that belong together, such as frames of one patient: they never stand on both "
            "sides of a split",
        ),
    ]
    unit: Annotated[
        str | None,
        Option(
            Scope.DRAW,
            validators.choice(*UNITS),
            f"one of: {', '.join(UNITS)}",
            "what is counted, drawn and required: images, or whole groups (needs group)",
            IMAGE,
            choices=UNITS,
            added=True,
        ),
    ]
    slices: Annotated[
        Any,
        Option(
            Scope.IMAGES,
            validators.slices,
            "names of columns, such as ['site', 'lighting'], a mapping of names to regular "
            "expressions over paths, functions of a path or one value per image, or one of these; "
            "as text site,lighting or site=site_(\\w+)",
            "factors such as site or lighting: the score of every value is reported, and whether a "
            "factor predicts the class",
            from_text=validators.slices_from_text,
        ),
    ]
    checks: Annotated[
        Any,
        Option(
            Scope.TRIAL,
            validators.levels,
            "check=level pairs such as duplicates=error,sizes=ignore",
            "how serious each check of the data set is (docs/checks.md has the table)",
            "",
        ),
    ]
    allow_outside: Annotated[
        bool | None,
        Option(
            Scope.IMAGES,
            validators.flag,
            "true or false",
            "whether links and manifests may lead outside the data set's folder",
            False,
            from_text=validators.flag_from_text,
        ),
    ]
    max_pixels: Annotated[
        int | None,
        Option(
            Scope.IMAGES,
            validators.integer(1),
            "a whole number of pixels",
            "largest width x height that is decoded",
            178_956_970,
            from_text=int,
        ),
    ]
    backbone: Annotated[
        Any,
        Option(
            Scope.EMBEDDING,
            validators.backbone,
            "a timm model name, 'local-dir:PATH' or a torch.nn.Module",
            "pretrained model whose embeddings are used",
            "tf_efficientnet_lite0",
        ),
    ]
    weights: Annotated[
        str | None,
        Option(
            Scope.EMBEDDING,
            validators.path_or_word,
            "'auto', 'hub', 'embedded' or the path of a weights file",
            "where the backbone's weights come from",
            "auto",
            choices=("auto", "hub", "embedded"),
        ),
    ]
    precision: Annotated[
        str | None,
        Option(
            Scope.EMBEDDING,
            validators.choice("auto", "float32", "bfloat16", "float16"),
            "one of: auto, float32, bfloat16, float16",
            "what the backbone calculates in (auto: half where the hardware is fast in it and the "
            "embeddings stay the same within a stated tolerance)",
            "auto",
            choices=("auto", "float32", "bfloat16", "float16"),
        ),
    ]
    runtime: Annotated[
        str | None,
        Option(
            Scope.EMBEDDING,
            validators.choice(AUTO, TORCH, OPENVINO),
            f"one of: {AUTO}, {TORCH}, {OPENVINO}",
            "what runs a frozen backbone on the CPU (auto: OpenVINO where it is installed and the "
            "images are so many that converting the model pays)",
            AUTO,
            choices=(AUTO, TORCH, OPENVINO),
        ),
    ]
    strategy: Annotated[
        str | None,
        Option(
            Scope.TRIAL,
            validators.choice(AUTO, *STRATEGIES),
            f"one of: {AUTO}, {', '.join(STRATEGIES)}",
            "how the backbone is transferred (auto: a gate starts with the cheapest model and "
            "tries better ones until its targets are met)",
            AUTO,
            choices=(AUTO, *STRATEGIES),
        ),
    ]
    features: Annotated[
        str | None,
        Option(
            Scope.EMBEDDING,
            validators.choice("auto", "last", "stages"),
            "one of: auto, last, stages",
            "what a head on the frozen backbone sees: its last layer, or that and all stages "
            "(auto: all stages, unless a strategy, a preset or a module of your own is given)",
            "auto",
            choices=("auto", "last", "stages"),
        ),
    ]
    augment: Annotated[
        Any,
        Option(
            Scope.TRIAL,
            validators.augment,
            "True, False or a transform of a PIL image, such as a "
            "torchvision.transforms.v2.Compose",
            "train on augmented views of the training images, too; test images stay as they are",
            False,
            from_text=validators.flag_from_text,
        ),
    ]
    unfreeze: Annotated[
        int | None,
        Option(
            Scope.TRIAL,
            validators.integer(1, 10_000),
            "a whole number of stages from 1",
            "final stages that fine_tuning trains (default: a sixth of them, at least one)",
            from_text=int,
        ),
    ]
    trainer: Annotated[
        Any,
        Option(
            Scope.TRIAL,
            validators.trainer,
            "a function (train, test, *, seed, device) or 'module:function'",
            "training of one's own, run once per trial instead of a strategy",
        ),
    ]
    preset: Annotated[
        str | None,
        Option(
            Scope.TRIAL,
            validators.choice("keras-sample-size", "flowers-transfer"),
            "one of: keras-sample-size, flowers-transfer",
            "a published recipe, for every option that is not given otherwise",
            choices=("keras-sample-size", "flowers-transfer"),
        ),
    ]
    budget: Annotated[
        str | float | None,
        Option(
            Scope.EVIDENCE,
            validators.budget,
            "a time such as '10m', '90s' or '1h30m', or a number of seconds",
            "time that training may take: repeats are left out first, then the largest sizes",
        ),
    ]
    direction: Annotated[
        Mapping[str, str] | None,
        Option(
            Scope.TRIAL,
            validators.direction,
            "metric → 'higher' or 'lower', such as {'loss': 'lower'}; as text loss=lower",
            "which way the trainer's own metrics are better (default: higher)",
            from_text=validators.pairs_from_text,
        ),
    ]
    bounds: Annotated[
        Mapping[str, tuple[float | None, float | None]] | None,
        Option(
            Scope.TRIAL,
            validators.bounds,
            "metric → (low, high), None for an open end, such as {'loss': (0, None)}; as text "
            "loss=0..inf",
            "range of the trainer's own metrics (default: 0 to 1)",
            from_text=validators.pairs_from_text,
        ),
    ]
    operating_points: Annotated[
        Mapping[str, Mapping[str, Any]] | None,
        Option(
            Scope.TRIAL,
            validators.operating_points,
            "metric → class and what is required of its threshold, such as "
            "{'recall_at_precision': {'class': 'crack', 'precision': 0.9}}; as text "
            "recall_at_precision=crack@0.9",
            "further operating points to measure, with thresholds from training images",
            from_text=validators.points_from_text,
            added=True,
        ),
    ]
    image_size: Annotated[
        int | None,
        Option(
            Scope.EMBEDDING,
            validators.integer(16, 4096),
            "a whole number of pixels from 16 to 4096",
            "side of the backbone's input in pixels (default: the backbone's own)",
            from_text=int,
        ),
    ]
    sizes: Annotated[
        Any,
        Option(
            Scope.PLAN,
            validators.sizes,
            "at least 3 different training sizes, either whole numbers of images (50, 200, 800) "
            "or shares of the pool (0.05, 0.25, 1.0)",
            "training sizes (default: about eight, from a few images per class to the whole pool)",
            from_text=validators.sizes_from_text,
        ),
    ]
    repeats: Annotated[
        int | None,
        Option(
            Scope.PLAN,
            validators.integer(2, 1000),
            "a whole number from 2 to 1000",
            "repeats of every training size",
            10,
            from_text=int,
        ),
    ]
    law: Annotated[
        str | None,
        Option(
            Scope.EVIDENCE,
            validators.choice("power", "power2", "exponential", "m4"),
            "one of: power, power2, exponential, m4",
            "family of learning curves",
            "power",
            choices=("power", "power2", "exponential", "m4"),
        ),
    ]
    test_fraction: Annotated[
        float | None,
        Option(
            Scope.DRAW,
            validators.fraction(0.0, 0.9),
            "a number above 0 and below 0.9, such as 0.2",
            "share of the images that every repeat sets aside for testing",
            0.2,
            from_text=float,
        ),
    ]
    sampling: Annotated[
        str | None,
        Option(
            Scope.DRAW,
            validators.choice("stratified", "balanced", "replacement"),
            "one of: stratified, balanced, replacement",
            "class shares of the subsamples: as in the pool, or equal; or draws with replacement",
            "stratified",
            choices=("stratified", "balanced", "replacement"),
        ),
    ]
    seed: Annotated[
        int | None,
        Option(
            Scope.DRAW,
            validators.integer(0, 2**32 - 1),
            "a whole number from 0 to 4294967295",
            "seed of all splits and subsamples",
            0,
            from_text=int,
        ),
    ]
    device: Annotated[
        str | None,
        Option(
            Scope.EMBEDDING,
            validators.device,
            "auto, cpu, cuda, cuda:N or mps",
            "where the backbone and the heads run",
            "auto",
            choices=("auto", "cpu", "cuda", "mps"),
        ),
    ]
    engine: Annotated[
        str | None,
        Option(
            Scope.RUNTIME,
            validators.choice(*ENGINES),
            f"one of: {', '.join(ENGINES)}",
            "where images are embedded and trials trained; it never changes a verdict",
            "local",
            choices=tuple(ENGINES),
        ),
    ]
    workers: Annotated[
        int | None,
        Option(
            Scope.RUNTIME,
            validators.integer(1, 10_000),
            "a whole number from 1",
            "workers of the engine (default: one for every GPU, or for a share of the cores)",
            from_text=int,
        ),
    ]
    ray_address: Annotated[
        str | None,
        Option(
            Scope.RUNTIME,
            validators.path_or_word,
            "'auto', 'local', HOST:PORT or ray://HOST:PORT",
            "cluster of engine=ray: the one that runs (auto), one started here (local), or another",
            "auto",
            choices=("auto", "local"),
        ),
    ]
    ray_gpus: Annotated[
        float | None,
        Option(
            Scope.RUNTIME,
            validators.gpus,
            "a number from 0.01, such as 0.5 for two workers on a GPU; whole above 1",
            "GPUs of one worker of engine=ray, where the cluster has any",
            1.0,
            from_text=float,
        ),
    ]
    ray_upload: Annotated[
        bool | None,
        Option(
            Scope.RUNTIME,
            validators.flag,
            "true or false",
            "send the images to the workers of engine=ray, which then need not see the data set",
            False,
            from_text=validators.flag_from_text,
        ),
    ]


class GateOptions(StudyOptions, total=False):
    """Options of a gate: the data set, the options of a study, and those of the verdict."""

    dataset: Annotated[
        Any,
        Option(
            Scope.IMAGES,
            validators.dataset,
            _DATASET,
            "labelled images the gate speaks about",
        ),
    ]
    min_slice: Annotated[
        Mapping[str, float] | None,
        Option(
            Scope.TARGET,
            validators.min_slice,
            "metric → score that every slice must reach, such as {'accuracy': 0.85}; as text "
            f"accuracy=0.85; metrics: {', '.join(BY_IMAGE)}, or a trainer's own",
            "score that every slice must reach (needs slices)",
            from_text=validators.numbers_from_text,
        ),
    ]
    confidence: Annotated[
        float | None,
        Option(
            Scope.VERDICT,
            validators.fraction(0.5, 1.0),
            "a number above 0.5 and below 1, such as 0.9",
            "how sure the verdict must be (default: the median of the projection decides)",
            from_text=float,
        ),
    ]
    second_look: Annotated[
        str | float | None,
        Option(
            Scope.VERDICT,
            validators.second_look,
            "'auto', 'off', or a time such as '10m', '90s' or a number of seconds",
            "time in which a red gate of strategy=auto may fine-tune the backbone, to find out "
            "whether better training would do (auto: 3 minutes on a CPU, 10 on a GPU)",
            AUTO,
            choices=(AUTO, "off"),
        ),
    ]
    undecided: Annotated[
        str | None,
        Option(
            Scope.OUTCOME,
            validators.choice("fail", "warn"),
            "one of: fail, warn",
            "whether a verdict that lacks the required confidence fails or warns",
            "fail",
            choices=("fail", "warn"),
        ),
    ]
    level: Annotated[
        str | None,
        Option(
            Scope.OUTCOME,
            validators.choice("error", "warning"),
            "one of: error, warning",
            "whether a gate that is not met fails its test or only warns; on the command line it "
            "holds for all gates, whatever their markers say",
            "error",
            choices=("error", "warning"),
        ),
    ]
    trusted_range: Annotated[
        float | None,
        Option(
            Scope.VERDICT,
            validators.number_from(1.0),
            "a number from 1, such as 4",
            "times the largest measured size beyond which a number is called an extrapolation",
            4.0,
            from_text=float,
        ),
    ]
    max_increase: Annotated[
        float | None,
        Option(
            Scope.OUTCOME,
            validators.number_from(0.0),
            "a share from 0, such as 0.2 for at most 20 % more",
            "how much the required images may rise against --datasize-baseline (default: any "
            "amount)",
            from_text=float,
        ),
    ]
    cost_per_image: Annotated[
        float | Mapping[str, float] | None,
        Option(
            Scope.ADVICE,
            validators.prices,
            "a number from 0, or a price for each class such as {'rust': 2, '*': 0.5}",
            "price of one more training image, in all or by class (rust=2,*=0.5); the report gives "
            "required images and plans in money, too",
            from_text=validators.prices_from_text,
        ),
    ]
    cost_per_group: Annotated[
        float | None,
        Option(
            Scope.ADVICE,
            validators.number_from(0.0),
            "a number from 0",
            "price of one more group, in addition to cost_per_image for each of its images "
            "(needs unit=group)",
            from_text=float,
            added=True,
        ),
    ]
    image_budget: Annotated[
        float | None,
        Option(
            Scope.ADVICE,
            validators.number_from(0.0),
            "a number from 0",
            "money for more images (with cost_per_image or cost_per_group): the report says what "
            "it buys",
            from_text=float,
        ),
    ]
    images_per_class: Annotated[
        int | str | None,
        Option(
            Scope.CONDITION,
            validators.images_per_class,
            "a whole number from 1, or 'rule-of-thumb'",
            "images that every class must have; counted, nothing is trained for it",
            from_text=lambda text: int(text) if text.strip().isdigit() else text,
            choices=("rule-of-thumb",),
        ),
    ]
    represents: Annotated[
        bool | None,
        Option(
            Scope.CONDITION,
            validators.flag,
            "True or False",
            "whether the images must be like those of the deployment",
            False,
            from_text=validators.flag_from_text,
        ),
    ]
    deployment: Annotated[
        Any,
        Option(
            Scope.CONDITION,
            validators.dataset,
            _DATASET + ", or a folder of images without labels",
            "images from where the model will run",
        ),
    ]
    false_alarms: Annotated[
        float | None,
        Option(
            Scope.CONDITION,
            validators.fraction(0.0, 0.5),
            "a number above 0 and below 0.5, such as 0.01",
            "how often images that are alike may be called different",
            0.01,
            from_text=float,
        ),
    ]


def table_of(options: type) -> dict[str, Option]:
    """Return option name → Option, from the annotations of a class.

    Raises
    ------
    TypeError
        An entry has no scope, so the cached results that depend on it are unknown.
    """
    found: dict[str, Option] = {}
    for name, annotation in options.__annotations__.items():
        [option] = getattr(annotation, "__metadata__", (None,))
        if not isinstance(option, Option) or not isinstance(option.scope, Scope):
            raise TypeError(f"option {name!r}: expected an Option with a Scope, found {option!r}")
        found[name] = option
    return found


OPTIONS: dict[str, Option] = table_of(GateOptions)
"""Option name → Option; the same for every layer of the settings."""

STUDY_SCOPES = (
    Scope.IMAGES,
    Scope.EMBEDDING,
    Scope.DRAW,
    Scope.TRIAL,
    Scope.PLAN,
    Scope.EVIDENCE,
    Scope.RUNTIME,
)
"""Scopes of the options that a study takes; the others are for the gate."""

CONDITIONS = ("images_per_class", "represents")
"""Options that are a condition by themselves, without a target and without training."""


def keyed(options: Mapping[str, Any], *scopes: Scope) -> dict[str, Any]:
    """Return the options of some scopes that enter a cache key; see :class:`Option`."""
    return {
        name: options[name]
        for name in names_of(*scopes)
        if not (OPTIONS[name].added and options[name] == OPTIONS[name].default)
    }


def names_of(*scopes: Scope) -> tuple[str, ...]:
    """Return the names of all options of some scopes, in the order of the table.

    Examples
    --------
    >>> names_of(Scope.PLAN)
    ('sizes', 'repeats')
    """
    return tuple(name for name, option in OPTIONS.items() if option.scope in scopes)


def shown(value: object) -> str:
    """Return a value as text for a message; its own ``repr`` may fail, or be very long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"<{type(value).__name__}>"
    return _cut(text, 60)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."

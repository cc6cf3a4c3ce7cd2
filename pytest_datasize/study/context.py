"""The state of one study: its options, images, backbone, store and cache keys.

Code that plans, measures or compares takes a context; :class:`pytest_datasize.Study` is the public
class. Heavy packages are imported only when something must be measured: the result of an unchanged
study is found in the store by the contents of its images alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_datasize.embedding.lazy_backbone import LazyBackbone
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.errors import RequirementError
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.pool import Pool
from pytest_datasize.requirement.options import Scope, names_of
from pytest_datasize.requirement.registries import AUTO, EMBEDDING_STRATEGIES, LOCAL
from pytest_datasize.requirement.targets import Target, check_class, check_classes
from pytest_datasize.requirement.tasks import CLASSIFICATION, METRICS, TASKS
from pytest_datasize.requirement.validators import CLASS
from pytest_datasize.store import Store, key_of
from pytest_datasize.study import cache_keys
from pytest_datasize.study.checked_options import checked_options
from pytest_datasize.study.engines import Engines
from pytest_datasize.trials.plan import Plan, draw

if TYPE_CHECKING:
    import torch

    from pytest_datasize.trials.work import Key, Outcome


class StudyContext:
    """State shared by all parts of one study.

    Parameters
    ----------
    given
        Option name → value, the data set among them; None for the default.
    store
        Store of earlier results; None keeps results in this process only.
    engines
        Workers of this session, shared with other studies; None starts workers for each run.
    finished
        Known outcomes of trials, by (size, repeat); these trials are not trained again.
    on_trial
        Called with (size, repeat, outcome) as each trial ends.
    on_progress
        Called with (stage, done, total); total is 0 if the stage is a complete sentence.
    token
        See :class:`pytest_datasize.embedding.lazy_backbone.LazyBackbone`.
    pool
        The images, if another study has them already; None to load them.

    Attributes
    ----------
    given
        The options as given: they rebuild the same study in another process.
    options
        Option name → checked value, defaults and preset filled in.
    pool
        The images.
    backbone
        The backbone, loaded on first use.
    preset
        The published recipe that the options come from, or None.
    augmentation
        Name of the augmentation; None if another session cannot identify it.
    waits
        Sentences about what this study waited for.
    chosen_runtime, chosen_gpu
        Choices of the parent process, in its workers: the runtime, and whether there is enough work
        for a GPU; empty and None elsewhere.
    climbs
        Whether a gate tries several models, see :mod:`pytest_datasize.study.ladder`.

    Raises
    ------
    RequirementError
        An option is unknown, or its value is not allowed.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        *,
        store: Store | Path | str | None = None,
        engines: Engines | None = None,
        finished: "Mapping[Key, Outcome] | None" = None,
        on_trial: "Callable[[int, int, Outcome], None]" = lambda size, repeat, outcome: None,
        on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
        token: str | None = None,
        pool: Pool | None = None,
    ) -> None:
        self.given = dict(given)
        self.options, self.preset, self.augmentation, self.climbs = checked_options(given)
        self.store = store if isinstance(store, Store) else Store(Path(store) if store else None)
        self.engines = engines
        if self.options["engine"] != LOCAL and self.store.folder is None:
            self._meeting = engines or Engines()  # its folder is deleted with it
            self.store = Store(self._meeting.folder)
        self.finished = finished or {}
        self.on_trial = on_trial
        self.on_progress = on_progress
        self.pool = pool or Pool(self.options, self.store, n_threads(), on_progress)
        self.backbone = LazyBackbone(self.options, self.store, token)
        self.waits: list[str] = []
        self.chosen_runtime = ""
        self.chosen_gpu: bool | None = None

    def variant(self, **options: Any) -> "StudyContext":
        """Return the context of a study with other options on the same images."""
        return StudyContext(
            {**self.given, **options},
            store=self.store,
            engines=self.engines,
            on_progress=self.on_progress,
            token=self.backbone.token,
            pool=self.pool,
        )

    # -- cache keys --------------------------------------------------------------------------------

    def family(self) -> str | None:
        """Return the cache key of the evidence without the images; None if not known yet.

        Raises
        ------
        BackboneError
            The backbone cannot be used.
        """
        return self._key_of_options(cache_keys.EVIDENCE)

    def evidence_key(self, family: str | None) -> str | None:
        """Return the cache key of the evidence; None without a family."""
        if family is None:
            return None
        factors = self.pool.factors_fingerprint()
        return key_of([family, self.pool.fingerprint(), *([factors] if factors else [])])

    def trials_key(self) -> str | None:
        """Return the cache key of a single trial; None if a part of it has no name."""
        options = self._key_of_options(cache_keys.TRIAL)
        return options and key_of([options, self.pool.fingerprint()])

    @contextmanager
    def claim(self, key: str | None, work: str) -> Iterator[None]:
        """Hold an exclusive claim on some work among the processes that share the store.

        Parameters
        ----------
        key
            Cache key of the work's result; None if no other process could find the result.
        work
            What the holder of the claim does, such as "embeds these images".
        """
        if key is None:
            yield
            return
        with self.store.claim(key, work, lambda text: self.on_progress(text, 0, 0)) as waited:
            if waited:
                self.waits.append(waited)
            yield

    def _key_of_options(self, scopes: tuple[Scope, ...]) -> str | None:
        return cache_keys.key_of_options(
            self.options, scopes, self.augmentation, self.backbone.name, self._trainer
        )

    @cached_property
    def _trainer(self) -> dict[str, Any]:
        """What the results of a trainer depend on, as it is before training: that may change it."""
        return cache_keys.of_trainer(self.options["trainer"])

    def subject(self) -> dict[str, Any]:
        """Return what the evidence is about as plain data, the same on every machine.

        Raises
        ------
        DatasetError, BackboneError
            Images or weights cannot be read.
        """
        images, test = self.pool.once
        options = cache_keys.as_data(self.options, self.backbone)
        if factors := self.pool.factors_fingerprint():
            options["slices"] = {"names": list(self.options["slices"]), "values": factors}
        number = len(images) + (len(test) if test else 0)
        fingerprint = self.pool.fingerprint()
        return {"images": {"number": number, "fingerprint": fingerprint}, "options": options}

    # -- inputs of trials -----------------------------------------------------------------------

    @property
    def task(self) -> str:
        """What the labels are, a name in :data:`pytest_datasize.requirement.tasks.TASKS`.

        Raises
        ------
        DatasetError
            The data set cannot be read.
        """
        asked: str = self.options["task"]
        return self.pool.raw.images.task if asked == AUTO else asked

    def check_task(self) -> None:
        """Refuse options that have no effect on the models of the task.

        Raises
        ------
        RequirementError
            The strategy is not built in for the task, there is only one class of objects, or
            images cannot be augmented.
        """
        task, strategy = TASKS[self.task], self.options["strategy"]
        if strategy not in task.strategies:
            raise RequirementError(
                f"strategy={strategy!r} is not built in for task={self.task!r}. Use "
                f"{' or '.join(task.strategies)}; with trainer=, the training of your own gets "
                "images and targets."
            )
        if self.preset is not None and self.task != CLASSIFICATION:
            raise RequirementError(
                f"preset={self.options['preset']!r} is a recipe for one class per image, not for "
                f"task={self.task!r}."
            )
        self.check_points()
        if self.embeds_images or strategy not in EMBEDDING_STRATEGIES:
            return
        names = self.pool.raw.images.names
        if self.task == "detection" and len(names) < 2:
            raise RequirementError(
                f"{self.pool.raw.images.source}: all objects are of one class ({names[0]!r}). "
                "Without a trainer, the class of each object is predicted from its box, which "
                "needs at least two. For one class train a detector of your own (trainer=), which "
                "finds objects."
            )
        if self.options["augment"] is not False:
            raise RequirementError(
                f"augment is not built in for task={self.task!r}: boxes and masks would have to be "
                "changed with the images. Leave it out, or give trainer=."
            )

    def check_targets(self, targets: Mapping[str, Target]) -> None:
        """Check that targets name classes of the images, and factors that have slices.

        Raises
        ------
        RequirementError
            A class is unknown, the message gives the nearest; or a factor has no slices.
        DatasetError
            The data set cannot be read.
        """
        if any(isinstance(target, Mapping) for target in targets.values()):
            check_classes(targets, self.pool.raw.images.names, self.task)
        if "min_slice" in targets:
            from pytest_datasize.curve.slices import FactorValues
            from pytest_datasize.images.factors import joined_factors
            from pytest_datasize.study.factors import refuse_undivided

            factors = joined_factors([part for part in self.pool.raw if part])
            refuse_undivided(one.name for one in factors if not FactorValues(*one).divides)

    def check_points(self) -> None:
        """Refuse operating points whose threshold cannot be chosen, or whose class is unknown.

        Raises
        ------
        RequirementError
            There is a trainer, the task has no such metric, or a class is unknown.
        DatasetError
            The data set cannot be read.
        """
        points = self.options["operating_points"]
        if not points:
            return
        metric = next(iter(points))
        if self.options["trainer"] is not None:
            raise RequirementError(
                f"{metric} needs a threshold that is chosen on training images, but trainer= "
                "returns predictions for the test images only. Choose the threshold in your "
                "training, return one value per test image under a name of your own, such as "
                "{'found': [1, 0, ...]}, and require that: found=0.8, bounds={'found': (0, 1)}."
            )
        if strange := [name for name in points if name not in TASKS[self.task].metrics]:
            raise RequirementError(
                f"{strange[0]} is a metric of {' and '.join(METRICS[strange[0]])}, not of "
                f"task={self.task!r}."
            )
        names = self.pool.raw.images.names
        for metric, point in points.items():
            check_class(metric, point[CLASS], names, TASKS[self.task].label)

    @property
    def embeds_images(self) -> bool:
        """Whether trials see the embeddings of whole images."""
        embeds = self.options["strategy"] in EMBEDDING_STRATEGIES
        return embeds and TASKS[self.task].embeds_images

    def draw(self, images: ImageSet, test: ImageSet | None) -> Plan:
        """Draw the training and test images of each trial.

        Raises
        ------
        DatasetError
            There are too few images.
        """
        return draw(
            images,
            n_fixed_test=len(test) if test else 0,
            **{name: self.options[name] for name in names_of(Scope.PLAN, Scope.DRAW)},
        )

    def training(self) -> dict[str, Any]:
        """Return the options of the strategy, the runtime chosen, and the recipe of a preset."""
        recipe = self.preset.recipe if self.preset else None
        return {**self.options, "runtime": self.runtime, "recipe": recipe}

    @property
    def runtime(self) -> str:
        """What runs the frozen backbone; it depends on the number of images, not on their cache.

        Raises
        ------
        BackboneError
            OpenVINO is asked for and not installed.
        """
        from pytest_datasize.embedding.openvino_runtime import choose

        backbone, pixels = self.backbone.loaded, 0
        asked = self.chosen_runtime or self.options["runtime"]
        if asked == AUTO:
            images = sum(len(part) for part in self.pool.raw if part)
            pixels = images * backbone.image_size**2
        return choose(asked, self.device, isinstance(backbone.given, str), pixels)

    @property
    def device(self) -> "torch.device":
        """Device on which models run.

        Raises
        ------
        DatasetError, BackboneError
            Images or weights cannot be read, or the device is not available.
        """
        from pytest_datasize.embedding import device as devices

        return devices.resolve(self.options["device"], lambda: self.worth_a_gpu)

    @cached_property
    def worth_a_gpu(self) -> bool:
        """Whether ``device="auto"`` uses a GPU: this depends on counts, not on time.

        The user's own training always does, since its cost is unknown.

        Raises
        ------
        DatasetError, BackboneError
            Images or weights cannot be read.
        """
        if self.chosen_gpu is not None:
            return self.chosen_gpu
        if self.options["strategy"] == "own_training":
            return True
        from pytest_datasize.embedding.gpu_work import TRAINING_PASSES, is_worth_a_gpu
        from pytest_datasize.embedding.views import VIEWS

        parts = [part for part in self.pool.raw if part]
        images = sum(map(len, parts))
        if self.task == "detection":  # objects are embedded
            images = sum(sum((part.amounts or {}).values()) for part in parts)
        images *= 1 if self.options["augment"] is False else 1 + VIEWS
        if self.options["strategy"] not in EMBEDDING_STRATEGIES:
            images *= TRAINING_PASSES
        return is_worth_a_gpu(self.backbone.loaded, images)

    @property
    def device_note(self) -> str:
        """Note for the report if there is a GPU that is not used; else empty.

        Raises
        ------
        DatasetError, BackboneError
            As for :attr:`device`.
        """
        from pytest_datasize.embedding.device import visible

        if self.options["device"] != AUTO or not visible()[0] or self.worth_a_gpu:
            return ""
        return "device: CPU, since there is too little work for the GPU; device='cuda' uses it"

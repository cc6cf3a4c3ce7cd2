"""Run a plan to a result: the one room that knows all the others.

Nothing heavy is imported before something must be measured: an unchanged study is found in the
store by the contents of its images alone.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_datasize import images as image_sources
from pytest_datasize.errors import BackboneError, RequirementError
from pytest_datasize.images.contents import known_contents, read_contents, stamps_of
from pytest_datasize.images.image_set import ImageSet, Loaded, file_stamp
from pytest_datasize.images.unique import unique
from pytest_datasize.options import OPTIONS, STRATEGIES
from pytest_datasize.plan import Plan, draw
from pytest_datasize.store import Store, key_of

if TYPE_CHECKING:
    from pytest_datasize.result import StudyPlan, StudyResult
    from pytest_datasize.transfer.backbone import Backbone

_OF_THE_PLAN = ("sizes", "repeats", "test_fraction", "sampling", "seed")
_OF_THE_EVIDENCE = (*_OF_THE_PLAN, "strategy", "image_size", "precision", "device", "law")


class Study:
    """Train transfer models on subsamples of labelled images and fit their learning curves.

    Parameters
    ----------
    dataset
        A folder with one folder per class, a pair (images, labels) of arrays of shape
        (N, H, W[, C]) and (N,), or a map-style torch Dataset of (image, label).
    test_dataset
        Held-out images in the same forms; None sets a stratified part aside in every repeat.
    backbone, weights, strategy, image_size, sizes, repeats, test_fraction, sampling, seed
        As in the marker; None for the default.
    precision, device, law
        As in the marker; None for the default.
    store
        Knows what was found out before, and learns what is new; None forgets all at the end.
    on_progress
        Called with (stage, done, in all).

    Raises
    ------
    RequirementError
        An option that is not understood.

    Examples
    --------
    >>> import numpy as np, torch
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(60) % 2
    >>> images = (rng.random((60, 16, 16)) * (1 + labels[:, None, None]) / 2).astype("float32")
    >>> backbone = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
    >>> study = Study((images, labels), backbone=backbone, image_size=16, device="cpu")
    >>> result = study.run()
    >>> result.available, len(result.sizes), len(result.scores["accuracy"][0])
    (48, 8, 10)
    >>> result.verdict(accuracy=0.8).status
    <Status.SUFFICIENT: 'sufficient'>
    """

    def __init__(
        self,
        dataset: Any,
        *,
        test_dataset: Any = None,
        backbone: Any = None,
        weights: str | None = None,
        strategy: str | None = None,
        image_size: int | None = None,
        precision: str | None = None,
        sizes: Any = None,
        repeats: int | None = None,
        test_fraction: float | None = None,
        sampling: str | None = None,
        seed: int | None = None,
        device: str | None = None,
        law: str | None = None,
        store: Store | None = None,
        on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    ) -> None:
        given = {
            "dataset": dataset,
            "test_dataset": test_dataset,
            "backbone": backbone,
            "weights": weights,
            "strategy": strategy,
            "image_size": image_size,
            "precision": precision,
            "sizes": sizes,
            "repeats": repeats,
            "test_fraction": test_fraction,
            "sampling": sampling,
            "seed": seed,
            "device": device,
            "law": law,
        }
        self.options = {
            name: OPTIONS[name].default
            if value is None
            else OPTIONS[name].parse(name, value, "Study")
            for name, value in given.items()
        }
        if dataset is None:
            raise RequirementError(f"Study: dataset=None. Expected {OPTIONS['dataset'].expected}.")
        self.store = Store() if store is None else store
        self.on_progress = on_progress
        self._raw: Loaded | None = None
        self._unique: Loaded | None = None
        self._loaded_backbone: Backbone | None = None

    def plan(self) -> "StudyPlan":
        """Say what would be trained and what it would cost; train nothing.

        Raises
        ------
        DatasetError, BackboneError
            What :meth:`run` would raise before it trains.
        """
        from pytest_datasize.result import StudyPlan
        from pytest_datasize.transfer import device as devices
        from pytest_datasize.transfer.cost import seconds_per_image

        images, test = self._images()
        plan = self._draw()
        device = devices.resolve(self.options["device"])
        backbone = self._backbone()
        total = len(images) + (len(test) if test else 0)
        return StudyPlan(
            source=images.source,
            class_counts=images.class_counts,
            total=total,
            available=plan.available,
            n_test=plan.n_test,
            sizes=plan.sizes,
            repeats=len(plan.repeats),
            n_trials=len(plan.trials()),
            backbone=backbone.name,
            strategy=self.options["strategy"],
            device=devices.describe(device),
            image_size=backbone.image_size,
            seconds=total * seconds_per_image(backbone, device, self.options["precision"]),
        )

    def key(self) -> str | None:
        """Name everything that the evidence depends on; None if only measuring can tell.

        Images whose files are unknown are read when the store has evidence of a study that
        differs from this one in nothing but its images.

        Raises
        ------
        DatasetError
            Images cannot be read.
        """
        family = self._family()
        if family is None:
            return None
        if not self._all_known() and not self.store.has_family("evidence", family):
            return None
        return key_of([family, self.fingerprint()])

    def fingerprint(self) -> str:
        """Name the images: what they show, their labels, and which are test images.

        It does not depend on the names, the order or the dates of files.
        """
        images, test = self._images()
        return key_of(
            [
                [images.classes, images.labels.tolist(), images.digests],
                [test.labels.tolist(), test.digests] if test else None,
            ]
        )

    def subject(self) -> dict[str, Any]:
        """Say what the evidence is about, wherever it was measured: plain data."""
        images, test = self._images()
        options = {name: self.options[name] for name in _OF_THE_EVIDENCE}
        backbone, weights = self.options["backbone"], self.options["weights"]
        options["backbone"] = backbone if isinstance(backbone, str) else self._backbone().key
        if weights not in ("auto", "hub", "embedded"):
            options["weights"] = _file_hash(Path(weights))
        number = len(images) + (len(test) if test else 0)
        return {"images": {"number": number, "fingerprint": self.fingerprint()}, "options": options}

    def run(self, until: Callable[["StudyResult", float], bool] | None = None) -> "StudyResult":
        """Embed, train, score and fit; or take from the store what was measured before.

        Parameters
        ----------
        until
            Called with the result and the share of repeats done, at each look of
            :func:`pytest_datasize.sequential.looks`; training stops when it returns True. None
            trains all repeats. Its ``key``, a text that names what it does, lets the store tell
            its evidence apart; without one the evidence is not kept.

        Raises
        ------
        DatasetError
            Images cannot be read, or are too few to judge.
        BackboneError
            The backbone or its weights cannot be had, or fail on the images.
        """
        from pytest_datasize.evidence import from_json, to_json

        stops = getattr(until, "key", None) if until else ""
        if found := self._known(stops):
            return from_json(found)
        backbone = self._backbone()
        with self.store.claim(backbone.key):
            if found := self._known(stops):  # measured by whom we waited for
                return from_json(found)
            result = self._measure(backbone, until)
            if stops is not None:
                family = self._family() or ""
                key = key_of([family, self.fingerprint()])
                self.store.put("evidence", f"{key}{stops}", to_json(result), family)
        return result

    def images(self) -> ImageSet:
        """Every image of the pool once, copies left out; read and decoded, nothing is trained.

        Raises
        ------
        DatasetError
            Images cannot be read.
        """
        return self._images().images

    def family(self) -> str | None:
        """Name all that the embeddings depend on but the images; None before weights are known."""
        return self._family()

    def embed(self, *image_sets: ImageSet) -> tuple[Any, ...]:
        """Return the embeddings of image sets, one float16 array (N, D) each.

        Raises
        ------
        DatasetError, BackboneError
            Images cannot be decoded, or the backbone cannot be had.
        """
        from pytest_datasize.transfer import device as devices
        from pytest_datasize.transfer.embedding import embed

        found = embed(
            image_sets,
            self._backbone(),
            devices.resolve(self.options["device"]),
            self.store,
            lambda done, total: self.on_progress("embedding images", done, total),
            precision=self.options["precision"],
        )
        ends = np.cumsum([len(part) for part in image_sets])[:-1]
        return tuple(np.split(found.features.cpu().numpy(), ends))

    def _known(self, stops: str | None) -> Any:
        """Return the evidence of before, as JSON."""
        key = None if stops is None else self.key()
        return self.store.get("evidence", f"{key}{stops}") if key else None

    # -- images -------------------------------------------------------------------------------

    def _loaded(self) -> Loaded:
        if self._raw is None:
            self._raw = image_sources.load(self.options["dataset"], self.options["test_dataset"])
        return self._raw

    def _all_known(self) -> bool:
        return self._unique is not None or all(
            content is not None
            for part in self._loaded()
            if part is not None
            for content in known_contents(stamps_of(part), self.store)
        )

    def _images(self) -> Loaded:
        """Every image once; read and decoded here if no one has before."""
        if self._unique is None:
            from pytest_datasize.threads import n_threads

            raw = self._loaded()
            total = sum(len(part) for part in raw if part)
            done = 0

            def read(part: ImageSet) -> tuple[str, ...]:
                nonlocal done
                contents = read_contents(
                    part,
                    self.store,
                    n_threads(),
                    lambda n: self.on_progress("reading images", done + n, total),
                )
                done += len(part)
                return contents

            self._named([read(part) for part in raw if part])
        assert self._unique is not None
        return self._unique

    def _named(self, contents: Sequence[tuple[str, ...]]) -> None:
        parts = [
            replace(part, digests=names)
            for part, names in zip(filter(None, self._loaded()), contents, strict=True)
        ]
        self._unique = unique(Loaded(*parts))

    # -- what the evidence depends on -----------------------------------------------------------

    def _family(self) -> str | None:
        """Name everything but the images; None when the weights must be looked up first."""
        weights = self._weights()
        if weights is None:
            return None
        versions = {name: version(name) for name in ("pytest-datasize", "timm", "torch", "numpy")}
        options = {name: self.options[name] for name in _OF_THE_EVIDENCE}
        return key_of([versions, options, weights])

    def _weights(self) -> str | None:
        """Name backbone and weights, by the file that was found last time while it is the same."""
        if not isinstance(self.options["backbone"], str):
            return self._backbone().key
        asked = key_of([self.options["backbone"], self.options["weights"], version("timm")])
        known = self.store.get("weights", asked)
        if self._loaded_backbone is not None:
            backbone = self._loaded_backbone
            assert backbone.weights_file is not None
            stamp = file_stamp(backbone.weights_file)
            found = {
                "file": str(backbone.weights_file),
                "stamp": stamp,
                "is": backbone.weights_hash,
            }
            if found != known:
                self.store.put("weights", asked, found)
            return f"{backbone.name}|{backbone.weights_hash}"
        if known and file_stamp(known["file"]) == known["stamp"]:
            return f"{self.options['backbone']}|{known['is']}"
        return None

    def _backbone(self) -> "Backbone":
        if self._loaded_backbone is None:
            from pytest_datasize.transfer.backbone import load

            self._loaded_backbone = load(
                *(self.options[name] for name in ("backbone", "weights", "image_size"))
            )
        return self._loaded_backbone

    # -- measuring ----------------------------------------------------------------------------

    def _draw(self) -> Plan:
        images, test = self._images()
        return draw(
            images,
            n_fixed_test=len(test) if test else 0,
            **{name: self.options[name] for name in _OF_THE_PLAN},
        )

    def _measure(
        self, backbone: "Backbone", until: Callable[["StudyResult", float], bool] | None
    ) -> "StudyResult":
        from pytest_datasize.measurement import measure
        from pytest_datasize.transfer import device as devices
        from pytest_datasize.transfer.embedding import embed
        from pytest_datasize.transfer.trials import Work

        device = devices.resolve(self.options["device"])
        module, _, function = STRATEGIES[self.options["strategy"]].partition(":")
        strategy = import_module(module)
        timings: dict[str, float] = {}
        precision = self.options["precision"]
        if getattr(strategy, "EMBEDS", False):
            raw = tuple(part for part in self._loaded() if part)
            embeddings = embed(
                raw,
                backbone,
                device,
                self.store,
                lambda done, total: self.on_progress("embedding images", done, total),
                precision=precision,
            )
            timings["decode_and_embed"] = embeddings.seconds
            precision = embeddings.precision
            if self._unique is None:
                self._named(embeddings.contents)
        images, test = self._images()
        sets = (images, test) if test else (images,)
        work = Work(
            plan=self._draw(),
            image_sets=sets,
            labels=np.concatenate([part.labels for part in sets]),
            n_classes=len(images.classes),
            backbone=backbone,
            device=device,
            store=self.store,
            precision=precision,
            seed=self.options["seed"],
            on_progress=self.on_progress,
        )
        return measure(work, getattr(strategy, function), self.options, timings, until)


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError as problem:
        raise BackboneError(f"weights file {path}: cannot be read: {problem.strerror}.") from None

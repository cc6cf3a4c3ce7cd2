"""What strategies scored on the same images before, and what transfer adds as they tell."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_datasize.store import key_of
from pytest_datasize.study.splits import same_splits

if TYPE_CHECKING:
    from pytest_datasize.study.context import StudyContext
    from pytest_datasize.study.result import StudyResult


def transfer_gain(context: "StudyContext") -> dict[str, Any] | None:
    """Say what transfer adds here; None unless both strategies ran on the same splits before.

    Raises
    ------
    DatasetError
        Images cannot be read.
    """
    known = [
        context.store.get("scores", _key(context, strategy))
        for strategy in ("feature_extraction", "from_scratch")
    ]
    if None in known or not same_splits(*(part.get("splits", ()) for part in known)):
        return None
    from pytest_datasize.curve.advice.gain import transfer_gain

    one, other = ({int(size): s for size, s in part["scores"].items()} for part in known)
    found = transfer_gain(one, other, known[0]["n_test"])
    return None if found is None else asdict(found)


def keep_scores(context: "StudyContext", result: "StudyResult") -> None:
    """Keep what a study found, for others on the same images."""
    if (found := result.scores.get("accuracy")) and context.augmentation is not None:
        scores = {str(size): list(s) for size, s in zip(result.sizes, found, strict=True)}
        key = _key(context, context.options["strategy"])
        splits = list(result.splits)
        context.store.put(
            "scores", key, {"scores": scores, "n_test": result.n_test, "splits": splits}
        )


def _key(context: "StudyContext", strategy: str) -> str:
    """Name a strategy on the splits of this study, whatever sizes and repeats it has."""
    backbone = context.options["backbone"]
    name = backbone if isinstance(backbone, str) else context.backbone.loaded.key
    options = ("test_fraction", "sampling", "seed", "image_size")
    asked = [context.augmentation, *(context.options[option] for option in options)]
    return key_of([strategy, name, context.pool.fingerprint(), *asked])

"""What strategies scored on the same images before, and what transfer adds as they tell."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_datasize.store import key_of

if TYPE_CHECKING:
    from pytest_datasize.result import StudyResult
    from pytest_datasize.study import Study


def transfer_gain(study: "Study") -> dict[str, Any] | None:
    """Say what transfer adds here; None unless both strategies ran on these images before.

    Raises
    ------
    DatasetError
        Images cannot be read.
    """
    known = [
        study.store.get("scores", _key(study, strategy))
        for strategy in ("feature_extraction", "from_scratch")
    ]
    if None in known:
        return None
    from pytest_datasize.insight.gain import transfer_gain

    one, other = ({int(size): s for size, s in part["scores"].items()} for part in known)
    found = transfer_gain(one, other, known[0]["n_test"])
    return None if found is None else asdict(found)


def keep_scores(study: "Study", result: "StudyResult") -> None:
    """Keep what a study found, for others on the same images."""
    if (found := result.scores.get("accuracy")) and study.augmentation is not None:
        scores = {str(size): list(s) for size, s in zip(result.sizes, found, strict=True)}
        key = _key(study, study.options["strategy"])
        study.store.put("scores", key, {"scores": scores, "n_test": result.n_test})


def _key(study: "Study", strategy: str) -> str:
    """Name a strategy on the splits of this study, whatever sizes and repeats it has."""
    backbone = study.options["backbone"]
    name = backbone if isinstance(backbone, str) else study.model.backbone.key
    options = ("test_fraction", "sampling", "seed", "image_size")
    asked = [study.augmentation, *(study.options[option] for option in options)]
    return key_of([strategy, name, study.collection.fingerprint(), *asked])

"""Store the scores of strategies, and compute the gain of transfer from them."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_datasize.requirement.options import names_of
from pytest_datasize.requirement.registries import EMBEDDING_STRATEGIES
from pytest_datasize.requirement.versions import evidence_versions
from pytest_datasize.store import key_of
from pytest_datasize.study import cache_keys
from pytest_datasize.study.splits import same_splits

if TYPE_CHECKING:
    from pytest_datasize.study.context import StudyContext
    from pytest_datasize.study.result import StudyResult


def transfer_gain(context: "StudyContext") -> dict[str, Any] | None:
    """Return the gain of transfer; None unless both strategies ran on the same splits before.

    Raises
    ------
    DatasetError
        Images cannot be read.
    """
    keys = [_key(context, strategy) for strategy in ("feature_extraction", "from_scratch")]
    known: list[Any] = [context.store.get("scores", key) if key else None for key in keys]
    if None in known or not same_splits(*(part.get("splits", ()) for part in known)):
        return None
    from pytest_datasize.curve.advice.gain import transfer_gain

    one, other = ({int(size): s for size, s in part["scores"].items()} for part in known)
    found = transfer_gain(one, other, known[0]["n_test"])
    return None if found is None else asdict(found)


def keep_scores(context: "StudyContext", result: "StudyResult") -> None:
    """Store the scores of a study, for other strategies on the same images."""
    key = _key(context, context.options["strategy"])
    if key and (found := result.scores.get("accuracy")):
        scores = {str(size): list(s) for size, s in zip(result.sizes, found, strict=True)}
        splits = list(result.splits)
        context.store.put(
            "scores", key, {"scores": scores, "n_test": result.n_test, "splits": splits}
        )


def _key(context: "StudyContext", strategy: str) -> str | None:
    """Return the cache key of a strategy on the splits of this study, for any sizes and repeats.

    None if a part has no name that is the same in another session.
    """
    options = {**context.options, "strategy": strategy}
    if strategy not in EMBEDDING_STRATEGIES:
        options["features"] = "last"
    known = cache_keys.as_data(options, context.backbone)
    asked = {name: known[name] for name in names_of(*cache_keys.TRIAL) if name in known}
    if cache_keys.UNNAMED in asked.values():
        return None
    return key_of([asked, evidence_versions(), context.pool.fingerprint()])

"""Write the second opinion on a target: the score that nearest neighbours allow."""

from pytest_datasize.reports.records.record_parts import NeighbourBound, NeighbourSpace
from pytest_datasize.reports.records.record_types import GateRecord


def opinion(record: GateRecord) -> str:
    """Write the score that nearest neighbours allow, and what it means for the target; else empty.

    Examples
    --------
    >>> space = {"space": "last layer", "image_size": 224, "error": 0.36}
    >>> found = {"allowed": 0.794, "allowed_low": 0.775, "allowed_high": 0.812, "later": 0.812,
    ...     "error": 0.36, "error_low": 0.33, "error_high": 0.39, "asked": 2000, "among": 2000,
    ...     "images": 2000, "says": "agrees", "space": space, "spaces": [space]}
    >>> print(opinion({"verdict": "unreachable", "neighbour_bound": found}))
    at most 0.794 (0.775 to 0.812) by nearest neighbours in this embedding, with any number of \
images: they agree. More images will not help; the labels, the images or the backbone are the limit
    >>> print(opinion({"verdict": "unreachable", "neighbour_bound": {**found, "says": "allows"}}))
    up to 0.794 (0.775 to 0.812) by nearest neighbours in this embedding: they disagree. \
Another model or fine-tuning may reach the target
    """
    found = record.get("neighbour_bound")
    if found is None:
        return ""
    span = f"{found['allowed']:.3f} ({found['allowed_low']:.3f} to {found['allowed_high']:.3f})"
    known = f"{span} by nearest neighbours in this embedding"
    if found["says"] == "nothing":
        return f"no usable bound: {known} is less than the model scores"
    if found["says"] == "falling":
        return f"up to {known}: not decided, since their error still falls with more images"
    if found["says"] == "agrees":
        agree = "agree" if record["verdict"] == "unreachable" else "do not allow the target"
        return (
            f"at most {known}, with any number of images: they {agree}. More images will not help; "
            "the labels, the images or the backbone are the limit"
        )
    if record["verdict"] != "unreachable":
        return f"up to {known}"
    return f"up to {known}: they disagree. Another model or fine-tuning may reach the target"


def evidence(found: NeighbourBound) -> str:
    """Write how the bound was obtained.

    Examples
    --------
    >>> space = {"space": "last layer", "image_size": 224, "error": 0.36}
    >>> evidence({"error": 0.36, "error_low": 0.33, "error_high": 0.39, "asked": 2000,
    ...     "among": 4000, "images": 9000, "space": space, "spaces": [space, space]})
    '36.0 % (33.0 to 39.0) of 2,000 images have a nearest neighbour with another label (last layer \
at 224 pixels, the best of 2 embeddings); searched among 4,000 of 9,000 images, without copies and \
images of the same group'
    """
    error, low, high = (100 * found[end] for end in ("error", "error_low", "error_high"))
    best = f"{_named(found['space'])}"
    if (number := len(found["spaces"])) > 1:
        best += f", the best of {number} embeddings"
    among = f"{found['images']:,}"
    if found["among"] < found["images"]:
        among = f"{found['among']:,} of {among}"
    return (
        f"{error:.1f} % ({low:.1f} to {high:.1f}) of {found['asked']:,} images have a nearest "
        f"neighbour with another label ({best}); searched among {among} images, without copies and "
        "images of the same group"
    )


def _named(space: NeighbourSpace) -> str:
    return f"{space['space']} at {space['image_size']} pixels"

"""Write the second opinion on a target: the accuracy that nearest neighbours allow."""

from pytest_datasize.reports.records.record_types import GateRecord, NeighbourBound, NeighbourSpace


def opinion(record: GateRecord) -> str:
    """Say what nearest neighbours allow, and what that means for the target; else empty.

    Examples
    --------
    >>> space = {"space": "last layer", "image_size": 224, "error": 0.36}
    >>> found = {"allowed": 0.794, "allowed_low": 0.775, "allowed_high": 0.812, "later": 0.812,
    ...     "error": 0.36, "error_low": 0.33, "error_high": 0.39, "asked": 2000, "among": 2000,
    ...     "images": 2000, "says": "agrees", "space": space, "spaces": [space]}
    >>> print(opinion({"verdict": "unreachable", "neighbour_bound": found}))
    nearest neighbours agree: they allow at most 0.794 (0.775 to 0.812) with this embedding and \
any number of images; the limit is not their number, but the labels, the images themselves or \
what the backbone sees in them
    >>> print(opinion({"verdict": "unreachable", "neighbour_bound": {**found, "says": "allows"}}))
    nearest neighbours differ: they allow up to 0.794 (0.775 to 0.812) with this embedding; \
another model or fine-tuning may reach the target
    """
    found = record.get("neighbour_bound")
    if found is None:
        return ""
    span = f"{found['allowed']:.3f} ({found['allowed_low']:.3f} to {found['allowed_high']:.3f})"
    if found["says"] == "nothing":
        return (
            f"nearest neighbours say nothing here: they would allow {span} with this embedding, "
            "less than the model scores"
        )
    if found["says"] == "falling":
        return (
            f"nearest neighbours leave it open: they allow up to {span} with this embedding, but "
            "their error still falls with more images"
        )
    if found["says"] == "agrees":
        agree = "agree" if record["verdict"] == "unreachable" else "doubt the target"
        return (
            f"nearest neighbours {agree}: they allow at most {span} with this embedding and any "
            "number of images; the limit is not their number, but the labels, the images "
            "themselves or what the backbone sees in them"
        )
    if record["verdict"] != "unreachable":
        return f"nearest neighbours allow up to {span} with this embedding"
    return (
        f"nearest neighbours differ: they allow up to {span} with this embedding; another model "
        "or fine-tuning may reach the target"
    )


def evidence(found: NeighbourBound) -> str:
    """Say how the bound was obtained.

    Examples
    --------
    >>> space = {"space": "last layer", "image_size": 224, "error": 0.36}
    >>> evidence({"error": 0.36, "error_low": 0.33, "error_high": 0.39, "asked": 2000,
    ...     "among": 4000, "images": 9000, "space": space, "spaces": [space, space]})
    'the nearest neighbour of 36.0 % (33.0 to 39.0) of 2,000 images has another label (last layer \
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
        f"the nearest neighbour of {error:.1f} % ({low:.1f} to {high:.1f}) of {found['asked']:,} "
        f"images has another label ({best}); searched among {among} images, without copies and "
        "images of the same group"
    )


def _named(space: NeighbourSpace) -> str:
    return f"{space['space']} at {space['image_size']} pixels"

"""Remove exact duplicates: they add no evidence, and in the test set they inflate the score."""

from dataclasses import replace

from pytest_datasize.errors import DatasetError
from pytest_datasize.images.image_set import Finding, ImageSet, Loaded

MOST_NAMED = 200


def unique(loaded: Loaded) -> Loaded:
    """Remove exact duplicates and sort the images by content, independently of file names.

    Of duplicates with the same label, the first is kept. Duplicates with different labels are all
    removed, because the right label is unknown. Test images that are also in the pool are removed.

    Parameters
    ----------
    loaded
        Images, and test images where given separately, with :attr:`ImageSet.digests` set.

    Returns
    -------
    Loaded
        In the order of the digests, with a note for everything that was removed.

    Raises
    ------
    DatasetError
        Nothing is left; a class is left without images.
    """
    images, test = loaded
    rows, findings = _first_of_each(images)
    kept = _part(images, rows, findings)
    if test is None:
        return Loaded(kept)
    rows, findings = _first_of_each(test)
    known = set(images.digests)
    fresh = [row for row in rows if test.digests[row] not in known]
    if leaked := len(rows) - len(fresh):
        gone = sorted(set(rows) - set(fresh))[:MOST_NAMED]
        text = f"{leaked} test images are also in the pool and were left out"
        findings += (Finding("test_leak", text, leaked, tuple(test.name(row) for row in gone)),)
    tested = _part(test, fresh, findings)
    pool = replace(kept, findings=(*kept.findings, *tested.findings))
    return Loaded(pool, replace(tested, findings=()))


def _first_of_each(images: ImageSet) -> tuple[list[int], tuple[Finding, ...]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(images.digests):
        rows.setdefault(name, []).append(row)
    first, copies, contested = [], [], []
    for same in rows.values():
        if any(images.identity(row) != images.identity(same[0]) for row in same[1:]):
            contested.append(" = ".join(images.name(row) for row in same[:3]))
        else:
            first.append(same[0])
            copies += [f"{images.name(row)} = {images.name(same[0])}" for row in same[1:]]
    findings: tuple[Finding, ...] = ()
    if copies:
        text = f"{len(copies)} exact copies in {images.source} were counted once"
        findings += (Finding("duplicates", text, len(copies), tuple(copies[:MOST_NAMED])),)
    if contested:
        shown = "; ".join(contested[:3]) + (" ..." if len(contested) > 3 else "")
        text = f"{len(contested)} images stand under two labels and were left out: {shown}"
        named = tuple(contested[:MOST_NAMED])
        findings += (Finding("conflicting_labels", text, len(contested), named),)
    return first, findings


def _part(images: ImageSet, rows: list[int], findings: tuple[Finding, ...]) -> ImageSet:
    kept = images.part(sorted(rows, key=lambda row: images.digests[row]))
    if gone := [name for name, n in kept.class_counts.items() if not n]:
        raise DatasetError(
            f"{images.source}: no image of class {gone[0]!r} is left; {findings[-1].text}."
        )
    return replace(kept, findings=(*images.findings, *findings))

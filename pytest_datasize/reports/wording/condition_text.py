"""Describe conditions without training in words."""

from pytest_datasize.reports.records.record_types import ConditionRecord
from pytest_datasize.reports.records.text import one_line


def details(record: ConditionRecord) -> list[str]:
    """Return the lines below the first line of a condition that is not met."""
    check = record["check"]
    if check["kind"] == "images_per_class":
        return [f"  counted    decodable images, copies once, in {one_line(check['source'])}"]
    return [
        f"  compared   {check['images']:,} images of {one_line(check['source'])} with "
        f"{check['deployment_images']:,} of {one_line(check['deployment'])}"
        + (f" ({check['copies']:,} copies left out)" if check["copies"] else ""),
        f"  effect     AUC {check['auc']:.3f} ({check['auc_low']:.3f} to {check['auc_high']:.3f}): "
        f"a deployment image can be told from a training image in {100 * check['auc']:.1f} % of "
        "pairs",
        f"  mmd        MMD² {check['mmd']:.3g} (p = {check['mmd_p_value']:.3g})",
        f"  outside    {100 * check['outside']:.0f} % ({100 * check['outside_low']:.0f} to "
        f"{100 * check['outside_high']:.0f}) of deployment images are farther from the nearest "
        "training image than 99 % of training images are",
        *(
            f"  least like them: {one_line(one['image'], 80)} ({one['distance']:.3f})"
            for one in check["least_alike"][:3]
        ),
        f"  level      significance level: {100 * check['false_alarms']:g} %",
    ]

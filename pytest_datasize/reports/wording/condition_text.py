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
        f"  effect     an image of the deployment looks more like it than one of the pool with "
        f"probability {check['auc']:.3f} ({check['auc_low']:.3f} to {check['auc_high']:.3f})",
        f"  mmd        squared maximum mean discrepancy {check['mmd']:.3g}, "
        f"p = {check['mmd_p_value']:.3g} (in place of an interval: its scale has no meaning)",
        f"  outside    {100 * check['outside']:.0f} % ({100 * check['outside_low']:.0f} to "
        f"{100 * check['outside_high']:.0f}) of them are further from every image of the pool "
        "than 99 % of its own are from each other",
        *(
            f"  least like the pool: {one_line(one['image'], 80)} ({one['distance']:.3f})"
            for one in check["least_alike"][:3]
        ),
        f"  level      alarms where there is no difference: {100 * check['false_alarms']:g} %",
    ]

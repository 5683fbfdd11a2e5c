"""What a search chooses from, written down for those who read its workdir later."""

import dataclasses

from kdarts.nets.hypercuboid import HyperCuboid
from kdarts.search.search import Search


def setting_of(search: Search) -> dict:
    """What the columns and rows of α stand for, and the sizes that its networks are costed at.

    Args:
        search: compiled or not.

    Returns:
        What `setting.json` holds: for cells `operations`, `edges` as `[to, from]`, `topology` (whether each node reads
        two given inputs) and `offsets` of α; for a HyperCuboid `space` alone. Both have `mixing`, `epochs` (the
        most, with the pretraining), `input_shape`, `num_classes` and the sizes that `Supernet.sizes` tells.
    """
    net, method = search.supernet, search.method
    about = {
        "method": method.name,
        "mixing": net.mixing,
        "epochs": method.pretrain_epochs + method.epochs,
        "pretrain_epochs": method.pretrain_epochs,
        "input_shape": list(net.image_shape),
        "num_classes": net.num_classes,
        **net.sizes,
    }
    if isinstance(net, HyperCuboid):
        return about | {"space": net.space_name}
    return about | {
        "space": net.space.name,
        "operations": list(net.space.operations),
        "edges": [list(edge) for edge in net.edges],
        "topology": net.topology is not None,
        "offsets": net.offsets,
        "stem": net.get_config()["stem"],
        "frame": dataclasses.asdict(net.frame),
    }

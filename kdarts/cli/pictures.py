"""The pictures that a search leaves in its folder."""

from kdarts.genotypes.found import Found
from kdarts.genotypes.hyper_path import HyperPath


def draw(search, found: Found, workdir, stopped: bool, order: str) -> None:
    """The pictures of a finished search, which found a genotype.

    `stopped` says if its distance to the start ended it; `order` is that of a heat map's edges.
    """
    import numpy as np

    from kdarts.run.files import read_column
    from kdarts.run.search_record import alphas_by_name
    from kdarts.views.curve import draw_distance
    from kdarts.views.drawing import draw_genotype
    from kdarts.views.heatmap import draw_alphas

    if isinstance(found, HyperPath):
        from kdarts.views.trellis import draw_path, draw_stages

        draw_stages(found.cuboid, search.supernet.path_weights(), workdir / "alphas.png")
        draw_path(found, workdir / "path.svg", weights=search.supernet.path_weights())
        return
    titles = {"normal": "normal cell", "reduce": "reduction cell"}
    weights = alphas_by_name(search, mixed=True)
    edges = [f"{source}→{to}" for to, source in search.supernet.edges]
    named = {titles.get(name, name.replace("_", " ")): weight for name, weight in weights.items()}
    draw_alphas(named, search.supernet.space.operations, workdir / "alphas.png", edges, order=order)
    if search.supernet.betas:
        shares = search.supernet.mixture.shares()
        shares = {name: np.asarray(share)[:, None] for name, share in zip(named, shares, strict=True)}
        draw_alphas(shares, ["β"], workdir / "betas.png", edges, label="share", order=order)
    draw_genotype(found, workdir / "cells.svg")
    if search.start is not None:
        distances = read_column(workdir / "history.csv", "distance")
        draw_distance(distances, workdir / "distance.png", search.method.pretrain_epochs, stopped)

from kdarts.search.methods import dartopti, darts, ddarts, fairdarts, pdarts  # noqa: F401

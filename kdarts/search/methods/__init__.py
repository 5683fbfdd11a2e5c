from kdarts.search.methods import dartopti, darts, ddarts, fairdarts  # noqa: F401

from kdarts.search.methods import dartopti, darts, ddarts, fairdarts, pcdarts  # noqa: F401

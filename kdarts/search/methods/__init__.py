from kdarts.search.methods import darts, ddarts, fairdarts  # noqa: F401

from kdarts.search.methods import darts  # noqa: F401

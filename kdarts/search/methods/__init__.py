from kdarts.search.methods import dartopti, darts, dartspd, ddarts, fairdarts  # noqa: F401

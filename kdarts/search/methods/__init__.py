from kdarts.search.methods import (  # noqa: F401
    beta_darts,
    dartopti,
    darts,
    darts_minus,
    darts_plus,
    ddarts,
    fairdarts,
    gdas,
    i_darts,
    pcdarts,
    pdarts,
    random,
)

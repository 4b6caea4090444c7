from tiercel.sampling_params import PoolingParams  # noqa: F401

from tiercel.sampling_params import *  # noqa: F401,F403

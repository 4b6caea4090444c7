from tiercel.outputs import *  # noqa: F401,F403

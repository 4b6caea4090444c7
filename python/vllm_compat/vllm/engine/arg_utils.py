from tiercel import AsyncEngineArgs, EngineArgs  # noqa: F401

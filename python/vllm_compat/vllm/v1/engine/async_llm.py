from tiercel import AsyncLLM  # noqa: F401

from tiercel import AsyncLLMEngine  # noqa: F401

from tiercel import LLM  # noqa: F401

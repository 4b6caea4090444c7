from tiercel.prompts import PromptType, TextPrompt, TokensPrompt  # noqa: F401

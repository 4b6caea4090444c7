def get_tokenizer(tokenizer_name, *args, tokenizer_mode="auto", **kwargs):
    """Hugging Face's tokenizer of a model, for which `transformers` must be installed; LLM.get_tokenizer() needs nothing."""
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(tokenizer_name, *args, use_fast=tokenizer_mode != "slow", **kwargs)

class LoRARequest:
    """Adapters are not served: a script that asks for one is told so here."""

    def __init__(self, *args, **kwargs) -> None:
        raise ValueError("LoRA adapters are not supported")

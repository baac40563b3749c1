"""lplan: the memory-budget planner and auto-configurator for LoRA fine-tuning."""


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("lplan")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The commands of ``nnbits``, one module each: a Python function that does the work, and one that prints its result."""

__all__: list[str] = []

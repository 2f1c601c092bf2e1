"""Arguments of the commands, one module for each group; the work is in :mod:`nnbits.tools.commands`."""

__all__: list[str] = []

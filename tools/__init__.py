"""What users run: the command line, its commands, and the methods that turn a model into an encode plan."""

__all__: list[str] = []

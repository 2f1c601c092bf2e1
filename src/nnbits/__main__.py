"""``nnbits`` and ``python -m nnbits``: the command line."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command of ``sys.argv``."""
    try:
        from nnbits.tools.cli import main as run
    except KeyboardInterrupt:  # before there is anything that could deal with it
        sys.stderr.write("nnbits: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()

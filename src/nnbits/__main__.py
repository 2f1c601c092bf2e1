"""``python -m nnbits`` is the command line."""

from nnbits.tools.cli import main

if __name__ == "__main__":
    main()

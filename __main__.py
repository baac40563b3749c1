"""`python -m lplan`: the same command as the `lplan` script."""

from lplan.cli import main

if __name__ == "__main__":
    main()

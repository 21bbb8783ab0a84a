"""`python -m flyback`: the same as the console script."""

from flyback.cli.entry import main

if __name__ == "__main__":
    main()

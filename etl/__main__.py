"""`python -m etl` is `etl`."""

from etl.cli.app import main

if __name__ == "__main__":
    main()

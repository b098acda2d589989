"""`python -m lading`: the command line, where it is not installed as `lading`."""

from lading.cli import main

if __name__ == "__main__":
    main()

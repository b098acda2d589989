"""The command line `lading`: each command is a thin face of a verb of lading.Client.

Results go to stdout, words about them to stderr. Exit: 0 ok, 1 the job failed or was cancelled,
2 the request cannot be done as it was made, 3 no server could be reached.
"""

import sys


def main() -> None:
    """Run the command line, and end the process."""
    from lading.cli.app import run  # noqa: PLC0415 - `import lading.cli` costs nothing

    sys.exit(run(sys.argv[1:]))

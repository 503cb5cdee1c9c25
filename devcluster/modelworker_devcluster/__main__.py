"""`python -m modelworker_devcluster`: see `--help`."""

import sys

from modelworker_devcluster.cli import main

if __name__ == "__main__":
    sys.exit(main())

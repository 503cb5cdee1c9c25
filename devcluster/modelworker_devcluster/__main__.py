"""`python -m modelworker_devcluster`: see `--help`."""

import signal
import sys

from modelworker_devcluster.cli import main

if __name__ == "__main__":
    # An exception, so that whatever runs is ended on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())

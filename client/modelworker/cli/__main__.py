"""`python -m modelworker.cli`, the same as `kubectl modelworker`."""

import sys

from modelworker.cli import main

sys.exit(main())

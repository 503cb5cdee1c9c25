"""Memory of an operator with 500 converged objects, and what it writes while all is at rest.

Goals: under 128 MiB, and 0 writes. The baseline is the same operator without objects.
"""

import sys
import time

from _cluster import Audit, Operator, control_plane, create_converged, until
from _common import quick, report


def main() -> None:
    is_quick = quick(__doc__)
    number, rest = (50, 10) if is_quick else (500, 60)
    with control_plane() as cluster:
        operator = Operator(cluster)
        until(operator.leads, timeout=60, what="leading operator")
        time.sleep(2)
        baseline = operator.rss_mib()
        create_converged(operator, number)
        grown = operator.rss_mib()
        operator.stop()
        operator = Operator(cluster)  # The usual state: started when the objects are there.
        until(operator.leads, timeout=120, what="leading operator")
        time.sleep(5)
        print(f"resting for {rest} s", file=sys.stderr)
        audit = Audit(cluster)
        time.sleep(rest)
        writes, restarted = audit.writes(), operator.rss_mib()
        operator.stop()
    value = max(grown, restarted)
    report(
        [
            (f"{number} objects, that it brought up itself", grown),
            (f"{number} objects, found at its start", restarted),
            ("no objects", baseline),
        ],
        bench="operator_memory",
        value=value,
        unit="MiB",
        baseline=baseline,
        ratio=value / baseline,
        goal=128,
        objects=number,
        rest_seconds=rest,
        writes_at_rest=writes,
    )


if __name__ == "__main__":
    main()

"""Stand-in for the registry of golden traces, until that is merged."""

TRACES = {}


def trace(part, tolerance=1e-9):
    return lambda make: TRACES.setdefault(part, (make, tolerance))[0]

"""Record the behaviour of parts anew: `python -m tests.golden [PART...]`; without a part, of all that moved."""

import sys

from ilbook.errors import UserError
from ilbook.page import versions
from tests.golden import registry


def main(names: list[str]) -> int:
    """Say for each part what moved, from where to where, and record it; returns the exit status."""
    parts = registry.chosen(names)
    changed = 0
    for part in parts:
        try:
            before = versions.read_golden(part)["version"]
        except UserError:
            before = "none"
        words = registry.record(part)
        now = versions.read_golden(part)["version"]
        print(f"{part}: {before} -> {now}" if words else f"{part}: unchanged ({now})", flush=True)
        for line in words:
            print(f"  {line}")
        changed += bool(words)
    after = "; results that used them are stale now, ilbook claims --check lists them" if changed else ""
    print(f"{len(parts)} parts, {changed} recorded anew{after}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"golden: {error}", file=sys.stderr)
        sys.exit(2)

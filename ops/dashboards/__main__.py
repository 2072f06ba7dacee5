"""Write the dashboards and the recording rules to their places in this checkout."""

from __future__ import annotations

from ops.dashboards.made import write

if __name__ == "__main__":
    for path in write():
        print(path)

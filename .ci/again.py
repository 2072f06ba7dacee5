"""What failed in a whole run of tests is tried once more, alone, and named.

Limits of time mean little on a machine that is busy with something else. More than a few failures are no noise.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTED = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
LIMIT = 5

noted = list(json.loads(NOTED.read_text(encoding="utf-8"))) if NOTED.exists() else []
# A test of a group is noted with the group's name behind an '@'.
failed = [name[: at if (at := name.rfind("@")) > name.rfind("]") else None] for name in noted]
if not 1 <= len(failed) <= LIMIT:
    print(f"tests: {len(failed)} failures are noted; only 1 to {LIMIT} are tried again")
    sys.exit(1)
print("tests: NOTE: failed in the whole run, and tried once more, alone:", *failed, sep="\ntests:   ", flush=True)
sys.exit(subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "0", *failed], cwd=ROOT, check=False).returncode)

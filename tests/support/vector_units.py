"""What a script prints where numpy does without some of this processor's vector units, as on an older one."""

import os
import subprocess
import sys

WITHOUT = ("", "AVX512_ICL X86_V4", "AVX512_ICL X86_V4 X86_V3")
"""Units that are left out, as numpy calls them."""
_BEFORE_X86_V3 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX2 FMA3"
"""The same by the names of older numpy."""


def printed_without(units: str, script: str) -> str:
    """Run a script in a process of its own, without these units, and return what it prints, stripped."""
    older = _BEFORE_X86_V3 if "X86_V3" in units else ""
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": f"{units} {older}".strip()}
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return told.stdout.strip()

"""How many examples a property-based test tries: few while writing, many in `make faults`.

HYPOTHESIS_PROFILE selects the profile: `quick` (the default) or `thorough`.
"""

from __future__ import annotations

import os
from typing import Final

import hypothesis

_QUICK_SHARE: Final = 4
_THOROUGH_EXAMPLES: Final = 200
IS_THOROUGH: Final = os.environ.get("HYPOTHESIS_PROFILE", "quick") == "thorough"


def examples(thorough: int) -> int:
    """The number of examples in the current profile, for a test that needs its own number."""
    return thorough if IS_THOROUGH else max(1, thorough // _QUICK_SHARE)


def load_profile() -> None:
    """Apply the profile to all tests of this process.

    Tests do not assert speed, so an example has no deadline and may be slow once.
    """
    profile = "thorough" if IS_THOROUGH else "quick"
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        max_examples=_THOROUGH_EXAMPLES if IS_THOROUGH else _THOROUGH_EXAMPLES // 8,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile(profile)

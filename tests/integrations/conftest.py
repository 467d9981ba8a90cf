"""Clients and frameworks of others, unmodified, with a running service: make test-integrations.

They run as programs in an environment of their own, so that what they require never meets what the
service requires. Without that environment their tests are not collected.
"""

from __future__ import annotations

import os

# The folder that tools/integrations.sh fills.
ENVIRONMENT = os.environ.get("MEMORY_INTEGRATIONS")
collect_ignore = [] if ENVIRONMENT else ["test_mem0_clients.py", "test_multilingual_model.py"]

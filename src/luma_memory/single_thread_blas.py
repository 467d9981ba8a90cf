"""Importing this, before numpy, keeps BLAS to the calling thread.

OpenBLAS starts a thread a core, which spin beside PostgreSQL and the embedding model; what is
multiplied here is too small to gain by them. A number that the operator set stays.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

"""Importing this, before numpy, keeps BLAS to the calling thread.

OpenBLAS starts a thread per core, which compete with PostgreSQL and the embedding model; the
products here are too small to benefit. A number of threads set by the operator is kept.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

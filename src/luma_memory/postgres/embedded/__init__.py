"""The embedded PostgreSQL, used when no `DATABASE_URL` is set.

One data directory is one server, shared by every process that constructs `EmbeddedPostgres` on it.
No process id is trusted. Ownership is recorded by flock on files, which the kernel releases
however a process ends:

| file       | held by                                    | held means                    |
|------------|--------------------------------------------|-------------------------------|
| `.lock`    | the process that starts or stops, `initdb` | wait, something is changing   |
| `.holders` | each process between `start` and `stop`    | the server is in use          |
| `.up`      | the one with `exclusive=True`              | no second `luma-memory up`    |
| `.server`  | the postmaster and all processes it forked | the server or a part runs   |

States and how each one ends:
- no cluster: `initdb` works in a sibling folder that is renamed when finished, so `postgres/` is
  complete or absent. The rest of an interrupted `initdb` never contained a block and is removed.
- cluster, `.server` free: nothing runs. A `postmaster.pid` found now is stale, whatever process
  has its number today; PostgreSQL would refuse to start over it, so it is removed.
- `.server` held, socket answers: attach.
- `.server` held, socket silent: starting, stopping or dying; wait until it responds or ends.
- the last holder leaves: it finds `.holders` free and stops the server. A holder that was killed
  leaves the server running; the next one attaches and stops it when it leaves.

The locks need a local disk, as PostgreSQL does.
"""

from luma_memory.postgres.embedded.lifecycle import (
    EmbeddedPostgres,
    server_runs,
)

__all__ = ["EmbeddedPostgres", "server_runs"]

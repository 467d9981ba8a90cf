"""Server settings of the embedded default: a small machine, one application, durable writes.

They are given on the command line at every start, so that a data directory created by an older
release gets the current ones. For other settings, run your own server and set `DATABASE_URL`.
"""

from __future__ import annotations

from pathlib import Path

from luma_memory.postgres.embedded.layout import PORT

_ALWAYS = {
    # No TCP: access is controlled by the socket's folder.
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    # API, workers and command line have small pools each; a hundred idle connections cost little.
    "max_connections": "100",
    # Enough for the narrow rows that search scans of active users; memory is allocated on first
    # use.
    "shared_buffers": "128MB",
    # Statements here take milliseconds: compiling them or starting parallel workers costs more.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # A parallel index build needs its memory in /dev/shm, which has 64 MB in a usual container.
    "max_parallel_maintenance_workers": "0",
    # Crash recovery needs no more than minimal WAL. There is no replica, no archive and no logical
    # decoding, and this level requires zero WAL senders.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    # Limits the disk space of the WAL and the duration of a recovery.
    "max_wal_size": "512MB",
    "timezone": "UTC",
    # The log contains server events and no contents of statements: errors of statements,
    # details (values of rows) and statement texts stay out; the service reports its own errors.
    "log_timezone": "UTC",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length_on_error": "0",
    # Routine lines would make the log grow for as long as the server runs.
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
    "log_line_prefix": "%m [%p] ",
    "logging_collector": "off",
    "log_destination": "stderr",
}

# A response "accepted" means that the block is on disk, even if the machine fails right after.
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
# For temporary clusters: commits survive a killed server, but not a machine failure.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}


def server_arguments(socket_folder: Path, *, durable: bool) -> list[str]:
    """The settings as arguments of `postgres`.

    socket_folder: must not need quoting in a list, which `choose_socket_folder` ensures.
    """
    settings = _ALWAYS | (_DURABLE if durable else _NOT_DURABLE)
    settings["unix_socket_directories"] = f'"{socket_folder}"'
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

"""Translate the driver's errors to the service's, each with its fix.

No message carries a value of a statement, a row or a password.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from luma_memory.domain.errors import (
    InvariantError,
    PartitionMismatch,
    SetupError,
    StoreContended,
    StoreUnavailable,
)

# Of memory_users in a partition: which users it may hold.
PARTITION_CONSTRAINT: Final = "memory_users_partition"
# Raised by triggers while users are moved between partitions.
USER_ELSEWHERE: Final = "LM001"
# The server did not respond. Includes the timeout of a pool without a free connection.
NO_RESPONSE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # A connection that broke in the middle of a statement and is used again before this is
    # detected.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
# All temporary failures, including server errors such as too many connections or a full disk.
UNAVAILABLE = (
    *NO_RESPONSE,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby during a failover
)
# The schema lacks tables, functions or columns that statements use.
_SCHEMA = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise the driver's errors as the service's, cause attached."""
    try:
        yield
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.InsufficientPrivilegeError,
        *_SCHEMA,
    ) as error:
        raise SetupError(_remedy(error), code="database_setup") from error
    except asyncpg.ClientConfigurationError as error:
        raise SetupError(
            "The PostgreSQL driver cannot use DATABASE_URL, or a PG… variable of the environment:"
            " check the parameters behind its ? and the files they name",
            code="database_setup",
        ) from error
    except asyncpg.CheckViolationError as error:
        if error.constraint_name == PARTITION_CONSTRAINT:
            raise PartitionMismatch(
                "This user is in another partition than this process knows: restart it if this"
                " continues"
            ) from error
        raise InvariantError(f"PostgreSQL error {error.sqlstate}") from error
    except asyncpg.LockNotAvailableError as error:
        raise StoreContended("A row stayed locked by another statement") from error
    except UNAVAILABLE as error:
        if isinstance(error, asyncpg.InterfaceError) and not _is_about_connection(error):
            raise InvariantError(f"a statement was misused ({type(error).__name__})") from error
        if isinstance(error, socket.gaierror):
            raise StoreUnavailable(
                "The host of DATABASE_URL cannot be found by its name"
            ) from error
        raise StoreUnavailable(f"PostgreSQL does not respond ({type(error).__name__})") from error
    except asyncpg.PostgresError as error:
        if error.sqlstate == USER_ELSEWHERE:
            raise PartitionMismatch(
                "This user is being moved to another partition: restart this process if this"
                " continues"
            ) from error
        raise InvariantError(f"PostgreSQL error {error.sqlstate}") from error


@contextmanager
def connecting() -> Iterator[None]:
    """Errors that only a connection attempt raises, inside `translated`.

    Parameters of the address unknown to the driver are sent to the server as settings.
    """
    try:
        yield
    except (
        asyncpg.UndefinedObjectError,
        asyncpg.CantChangeRuntimeParamError,
        asyncpg.InvalidParameterValueError,
        asyncpg.PostgresSyntaxError,
    ) as error:
        raise SetupError(
            f"PostgreSQL refuses the parameters of DATABASE_URL ({type(error).__name__}): its query"
            " string must contain parameters of the connection or settings of the server",
            code="database_setup",
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise SetupError(
            f"PostgreSQL's certificate is not accepted ({error.verify_message}): check the host of"
            " DATABASE_URL, and its sslrootcert",
            code="database_setup",
        ) from error
    except ssl.SSLError as error:
        raise SetupError(
            f"No TLS connection to PostgreSQL ({error.reason}): check the ssl… parameters of"
            " DATABASE_URL",
            code="database_setup",
        ) from error
    except ConnectionError as error:
        if "rejected SSL upgrade" not in str(error):
            raise
        raise SetupError(
            "PostgreSQL offers no TLS, which sslmode of DATABASE_URL requires: turn on ssl at the"
            " server, or choose sslmode=prefer or disable where the network is trusted",
            code="database_setup",
        ) from error


def _remedy(error: asyncpg.PostgresError) -> str:
    # Messages of these classes name only users, databases, relations and functions.
    message = str(error.args[0])
    match error:
        case asyncpg.InvalidPasswordError():
            return (
                "PostgreSQL refuses the password of DATABASE_URL, or does not know its user: check"
                " both (in a password the signs / # ? @ : are written %2F %23 %3F %40 %3A)"
            )
        case asyncpg.InvalidAuthorizationSpecificationError():
            hint = (
                "; over a connection with TLS it may: set sslmode=require"
                if "no encryption" in message or "SSL off" in message
                else ""
            )
            return (
                f"PostgreSQL does not admit the user of DATABASE_URL ({type(error).__name__}):"
                f" check the user, and the server's pg_hba.conf{hint}"
            )
        case asyncpg.InvalidCatalogNameError():
            return (
                "The database that DATABASE_URL names does not exist: check the name behind the"
                " host, or create the database"
            )
        case asyncpg.InsufficientPrivilegeError():
            return (
                f"PostgreSQL refuses ({message}): grant the user of DATABASE_URL what it needs, as"
                " docs/security.md describes for a role that does not own the tables"
            )
        case _:
            return (
                f"The database lacks what this version needs ({type(error).__name__}): run"
                " `luma-memory migrate`, and check the database and the search_path of DATABASE_URL"
            )


def _is_about_connection(error: asyncpg.InterfaceError) -> bool:
    # The driver has one class for a closed connection and for a wrong number of arguments.
    return any(word in str(error) for word in ("clos", "terminat", "released", "shut"))

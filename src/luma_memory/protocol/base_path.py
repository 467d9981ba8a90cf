"""The API's path below the service's address."""

from typing import Final

BASE_PATH: Final = "/api/v1/memory"

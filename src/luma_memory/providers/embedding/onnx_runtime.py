"""onnxruntime without its telemetry; nothing else imports it.

Its Linux wheels hold Microsoft's telemetry client, enabled by default: importing the library
creates an identifier of the device and a queue of events in the user's cache folder (seen with
1.32), and the queue is sent to its maker by HTTPS. A service that stores people's memories must not
report to third parties.

`disable_telemetry_events` alone comes too late: by then the files exist. So the variable is set
before the import.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

onnxruntime.disable_telemetry_events()

VERSION: str = onnxruntime.__version__
InferenceSession = onnxruntime.InferenceSession
SessionOptions = onnxruntime.SessionOptions

__all__ = ["VERSION", "InferenceSession", "SessionOptions"]

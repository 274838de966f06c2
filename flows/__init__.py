"""Run it on a cluster: Prefect and Ray live in this room alone."""

import os

# Ray 2.60 gives even a local head the machine's outward address, and its servers listen on every interface. This
# variable, which Ray reads as it is imported, keeps a Ray of our own on loopback; a cluster that is joined has its own.
if os.environ.get("RAY_ADDRESS", "local") in ("", "local"):
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

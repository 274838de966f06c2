"""How is the work started, scheduled and spread over machines? The commands, and all that imports Prefect or Ray."""

import os

# Ray 2.60 gives even a local head node the external address of the machine, and its servers listen on all interfaces.
# This variable, which Ray reads on import, restricts a Ray that Winnow starts to loopback. A cluster that is joined has
# its own setting.
if os.environ.get("RAY_ADDRESS", "local") in ("", "local"):
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

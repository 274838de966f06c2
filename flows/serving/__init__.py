"""How is a model served over HTTP? `api` has the protocol, `engine` the thread that generates, `server` the process."""

"""What can a user do on the command line? `main` has the entry point and the exit codes."""

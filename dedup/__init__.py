"""Which texts are the same, exactly or nearly? Arrays in, arrays out: no files, no processes."""

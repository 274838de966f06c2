"""What can be done with rows in memory, without a root? `import winnow` shows these functions."""

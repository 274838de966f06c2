"""How good is a record? Measures of single records; a cut at a measure is the stage `score`."""

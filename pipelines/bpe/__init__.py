"""How does text become tokens? Byte-level BPE: texts to words, words to ids, and counted words to merges.

Arrays in, arrays out; no files. `pipelines.steps` reads and writes them.
"""

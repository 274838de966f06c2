"""How do the bytes of a file become rows, without losing one?"""

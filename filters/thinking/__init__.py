"""Which part of a response is reasoning, and what is left when it is taken out?"""

"""Which benchmark items does a text contain, and what kind of match is each?"""

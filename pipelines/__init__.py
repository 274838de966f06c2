"""How do rows get from sources to packed tokens, with every row accounted for?"""

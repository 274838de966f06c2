"""What is done to a recipe's rows on their way from sources to packs? One step per file."""

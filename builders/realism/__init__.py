"""Realism and hardness: do the generated texts differ from the corpus, and how hard are the negatives of each kind?"""

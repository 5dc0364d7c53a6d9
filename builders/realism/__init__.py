"""Realism and hardness: can what the LLM wrote be told from the corpus, and how hard are the negatives of each kind?"""

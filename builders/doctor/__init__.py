"""The endpoint doctor: tries what a build will ask of its LLM, and advises settings; `examine` is the way in."""

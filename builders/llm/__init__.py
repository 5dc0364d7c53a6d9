"""The LLM client: endpoints, the calling loop, the call store, and what it all costs; `chat.Llm` is the way in."""

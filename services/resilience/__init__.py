"""When to try again, when to leave an engine alone, when to ask another. Pure: the time is an argument."""

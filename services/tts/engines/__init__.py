"""One file per engine; its SDK is imported only there, and only when the engine is asked for."""

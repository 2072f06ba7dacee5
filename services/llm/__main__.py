"""``python -m services.llm``."""

from services.llm.worker import main

if __name__ == "__main__":
    main()

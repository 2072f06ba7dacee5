"""Speech to text and turn taking: the caller's audio in, transcripts and turns out."""

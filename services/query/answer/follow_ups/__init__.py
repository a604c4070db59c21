"""What a follow-up question leaves out is taken over from the questions before it, by rules."""

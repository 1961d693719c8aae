"""Who is learnt from, who is chosen by, who is judged on; never the same person twice."""

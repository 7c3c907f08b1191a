"""The blind study's facts and rules, pure: trials, schedule, votes and what follows from them."""

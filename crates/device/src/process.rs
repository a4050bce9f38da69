//! Processes by pidfd: who called, and what code runs there. Not the policy about it.

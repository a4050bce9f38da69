//! For tests only: clock, CA, swtpm and PostgreSQL starters.

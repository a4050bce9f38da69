//! Everything declared: identities, resources, policies; decide, explain, search, diff.

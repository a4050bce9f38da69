//! SPIFFE IDs, SVIDs, bundles and the receipt extension: parse, build, validate.

//! The authority: issuance, rotation, bundles, revocation.

//! Merkle math, tiles, notes, checkpoints, receipts and record schemas; no I/O.

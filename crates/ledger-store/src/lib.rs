//! Segments, sequencing, tiles and blobs on disk.

//! The server plane.

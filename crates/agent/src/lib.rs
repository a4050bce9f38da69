//! The node agent plane.

//! The PostgreSQL gateway.

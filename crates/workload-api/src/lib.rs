//! SPIFFE Workload API over a Unix socket.

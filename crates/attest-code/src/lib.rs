//! What a workload runs: process facts judged.

//! The machine side: TPM transport and commands, processes by pidfd.

//! The TPM 2.0 of this machine: transport and commands. Judges nothing of what the chip says.

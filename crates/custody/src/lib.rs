//! Where keys live: implementations of the key-custody trait.

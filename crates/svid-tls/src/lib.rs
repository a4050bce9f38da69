//! rustls configurations that authenticate by SVID.

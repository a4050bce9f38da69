//! Channel binding by the TLS exporter (RFC 8446, section 7.5; RFC 9266 for the idea): a value that
//! only the two ends of one connection know, to be signed into what must not be carried to another.

use crate::Error;
use rustls::ConnectionCommon;

/// Registered nowhere; "EXPORTER-" and a name of our own.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-trilith-channel-binding-v1";

/// 32 bytes that differ for every connection, the same at both ends. `connection` is that of either
/// side, after the handshake.
///
/// # Errors
/// [`Error::Exporter`] before the handshake is finished.
pub fn channel_binding<Data>(connection: &ConnectionCommon<Data>) -> Result<[u8; 32], Error> {
    connection
        .export_keying_material([0; 32], EXPORTER_LABEL, None)
        .map_err(Error::Exporter)
}

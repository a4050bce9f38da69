//! Encryption of what is kept.

use crypto::{SecretBytes, aead};

#[test]
fn what_was_encrypted_opens_with_the_same_key_and_binding_and_whole() {
    let key = SecretBytes::new(vec![7; aead::KEY]);
    let message = aead::encrypt(&key, b"node", b"secret").unwrap();
    let opened = aead::decrypt(&key, b"node", &message).unwrap();
    assert_eq!(opened.expose(), b"secret");
    assert_ne!(message, aead::encrypt(&key, b"node", b"secret").unwrap());
    assert!(aead::decrypt(&key, b"other", &message).is_err());
    let other = SecretBytes::new(vec![8; aead::KEY]);
    assert!(aead::decrypt(&other, b"node", &message).is_err());
    for at in 0..message.len() {
        let mut changed = message.clone();
        changed[at] ^= 1;
        assert!(aead::decrypt(&key, b"node", &changed).is_err(), "byte {at}");
        assert!(
            aead::decrypt(&key, b"node", &message[..at]).is_err(),
            "cut at {at}"
        );
    }
    assert!(aead::encrypt(&SecretBytes::new(vec![7; 16]), b"", b"").is_err());
}

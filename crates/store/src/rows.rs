//! The rows. Every one follows from records and blobs alone; times are Unix milliseconds, digests
//! and serials lower-case hex, indices those of the server's ledger.

use crate::table::table;

table! {
    /// A word about the whole: `trust_domain`, `applied`, `clock`.
    MetaRow in "meta" {
        key: String,
        value: String,
    }
}

table! {
    /// A machine that has joined.
    NodeRow in "node" {
        name: String,
        /// Counts renewals; a copied state directory presents one that has passed.
        generation: u64,
        /// SHA-256 of the last renewal's id: the same request gets the same answer.
        renewal: Option<String>,
        /// Index of the verdict that its facts come from.
        verdict: u64,
        /// Wall time of that verdict's evidence.
        evidence_time: u64,
        /// Digest of the blob with the facts.
        facts: String,
        /// SHA-256 of the public key that its SVID certifies; absent until it has one.
        key: Option<String>,
        /// Why it is locked; absent when it is not.
        locked: Option<String>,
        /// Index of the lock record.
        locked_at: Option<u64>,
        /// Index of a readmission since which nobody has renewed: whoever renews next goes on.
        readmitted: Option<u64>,
        /// States of this generation and of those before it are dead: the last readmission found them.
        dead: Option<u64>,
        /// Index of the last readmission: an SVID that was issued before it is good for a renewal only.
        dead_before: Option<u64>,
        /// Index of the record that its generation and key come from.
        stated: Option<u64>,
    }
}

table! {
    /// A join token, by the SHA-256 of its bytes. It is gone once its time is over.
    TokenRow in "token" {
        hash: String,
        node: String,
        pool: String,
        expires: u64,
        created: u64,
        spent: Option<u64>,
        /// SHA-256 of the public key that it was spent for: the same request gets the same answer.
        key: Option<String>,
    }
}

table! {
    /// An SVID that has not expired, by the index of its issuance record.
    SvidRow in "svid" {
        index: u64,
        serial: String,
        spiffe_id: String,
        /// `x509` or `jwt`.
        kind: String,
        node: String,
        /// SHA-256 of the subject's public key.
        key: String,
        not_before: u64,
        not_after: u64,
        /// Index of the estate version that granted it; absent for the plane's own.
        estate: Option<u64>,
    }
}

table! {
    /// A delegation that has not ended, by the index of its record.
    DelegationRow in "delegation" {
        index: u64,
        jti: String,
        /// SPIFFE IDs, who began it first, whom it lets act last.
        chain: Vec<String>,
        /// `jti` of each that it rests on, the first first.
        rests_on: Vec<String>,
        /// What it was narrowed to, or whether it was: JSON, `null` for any.
        actions: String,
        resources: String,
        /// Machine of the SVID by which it was asked for; empty of a person's own.
        node: String,
        not_before: u64,
        not_after: u64,
    }
}

table! {
    /// A revocation that still matters, by the index of its record.
    RevocationRow in "revocation" {
        index: u64,
        /// `identity`, `serial` or `machine`.
        kind: String,
        value: String,
        reason: String,
        by: String,
    }
}

table! {
    /// A version of the estate; the one with the highest index is current.
    EstateRow in "estate" {
        index: u64,
        version: String,
        blob: String,
        blob_length: u64,
        parent: Option<String>,
        author: String,
        message: String,
        /// Index of the proof record.
        proof: Option<u64>,
        /// SVIDs issued under an estate index below are refused by gateways.
        floor: u64,
        time: u64,
    }
}

table! {
    /// A published trust bundle, by its sequence number.
    BundleRow in "bundle" {
        sequence: u64,
        index: u64,
        /// Base64 of DER certificates.
        x509_authorities: Vec<String>,
        /// `kid spki-base64`.
        jwt_authorities: Vec<String>,
        /// Digest of the authority's document.
        blob: Option<String>,
    }
}

table! {
    /// A gateway's ledger as far as it is anchored here.
    GatewayRow in "gateway" {
        origin: String,
        /// SPIFFE ID of the gateway.
        gateway: String,
        /// Base64 of the SPKI of the key that signs its ledger.
        ledger_key: String,
        size: u64,
        root: String,
        checkpoint: String,
        /// Index of the anchor record.
        anchor: u64,
    }
}

//! Which machine a cloud certified an attestation key for.

use facts::{FactSet, Finding, Source, Timestamp, names};
use x509_parser::asn1_rs::{Any, FromDer as _, Integer, Oid, Sequence, Utf8String, oid};
use x509_parser::certificate::X509Certificate;

/// Google's: zone, project's number and id, instance's id and name.
pub(super) const GOOGLE: Oid<'static> = oid!(1.3.6.1.4.1.11129.2.1.21);
/// Names of clouds' things have at most 63 characters, ids of projects a domain's before them.
const LONGEST: usize = 256;

/// A machine of Google's cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub zone: String,
    pub project_number: u64,
    pub project: String,
    /// Never given to another machine.
    pub id: u64,
    /// The owner's choice, and free again once the machine is gone.
    pub name: String,
}

impl Instance {
    /// What the certificate says, if it says anything.
    ///
    /// # Errors
    /// `TPM-AK-CERT-INSTANCE` if it does so in another form, or twice.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Result<Option<Self>, Finding> {
        let mut said = certificate
            .extensions()
            .iter()
            .filter(|one| one.oid == GOOGLE);
        let Some(extension) = said.next() else {
            return Ok(None);
        };
        read(extension.value)
            .filter(|_| said.next().is_none())
            .map(Some)
            .ok_or_else(|| {
                Finding::new(
                    "TPM-AK-CERT-INSTANCE",
                    "the attestation key's certificate names a machine in a form that is not known",
                )
                .expected("zone, project's number and id, instance's id and name, once")
                .next("pin the key instead, and report its issuer")
            })
    }

    pub(crate) fn state(&self, facts: &mut FactSet, source: Source, now: Timestamp) {
        let (project, id) = (self.project_number.to_string(), self.id.to_string());
        for (name, value) in [
            (names::MACHINE_CLOUD_PROVIDER, "google"),
            (names::MACHINE_CLOUD_ZONE, self.zone.as_str()),
            (names::MACHINE_CLOUD_PROJECT, self.project.as_str()),
            (names::MACHINE_CLOUD_PROJECT_NUMBER, project.as_str()),
            (names::MACHINE_CLOUD_INSTANCE_ID, id.as_str()),
            (names::MACHINE_CLOUD_INSTANCE, self.name.as_str()),
        ] {
            facts.state(name, value, source, now);
        }
    }
}

fn read(der: &[u8]) -> Option<Instance> {
    let (rest, whole) = Sequence::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let (rest, zone) = Utf8String::from_der(whole.content.as_ref()).ok()?;
    let (rest, project_number) = Integer::from_der(rest).ok()?;
    let (rest, project) = Utf8String::from_der(rest).ok()?;
    let (rest, id) = Integer::from_der(rest).ok()?;
    let (rest, name) = Utf8String::from_der(rest).ok()?;
    // Security properties may follow, in a tag of their own; they are the host's words about itself.
    if !rest.is_empty() {
        let (rest, _) = Any::from_der(rest).ok()?;
        if !rest.is_empty() {
            return None;
        }
    }
    let text = |text: Utf8String<'_>| {
        let text = text.string();
        (!text.is_empty() && text.len() <= LONGEST && text.is_ascii()).then_some(text)
    };
    // Written as signed numbers of 64 bits.
    let number = |number: &Integer<'_>| number.as_i64().ok().map(i64::cast_unsigned);
    Some(Instance {
        zone: text(zone)?,
        project_number: number(&project_number)?,
        project: text(project)?,
        id: number(&id)?,
        name: text(name)?,
    })
}

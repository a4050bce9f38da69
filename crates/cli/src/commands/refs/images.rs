//! `refs import uki`, `kernel`, `uefi` and `slsa`.

use super::{file_name, read, variables, write};
use crate::Failure;
use crate::arguments::{
    Global, KernelArguments, PhaseArgument, SlsaArguments, UefiArguments, UkiArguments,
};
use crypto::PublicKey;
use facts::Finding;
use references::boot::Phase;
use references::{Digest, import, slsa as provenance};
use std::path::Path;

pub(super) fn uki(arguments: &UkiArguments, global: &Global) -> Result<(), Failure> {
    let known = arguments.uefi.as_deref().map(variables).transpose()?;
    let phase = match arguments.phase {
        PhaseArgument::Stub => Phase::Stub,
        PhaseArgument::EnterInitrd => Phase::EnterInitrd,
        PhaseArgument::LeaveInitrd => Phase::LeaveInitrd,
        PhaseArgument::Sysinit => Phase::Sysinit,
        PhaseArgument::Ready => Phase::Ready,
    };
    let (mut sources, mut artefacts) = (Vec::new(), Vec::new());
    let loader = loader(arguments.loader.as_deref())?;
    let loader = loader.as_ref();
    let loader = loader.map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    for path in &arguments.images {
        let name = file_name(path);
        let (source, artefact) = import::uki(&name, &read(path)?, known.as_ref(), phase, loader)?;
        sources.push(source);
        artefacts.push(artefact);
    }
    write(&arguments.generation, sources, artefacts, global)
}

/// A boot loader's name and bytes.
fn loader(path: Option<&Path>) -> Result<Option<(String, Vec<u8>)>, Failure> {
    let Some(path) = path else { return Ok(None) };
    Ok(Some((file_name(path), read(path)?)))
}

pub(super) fn kernel(arguments: &KernelArguments, global: &Global) -> Result<(), Failure> {
    let known = arguments.uefi.as_deref().map(variables).transpose()?;
    let (image, loader) = (
        read(&arguments.kernel)?,
        loader(arguments.loader.as_deref())?,
    );
    let mut initrds = Vec::new();
    for path in &arguments.initrds {
        initrds.push((file_name(path), read(path)?));
    }
    let initrds: Vec<(&str, Vec<u8>)> = initrds
        .iter_mut()
        .map(|(name, bytes)| (name.as_str(), std::mem::take(bytes)))
        .collect();
    let loader = loader.as_ref();
    let kernel = import::Kernel {
        name: &file_name(&arguments.kernel),
        image: &image,
        cmdline: &arguments.cmdline,
        initrds: &initrds,
        loader: loader.map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
    };
    let (source, artefact) = import::kernel(&kernel, known.as_ref())?;
    write(&arguments.generation, vec![source], vec![artefact], global)
}

pub(super) fn uefi(arguments: &UefiArguments, global: &Global) -> Result<(), Failure> {
    let known = variables(&arguments.variables)?;
    let first = (file_name(&arguments.image), read(&arguments.image)?);
    let then = match &arguments.then {
        Some(path) => Some((file_name(path), read(path)?)),
        None => None,
    };
    let then = then
        .as_ref()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let name = file_name(&arguments.variables);
    let (source, artefact) = import::uefi(&name, &known, (&first.0, &first.1), then)?;
    write(&arguments.generation, vec![source], vec![artefact], global)
}

pub(super) fn slsa(arguments: &SlsaArguments, global: &Global) -> Result<(), Failure> {
    let mut keys = Vec::new();
    for path in &arguments.keys {
        keys.push(public_key(path)?);
    }
    let envelope = read(&arguments.provenance)?;
    let statement = provenance::verify(&envelope, &keys)?;
    let name = file_name(&arguments.provenance);
    let (source, artefacts) = import::subjects(&name, Digest::of(&envelope), &statement);
    write(&arguments.generation, vec![source], artefacts, global)
}

fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    let bytes = read(path)?;
    let key = std::str::from_utf8(&bytes).ok().and_then(|text| {
        let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
        let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
        let body: String = body.split_whitespace().collect();
        PublicKey::from_spki_der(&crypto::base64::decode(&body).ok()?).ok()
    });
    key.ok_or_else(|| {
        Finding::new(
            "REF-KEY-FILE",
            format!("{} is no public key that signs provenance", path.display()),
        )
        .expected("PEM (`BEGIN PUBLIC KEY`): P-256, P-384, Ed25519 or RSA")
        .next("the builder's own key, or of a certificate: openssl x509 -in CERT.pem -pubkey -noout > KEY.pem")
        .into()
    })
}

//! Commands that allow what was refused. They run as printed where the machine's own files are, in a folder
//! beside the estate's; nothing here runs them.

use crate::listed::Listed;
use crate::presented::Asked;
use crate::refusal::{Seen, Subject};
use crate::view::View;
use attest_tpm::boot::{Loader, Meaning, Note};
use facts::Timestamp;
use references::{ArtefactKind, Lapse, ReferenceFile, moment};

/// For how long what had ended is good again.
const GRACE_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// How the folders of commands are called.
#[derive(Debug, Clone, Copy)]
pub struct Printed<'a> {
    /// The estate's folder, as the one who reads has it.
    pub estate: &'a str,
    /// Path within the estate, and text, of its files: which one holds a generation.
    pub files: &'a [(String, String)],
}

/// The commands, and what is to be known beside them.
pub(crate) fn commands(
    seen: &Seen<'_>,
    view: Option<&View<'_>>,
    asked: &Asked<'_>,
    printed: &Printed<'_>,
) -> (Vec<String>, Option<String>) {
    if let Some(listed) = &seen.listed {
        return by_rule(listed, seen, view, asked, printed);
    }
    if let (Some(lapse), Some(found)) = (&seen.lapse, &seen.found) {
        let name = &found.generation.name;
        let (file, note) = printed.file_of(name);
        let file = quoted(&format!("{}/{file}", printed.estate));
        return match lapse {
            Lapse::Withdrawn { .. } => (
                Vec::new(),
                Some(format!(
                    "{} {} was withdrawn: upgrade the machine. Nothing allows it while a [[withdrawn]] of the estate names it",
                    found.artefact.name, found.artefact.version
                )),
            ),
            Lapse::Over(_) => {
                let until = asked.now.as_millis().saturating_add(GRACE_MS);
                let until = moment::text(Timestamp::from_millis(until));
                let command =
                    format!("trilith refs change {file} --generation {name} --valid-until {until}");
                (vec![command, printed.apply()], note)
            }
            Lapse::NotYet(_) => {
                let from = moment::text(asked.now);
                let command =
                    format!("trilith refs change {file} --generation {name} --valid-from {from}");
                (vec![command, printed.apply()], note)
            }
            Lapse::OtherRing(_) => {
                let ring = quoted(ring(asked));
                let command =
                    format!("trilith refs change {file} --generation {name} --add-ring {ring}");
                (vec![command, printed.apply()], note)
            }
        };
    }
    match &seen.subject {
        Some(Subject::File { path, digest, .. }) => {
            file(path, digest.as_deref(), seen, asked, printed)
        }
        None => (Vec::new(), None),
        Some(Subject::Pcr { index, .. }) => match view {
            Some(view) => boot(*index, view, asked, printed),
            None => (Vec::new(), None),
        },
    }
}

impl Printed<'_> {
    fn apply(&self) -> String {
        format!("trilith estate apply {}", quoted(self.estate))
    }

    /// The references file that an import writes.
    fn output(&self, name: &str) -> String {
        quoted(&format!("{}/references/{name}.json", self.estate))
    }

    /// The same of a rule of `[[boot]]`.
    fn rule_file(&self, rule: &str) -> (String, Option<String>) {
        let json = |text: &str| {
            let file = ReferenceFile::parse(text).unwrap_or_default();
            file.boots.iter().any(|one| one.name == rule)
        };
        let by_hand =
            |text: &str| text.contains("[[boot]]") && text.contains(&format!("name = \"{rule}\""));
        let mut files = self.files.iter();
        let found = files.find(|(path, text)| {
            path.starts_with("references/")
                && if text.trim_start().starts_with('{') {
                    json(text)
                } else {
                    by_hand(text)
                }
        });
        match found {
            Some((path, _)) if path.ends_with(".json") => (path.clone(), None),
            Some((path, _)) => (
                path.clone(),
                Some(format!(
                    "{path} is TOML: add to the [[boot]] rule {rule} by hand what the command says"
                )),
            ),
            None => (
                format!("references/{rule}.json"),
                Some("the file that holds this rule is not known here".to_owned()),
            ),
        }
    }

    /// The file that holds a generation; what to say if it is not known or cannot be changed by a command.
    fn file_of(&self, generation: &str) -> (String, Option<String>) {
        let found = self.files.iter().find(|(path, text)| {
            path.starts_with("references/")
                && [
                    format!("\"name\": \"{generation}\""),
                    format!("\"name\":\"{generation}\""),
                    format!("name = \"{generation}\""),
                ]
                .iter()
                .any(|wanted| text.contains(wanted.as_str()))
        });
        match found {
            Some((path, _)) if path.ends_with(".json") => (path.clone(), None),
            Some((path, _)) => (
                path.clone(),
                Some(format!(
                    "{path} is TOML: change the generation's window or rings by hand"
                )),
            ),
            None => (
                format!("references/{generation}.json"),
                Some("the file that holds this generation is not known here".to_owned()),
            ),
        }
    }
}

/// The rule gets what was seen; what it does not judge by lists is allowed by nothing but another machine.
fn by_rule(
    listed: &Listed,
    seen: &Seen<'_>,
    view: Option<&View<'_>>,
    asked: &Asked<'_>,
    printed: &Printed<'_>,
) -> (Vec<String>, Option<String>) {
    if let (true, Some(view)) = (listed.by_import, view) {
        let (commands, _) = boot(11, view, asked, printed);
        let note = format!(
            "the name of the image goes into `from` of the [[boot]] rule {}: look at what differs first",
            listed.rule
        );
        return (commands, Some(note));
    }
    let Some(option) = &listed.option else {
        return (Vec::new(), seen.finding.next.clone());
    };
    let (file, note) = printed.rule_file(&listed.rule);
    let file = quoted(&format!("{}/{file}", printed.estate));
    let rule = quoted(&listed.rule);
    let command = format!("trilith refs boot {file} --rule {rule}");
    let command = format!("{command} {option}");
    let note = note
        .or_else(|| Some("look at what it is first: whatever the rule lists may boot".to_owned()));
    (vec![command, printed.apply()], note)
}

/// What is imported holds for the machine's ring; for every one if it is in none.
fn for_ring(asked: &Asked<'_>) -> String {
    match asked.ring {
        "" => String::new(),
        ring => format!(" --ring {}", quoted(ring)),
    }
}

/// A ring of no name is every ring's machines that stand in no pool; only `*` holds for them.
fn ring<'a>(asked: &Asked<'a>) -> &'a str {
    if asked.ring.is_empty() {
        "*"
    } else {
        asked.ring
    }
}

fn file(
    path: &str,
    digest: Option<&str>,
    seen: &Seen<'_>,
    asked: &Asked<'_>,
    printed: &Printed<'_>,
) -> (Vec<String>, Option<String>) {
    if seen.is_violation() || digest.is_none() {
        return (Vec::new(), Some("nothing allows a file that changed while it was measured, or whose digest is of another function than SHA-256".to_owned()));
    }
    let short = digest.and_then(|digest| digest.get(..8)).unwrap_or("file");
    let known = seen.found.map(|found| found.artefact);
    let (download, name, note) = match known {
        Some(deb) if deb.kind == ArtefactKind::Deb => (
            format!("apt-get download {}", quoted(&deb.name)),
            deb.name.clone(),
            Some(format!(
                "if the machine's file is not of the version that the archive has now, download that one: apt-get download {}=VERSION",
                deb.name
            )),
        ),
        Some(other) => {
            return (
                Vec::new(),
                Some(format!(
                    "{} {} would have matched: import the image or provenance that this file is of, as that one was",
                    other.name, other.version
                )),
            );
        }
        None => (
            format!("apt-get download \"$(dpkg-query --search -- {} | cut --delimiter=: --fields=1)\"", quoted(path)),
            "package".to_owned(),
            Some("run the first command on the machine; a file of no package is allowed by the image or the provenance that it came with (trilith refs import oci, slsa)".to_owned()),
        ),
    };
    let output = printed.output(&format!("{name}-{short}"));
    let folder = format!("debs-{short}");
    let import = format!("trilith refs import debian --debs {folder} --output {output}");
    (
        vec![
            format!("mkdir --parents {folder} && cd {folder} && {download} && cd .."),
            import + &for_ring(asked),
            printed.apply(),
        ],
        note,
    )
}

fn boot(
    pcr: u32,
    view: &View<'_>,
    asked: &Asked<'_>,
    printed: &Printed<'_>,
) -> (Vec<String>, Option<String>) {
    let short = view.value(pcr).map_or_else(String::new, |value| {
        crypto::hex::encode(&value).chars().take(8).collect()
    });
    let mut more = for_ring(asked);
    if asked.demands.pcrs.contains(&7) {
        more.push_str(" --uefi /sys/firmware/efi/efivars");
    }
    let note = "run it on a machine that boots what is to be good, after looking at what differs";
    let output = printed.output(&format!("boot-{short}"));
    let first = match view.outline().loader {
        Loader::Grub => {
            let kernel = crate::account::kernel_version_of(view);
            let kernel = kernel.unwrap_or_else(|| "$(uname --kernel-release)".to_owned());
            let folder = format!("debs-{short}");
            let download = format!(
                "mkdir --parents {folder} && cd {folder} && apt-get download shim-signed grub-efi-amd64-signed \"linux-image-{kernel}\" && cd .."
            );
            let import = format!("trilith refs import debian --debs {folder} --output {output}");
            let import = import + &more;
            return (
                vec![download, import, printed.apply()],
                Some(note.to_owned()),
            );
        }
        Loader::Uki | Loader::EfiStub | Loader::SystemdBoot | Loader::Unknown => image(view),
    };
    let Some(image) = first else {
        let note = "the log notes no image: import what this machine boots (trilith refs import uki, debian or uefi)";
        return (Vec::new(), Some(note.to_owned()));
    };
    let import = if pcr == 7 && view.outline().loader != Loader::Uki {
        let variables = "/sys/firmware/efi/efivars";
        let import =
            format!("trilith refs import uefi {variables} --image {image} --output {output}");
        import + &for_ring(asked)
    } else {
        if view.phases.is_empty() {
            more.push_str(" --phase stub");
        }
        format!("trilith refs import uki {image} --output {output}") + &more
    };
    (vec![import, printed.apply()], Some(note.to_owned()))
}

/// The last image of PCR 4 that the log notes a path of, where Debian mounts the system partition.
fn image(view: &View<'_>) -> Option<String> {
    let mut images = view.measurements.iter().rev().filter(|one| one.pcr == 4);
    images.find_map(|one| match &one.meaning {
        Meaning::Elsewhere(Note::Text(path)) if path.contains('\\') || path.contains('/') => {
            let path = path.replace('\\', "/");
            let path = path.trim_start_matches('/');
            Some(quoted(&format!("/boot/efi/{path}")))
        }
        _ => None,
    })
}

/// As a shell reads it as one word, whoever wrote it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |one: char| one.is_ascii_alphanumeric() || "/._-+:=@,~".contains(one);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    /// Paths come from machines that are hostile, and commands are pasted into a shell.
    #[test]
    fn a_path_is_one_word_to_a_shell() {
        for (word, written) in [
            ("/usr/bin/true", "/usr/bin/true"),
            ("/tmp/$(reboot)", "'/tmp/$(reboot)'"),
            ("a'b", r"'a'\''b'"),
            ("", "''"),
            ("a b;c", "'a b;c'"),
        ] {
            assert_eq!(quoted(word), written);
        }
    }
}
